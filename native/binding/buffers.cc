// createBuffer, partOfBuffer, bufferFrom, readBuffer, writeBuffer, bufferBytes, disposeBuffer, memoryUsage
#include "binding/arguments.h"

namespace switchyard {
namespace {

constexpr int64_t kMostBytes = int64_t{1} << 46;

// (bytes, device)
Napi::Value create_buffer(State& state, const Napi::CallbackInfo& info) {
  auto buffer = pool_of(state, info[1])->allocate(integer(info[0], "createBuffer", 0, kMostBytes), true);
  state.sync_memory(info.Env());
  return make_handle(info.Env(), std::move(buffer));
}

// (buffer, offset, bytes)
Napi::Value part_of_buffer(State&, const Napi::CallbackInfo& info) {
  const auto whole = handle<Buffer>(info[0]);
  const int64_t offset = integer(info[1], "partOfBuffer", 0), bytes = integer(info[2], "partOfBuffer", 0);
  return make_handle(info.Env(), std::make_shared<Buffer>(whole, offset, bytes));
}

// (view, device)
Napi::Value buffer_from(State& state, const Napi::CallbackInfo& info) {
  const auto from = bytes(info[0], "bufferFrom");
  auto buffer = pool_of(state, info[1])->allocate(static_cast<int64_t>(from.size()), false);
  copy_in(buffer->device(), buffer->data(), from.data(), static_cast<int64_t>(from.size()));
  state.sync_memory(info.Env());
  return make_handle(info.Env(), std::move(buffer));
}

// The part of a buffer that `view` is copied from or to.
std::byte* span_of(const Buffer& buffer, size_t view, const Napi::Value& offset, const char* where) {
  const int64_t at = offset.IsUndefined() ? 0 : integer(offset, where, 0);
  if (at > buffer.bytes() || static_cast<int64_t>(view) > buffer.bytes() - at) {
    fail(ErrorCode::kShape, "[%s] got %zu bytes at %lld, expected them within a buffer of %lld", where, view,
         static_cast<long long>(at), static_cast<long long>(buffer.bytes()));
  }
  return buffer.data() + at;
}

Napi::Value read_buffer(State&, const Napi::CallbackInfo& info) {
  const auto buffer = handle<Buffer>(info[0]);
  const auto to = bytes(info[1], "readBuffer");
  const std::byte* from = span_of(*buffer, to.size(), info[2], "readBuffer");
  copy_out(buffer->device(), to.data(), from, static_cast<int64_t>(to.size()));
  return info.Env().Undefined();
}

Napi::Value write_buffer(State&, const Napi::CallbackInfo& info) {
  const auto buffer = handle<Buffer>(info[0]);
  const auto from = bytes(info[1], "writeBuffer");
  std::byte* to = span_of(*buffer, from.size(), info[2], "writeBuffer");
  copy_in(buffer->device(), to, from.data(), static_cast<int64_t>(from.size()));
  return info.Env().Undefined();
}

Napi::Value buffer_bytes(State&, const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(handle<Buffer>(info[0])->bytes()));
}

// Twice is fine. The memory goes when no run and no program holds it either.
Napi::Value dispose_buffer(State& state, const Napi::CallbackInfo& info) {
  holder_of<Buffer>(info[0]).reset();
  state.sync_memory(info.Env());
  return info.Env().Undefined();
}

Napi::Value memory_usage(State& state, const Napi::CallbackInfo& info) {
  state.sync_memory(info.Env());
  Napi::Object usage = Napi::Object::New(info.Env());
  usage.Set("buffers", static_cast<double>(state.usage->buffers));
  usage.Set("weights", static_cast<double>(state.usage->weights));
  usage.Set("arena", static_cast<double>(state.usage->arena));
  usage.Set("reported", static_cast<double>(state.reported()));
  return usage;
}

}  // namespace

void init_buffers(Napi::Env env, Napi::Object exports) {
  exports.Set("createBuffer", Napi::Function::New<entry<create_buffer>>(env, "createBuffer"));
  exports.Set("partOfBuffer", Napi::Function::New<entry<part_of_buffer>>(env, "partOfBuffer"));
  exports.Set("bufferFrom", Napi::Function::New<entry<buffer_from>>(env, "bufferFrom"));
  exports.Set("readBuffer", Napi::Function::New<entry<read_buffer>>(env, "readBuffer"));
  exports.Set("writeBuffer", Napi::Function::New<entry<write_buffer>>(env, "writeBuffer"));
  exports.Set("bufferBytes", Napi::Function::New<entry<buffer_bytes>>(env, "bufferBytes"));
  exports.Set("disposeBuffer", Napi::Function::New<entry<dispose_buffer>>(env, "disposeBuffer"));
  exports.Set("memoryUsage", Napi::Function::New<entry<memory_usage>>(env, "memoryUsage"));
}

}  // namespace switchyard
