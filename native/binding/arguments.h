// Typed access to what JavaScript passes. Every function throws Error(kOption…) that names the argument.
#pragma once
#include "binding/napi.h"

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "binding/state.h"

namespace switchyard {

// Native objects that JavaScript holds: a tagged object that wraps a shared_ptr, empty once it is disposed.
template <class T>
struct HandleType;  // { static constexpr const char* name; static constexpr napi_type_tag tag; }

template <>
struct HandleType<Buffer> {
  static constexpr const char* name = "buffer";
  static constexpr napi_type_tag tag{0x5c1f3f0e6a4d4b01, 0x9d2b7c3e1f5a6801};
};
template <>
struct HandleType<Program> {
  static constexpr const char* name = "program";
  static constexpr napi_type_tag tag{0x5c1f3f0e6a4d4b02, 0x9d2b7c3e1f5a6802};
};
template <>
struct HandleType<Executor> {
  static constexpr const char* name = "runtime";
  static constexpr napi_type_tag tag{0x5c1f3f0e6a4d4b03, 0x9d2b7c3e1f5a6803};
};
// A device of a backend, as the pool of its memory.
template <>
struct HandleType<BufferPool> {
  static constexpr const char* name = "device";
  static constexpr napi_type_tag tag{0x5c1f3f0e6a4d4b07, 0x9d2b7c3e1f5a6807};
};
template <>
struct HandleType<std::atomic<bool>> {
  static constexpr const char* name = "abort";
  static constexpr napi_type_tag tag{0x5c1f3f0e6a4d4b04, 0x9d2b7c3e1f5a6804};
};

[[noreturn]] void wrong_argument(Napi::Value got, const char* name, const std::string& expected);
void* unwrap(Napi::Value value, const napi_type_tag& tag, const char* name);
Napi::Object wrap(Napi::Env env, void* data, napi_finalize finalize, const napi_type_tag& tag);
[[noreturn]] void fail_disposed(const char* name);

template <class T>
Napi::Value make_handle(Napi::Env env, std::shared_ptr<T> value) {
  auto holder = std::make_unique<std::shared_ptr<T>>(std::move(value));
  const Napi::Object object = wrap(
      env, holder.get(), [](napi_env, void* data, void*) { delete static_cast<std::shared_ptr<T>*>(data); },
      HandleType<T>::tag);
  holder.release();
  return object;
}

// The holder inside a handle; empty when disposed.
template <class T>
std::shared_ptr<T>& holder_of(Napi::Value value) {
  return *static_cast<std::shared_ptr<T>*>(unwrap(value, HandleType<T>::tag, HandleType<T>::name));
}

template <class T>
const std::shared_ptr<T>& handle(Napi::Value value) {
  const std::shared_ptr<T>& holder = holder_of<T>(value);
  if (!holder) fail_disposed(HandleType<T>::name);
  return holder;
}

// `nulls`: null is allowed, and stays so.
template <class T>
std::vector<std::shared_ptr<T>> handles(Napi::Value value, const char* name, bool nulls = false) {
  if (!value.IsArray()) wrong_argument(value, name, std::string("an array of ") + HandleType<T>::name + "s");
  const Napi::Array array = value.As<Napi::Array>();
  std::vector<std::shared_ptr<T>> list(array.Length());
  for (uint32_t i = 0; i < list.size(); i++) {
    const Napi::Value item = array.Get(i);
    if (!nulls || !item.IsNull()) list[i] = handle<T>(item);
  }
  return list;
}

// The pool of a device; that of the host where the argument is undefined.
inline std::shared_ptr<BufferPool> pool_of(const State& state, Napi::Value device) {
  return device.IsUndefined() ? state.buffers : handle<BufferPool>(device);
}

constexpr int64_t kMaxSafe = (int64_t{1} << 53) - 1;

int64_t integer(Napi::Value value, const char* name, int64_t min = -kMaxSafe, int64_t max = kMaxSafe);
std::vector<int64_t> integers(Napi::Value value, const char* name);
std::string text(Napi::Value value, const char* name);
bool boolean(Napi::Value value, const char* name);
Napi::Object object(Napi::Value value, const char* name);
// A tier of this machine by name; the best one where undefined.
Tier tier_option(Napi::Value value, const char* name);
// The bytes of a typed array, Buffer or DataView; valid until control goes back to JavaScript.
std::span<std::byte> bytes(Napi::Value value, const char* name);

}  // namespace switchyard
