// deviceInfo, kernels, elementwiseOpcodes
#include <thread>

#include "binding/arguments.h"
#include "cpu/elementwise.h"
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
  exports.Set("kernels", Napi::Function::New<entry<kernels>>(env, "kernels"));
  exports.Set("elementwiseOpcodes", Napi::Function::New<entry<opcodes>>(env, "elementwiseOpcodes"));
}

}  // namespace switchyard
