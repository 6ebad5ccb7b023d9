// Runs one registered kernel on vectors: operands and scratch are allocations of their own, so that a sanitizer sees
// every access past an end.
#pragma once
#include <cstring>
#include <memory>
#include <new>
#include <type_traits>
#include <vector>

#include "runtime/kernel.h"
#include "test/values.h"

namespace switchyard::test {

struct BF16 {
  uint16_t bits;
};
struct Bool {
  uint8_t value;
};

template <class T>
constexpr DType dtype_of() {
  if constexpr (std::is_same_v<T, float>) return DType::kF32;
  if constexpr (std::is_same_v<T, int32_t>) return DType::kI32;
  if constexpr (std::is_same_v<T, uint32_t>) return DType::kU32;
  if constexpr (std::is_same_v<T, BF16>) return DType::kBF16;
  if constexpr (std::is_same_v<T, uint8_t>) return DType::kU8;
  if constexpr (std::is_same_v<T, Bool>) return DType::kBool;
  return DType::kF16;  // uint16_t: bits of a half
}

inline Shape shape_of(const std::vector<int64_t>& dims) {
  Shape s;
  s.rank = static_cast<int>(dims.size());
  for (size_t i = 0; i < dims.size(); i++) s.dims[i] = dims[i];
  return s;
}

struct AlignedBytes {
  explicit AlignedBytes(int64_t n)
      : data(static_cast<std::byte*>(::operator new(static_cast<size_t>(n > 0 ? n : 1), std::align_val_t(64)))) {}
  ~AlignedBytes() { ::operator delete(data, std::align_val_t(64)); }
  AlignedBytes(const AlignedBytes&) = delete;
  AlignedBytes& operator=(const AlignedBytes&) = delete;
  std::byte* data;
};

class KernelCall {
 public:
  explicit KernelCall(const char* name) : name_(name) {}

  template <class T>
  KernelCall& in(std::vector<int64_t> dims, const std::vector<T>& values) {
    auto own = std::make_shared<std::vector<T>>(values);
    kept_.push_back(own);
    return bind(instruction_.in, dims, dtype_of<T>(), own->data());
  }
  KernelCall& in(const Weight& weight, std::vector<int64_t> dims) {
    auto operand = std::make_unique<Operand>();
    operand->shape = shape_of(dims);
    operand->weight = &weight;
    instruction_.in.push_back(operand.get());
    operands_.push_back(std::move(operand));
    return *this;
  }
  KernelCall& absent() {
    instruction_.in.push_back(nullptr);
    return *this;
  }
  // The vector gets the size of the shape, filled with a pattern that no kernel leaves.
  template <class T>
  KernelCall& out(std::vector<int64_t> dims, std::vector<T>& values) {
    const Shape shape = shape_of(dims);
    values.resize(static_cast<size_t>(shape.size()));
    if (!values.empty()) std::memset(values.data(), 0xAB, values.size() * sizeof(T));
    return bind(instruction_.out, dims, dtype_of<T>(), values.data());
  }
  KernelCall& attr(int64_t i) {
    Attribute a;
    a.i = i;
    instruction_.attrs.push_back(a);
    return *this;
  }
  KernelCall& attr(const std::vector<int64_t>& ints) {
    Attribute a;
    a.ints = ints;
    instruction_.attrs.push_back(a);
    return *this;
  }
  KernelCall& attr(double f) {
    Attribute a;
    a.f = f;
    instruction_.attrs.push_back(a);
    return *this;
  }

  void prepare() {
    instruction_.kernel = cpu_kernels().find(name_);
    if (instruction_.kernel == nullptr) fail(ErrorCode::kNative, "[test] got no kernel '%s'", name_);
    instruction_.kernel->prepare(instruction_);
  }
  void run(ThreadPool& pool, Tier tier) {
    prepare();
    Context context = memory(pool, tier);
    instruction_.kernel->run(instruction_, context);
  }
  // For benches: what a second run costs.
  template <class F>
  void run_under(ThreadPool& pool, Tier tier, const F& around) {
    prepare();
    Context context = memory(pool, tier);
    around([&] { instruction_.kernel->run(instruction_, context); });
  }

 private:
  KernelCall& bind(std::vector<const Operand*>& list, const std::vector<int64_t>& dims, DType dtype, void* data) {
    auto operand = std::make_unique<Operand>();
    operand->dtype = dtype;
    operand->shape = shape_of(dims);
    operand->data = static_cast<std::byte*>(data);
    list.push_back(operand.get());
    operands_.push_back(std::move(operand));
    return *this;
  }
  Context memory(ThreadPool& pool, Tier tier) {
    Context context;
    context.pool = &pool;
    context.threads = pool.threads();
    context.tier = tier;
    context.worker_stride = (instruction_.worker_scratch + 63) / 64 * 64;
    shared_ = std::make_unique<AlignedBytes>(instruction_.shared_scratch);
    workers_ = std::make_unique<AlignedBytes>(context.worker_stride * context.threads);
    context.shared_scratch = shared_->data;
    context.worker_scratch = workers_->data;
    return context;
  }

  const char* name_;
  Instruction instruction_;
  std::vector<std::unique_ptr<Operand>> operands_;
  std::vector<std::shared_ptr<void>> kept_;  // copies of the inputs
  std::unique_ptr<AlignedBytes> shared_, workers_;
};

}  // namespace switchyard::test
