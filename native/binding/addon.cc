// Entry of the addon: what JavaScript sees of the native side. src/core/addon.ts holds the types of all of it.
#include "binding/napi.h"

#include "binding/arguments.h"
#include "binding/state.h"

namespace switchyard {
namespace {

// setErrorFactory((code, message, hint) => Error): from now on errors are what the function returns.
Napi::Value set_error_factory(State& state, const Napi::CallbackInfo& info) {
  if (!info[0].IsFunction()) wrong_argument(info[0], "setErrorFactory", "a function");
  state.error_factory = Napi::Persistent(info[0].As<Napi::Function>());
  return info.Env().Undefined();
}

Napi::Object init(Napi::Env env, Napi::Object exports) {
  env.SetInstanceData(new State(env));
  exports.Set("version", SWITCHYARD_VERSION);
  exports.Set("setErrorFactory", Napi::Function::New<entry<set_error_factory>>(env, "setErrorFactory"));
  init_buffers(env, exports);
  init_programs(env, exports);
  init_weights(env, exports);
  init_device(env, exports);
  init_limits(env, exports);
  return exports;
}

}  // namespace

NODE_API_MODULE(switchyard, init)

}  // namespace switchyard
