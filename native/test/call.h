// A kernel call as one expression, for tests of many small cases: operands by value, results read back.
#pragma once
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#include "runtime/kernel.h"
#include "test/values.h"

namespace switchyard::test {

inline std::vector<Tier> math_tiers() {  // one tier for each build of the vector code
  std::vector<Tier> tiers;
  for (Tier t : present_tiers()) {
    if (t <= Tier::kAvx512 || t == Tier::kNeon) tiers.push_back(t);
  }
  return tiers;
}

// One kernel with operands of its own, each allocated exactly, so that a sanitizer sees every access past an
// end.
class Call {
 public:
  explicit Call(const char* name) : name_(name) {}
  template <class T>
  Call& in(DType t, std::vector<int64_t> dims, std::vector<T> values) {
    return add(instruction_.in, t, dims, values.data(), values.size() * sizeof(T));
  }
  Call& f32(std::vector<int64_t> dims, std::vector<float> values) {
    return in(DType::kF32, dims, std::move(values));
  }
  Call& i32(std::vector<int64_t> dims, std::vector<int32_t> values) {
    return in(DType::kI32, dims, std::move(values));
  }
  Call& none() { return instruction_.in.push_back(nullptr), *this; }
  Call& out(DType t, std::vector<int64_t> dims) { return add(instruction_.out, t, dims, nullptr, 0); }
  Call& attr(double f) { return attribute({int64_t(f), f, {}}); }
  Call& ints(std::vector<int64_t> v) { return attribute({0, 0, std::move(v)}); }

  Call& run(Tier tier, ThreadPool& pool) {
    instruction_.kernel = cpu_kernels().find(name_);
    if (!instruction_.kernel) fail(ErrorCode::kNative, "[test] got no kernel '%s'", name_);
    instruction_.kernel->prepare(instruction_);
    Context context;
    context.pool = &pool;
    context.threads = pool.threads();
    context.tier = tier;
    context.worker_stride = (instruction_.worker_scratch + 63) / 64 * 64;
    const auto shared = bytes(instruction_.shared_scratch),
               own = bytes(context.worker_stride * context.threads);
    context.shared_scratch = shared.get();
    context.worker_scratch = own.get();
    instruction_.kernel->run(instruction_, context);
    return *this;
  }
  template <class T = float>
  std::vector<T> result(int i = 0) const {
    const Operand* y = instruction_.out[i];
    return {y->as<T>(), y->as<T>() + y->shape.size()};
  }

 private:
  using Bytes = std::unique_ptr<std::byte, void (*)(void*)>;
  static Bytes bytes(int64_t n) {
    const size_t size = size_t(n + 63) / 64 * 64 + 64;
    void* p = nullptr;
#if defined(_WIN32)
    p = _aligned_malloc(size, 64);
    return {static_cast<std::byte*>(p), _aligned_free};
#else
    if (posix_memalign(&p, 64, size) != 0) std::abort();
    return {static_cast<std::byte*>(p), std::free};
#endif
  }
  Call& attribute(Attribute a) { return instruction_.attrs.push_back(std::move(a)), *this; }
  Call& add(std::vector<const Operand*>& list, DType t, const std::vector<int64_t>& dims, const void* from,
            size_t size) {
    auto operand = std::make_unique<Operand>();
    operand->dtype = t;
    operand->shape.rank = int(dims.size());
    for (size_t i = 0; i < dims.size(); i++) operand->shape.dims[i] = dims[i];
    const size_t n = size_t(operand->shape.size() * dtype_size(t));
    operand->data = static_cast<std::byte*>(std::malloc(n ? n : 1));
    memory_.emplace_back(operand->data, std::free);
    if (from) {
      if (size != n) fail(ErrorCode::kNative, "[test] got %zu bytes, expected %zu", size, n);
      std::memcpy(operand->data, from, n);
    } else {
      std::memset(operand->data, 0xA5, n);
    }
    list.push_back(operand.get());
    operands_.push_back(std::move(operand));
    return *this;
  }

  const char* name_;
  Instruction instruction_;
  std::vector<std::unique_ptr<Operand>> operands_;
  std::vector<Bytes> memory_;
};

}  // namespace switchyard::test
