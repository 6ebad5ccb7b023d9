// deviceInfo, openDevice, openedDevice, kernels, elementwiseOpcodes
#include <thread>

#include "binding/arguments.h"
#include "cpu/elementwise.h"
#include "runtime/device.h"
#include "runtime/memory.h"

namespace switchyard {
namespace {

Napi::Value device_info(State&, const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const auto& tiers = present_tiers();
  Napi::Array names = Napi::Array::New(env, tiers.size());
  for (uint32_t i = 0; i < tiers.size(); i++) names.Set(i, tier_name(tiers[i]));
  Napi::Object device = Napi::Object::New(env);
  device.Set("cpu", cpu_name());
  device.Set("cores", static_cast<double>(std::thread::hardware_concurrency()));
  device.Set("tiers", names);
  device.Set("bestTier", tier_name(best_tier()));
  device.Set("amx", best_tier() == Tier::kAmx);
  device.Set("pageSize", static_cast<double>(page_size()));
  return device;
}

// (library, ordinal)
Napi::Value open_device(State& state, const Napi::CallbackInfo& info) {
  const auto library = BackendLibrary::load(text(info[0], "openDevice library"));
  const auto ordinal = static_cast<int>(integer(info[1], "openDevice ordinal", 0, 1024));
  auto device = std::make_shared<const Device>(library, ordinal);
  return make_handle(info.Env(), std::make_shared<BufferPool>(state.usage, std::move(device)));
}

Napi::Value opened_device(State&, const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const Device& device = *handle<BufferPool>(info[0])->device();
  const SyDeviceInfo about = device.info();
  Napi::Array left_to_host = Napi::Array::New(env);
  for (const Kernel& kernel : cpu_kernels().all()) {
    if (device.backend().has_kernel(kernel.name)) continue;
    left_to_host.Set(left_to_host.Length(), Napi::String::New(env, kernel.name.data(), kernel.name.size()));
  }
  Napi::Object result = Napi::Object::New(env);
  result.Set("backend", device.backend()->name);
  result.Set("name", about.name);
  result.Set("memory", static_cast<double>(about.memory));
  result.Set("free", static_cast<double>(about.free));
  result.Set("multiprocessors", about.multiprocessors);
  result.Set("capability", about.capability);
  result.Set("onHost", left_to_host);
  return result;
}

Napi::Value kernels(State&, const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const auto all = cpu_kernels().all();
  const auto string = [env](std::string_view s) { return Napi::String::New(env, s.data(), s.size()); };
  Napi::Array list = Napi::Array::New(env, all.size());
  for (uint32_t i = 0; i < all.size(); i++) {
    Napi::Object kernel = Napi::Object::New(env);
    kernel.Set("name", string(all[i].name));
    kernel.Set("signature", string(all[i].signature));
    list.Set(i, kernel);
  }
  return list;
}

Napi::Value opcodes(State&, const Napi::CallbackInfo& info) {
  const auto names = elementwise_opcodes();
  Napi::Array list = Napi::Array::New(info.Env(), names.size());
  for (uint32_t i = 0; i < names.size(); i++) {
    list.Set(i, Napi::String::New(info.Env(), names[i].data(), names[i].size()));
  }
  return list;
}

}  // namespace

void init_device(Napi::Env env, Napi::Object exports) {
  exports.Set("deviceInfo", Napi::Function::New<entry<device_info>>(env, "deviceInfo"));
  exports.Set("openDevice", Napi::Function::New<entry<open_device>>(env, "openDevice"));
  exports.Set("openedDevice", Napi::Function::New<entry<opened_device>>(env, "openedDevice"));
  exports.Set("kernels", Napi::Function::New<entry<kernels>>(env, "kernels"));
  exports.Set("elementwiseOpcodes", Napi::Function::New<entry<opcodes>>(env, "elementwiseOpcodes"));
}

}  // namespace switchyard
