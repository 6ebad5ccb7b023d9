// Entry of the addon: what JavaScript sees of the native side.
#include <napi.h>

namespace {

Napi::Object init(Napi::Env env, Napi::Object exports) {
  exports.Set("version", Napi::String::New(env, SWITCHYARD_VERSION));
  return exports;
}

}  // namespace

NODE_API_MODULE(switchyard, init)
