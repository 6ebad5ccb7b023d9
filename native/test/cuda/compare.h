// Runs a kernel of the CUDA backend beside the CPU kernel of the same name, on the same operands. The device's operands are
// allocations of their own; what the CPU writes starts from a pattern, what the device writes from another.
#pragma once
#include <cmath>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "cuda/backend/device_state.h"
#include "cuda/device/check.h"
#include "cuda/kernel.h"
#include "runtime/weight.h"
#include "test/check.h"
#include "test/run_kernel.h"

namespace switchyard::test {

namespace gpu = switchyard::cuda;

class DeviceBytes {
 public:
  DeviceBytes(const void* from, int64_t bytes) : bytes_(bytes) {
    gpu::check(cudaMalloc(&data_, static_cast<size_t>(bytes > 0 ? bytes : 1)));
    if (from != nullptr && bytes > 0) gpu::check(cudaMemcpy(data_, from, static_cast<size_t>(bytes), cudaMemcpyHostToDevice));
  }
  ~DeviceBytes() { cudaFree(data_); }
  DeviceBytes(const DeviceBytes&) = delete;
  DeviceBytes& operator=(const DeviceBytes&) = delete;
  std::byte* data() const { return static_cast<std::byte*>(data_); }
  void read(void* to) const {
    if (bytes_ > 0) gpu::check(cudaMemcpy(to, data_, static_cast<size_t>(bytes_), cudaMemcpyDeviceToHost));
  }

 private:
  void* data_ = nullptr;
  int64_t bytes_;
};

inline gpu::DeviceLimits device_limits() { return gpu::limits_of(0); }

class Compare {
 public:
  explicit Compare(const char* name) : name_(name) {}

  template <class T>
  Compare& in(std::vector<int64_t> dims, const std::vector<T>& values) {
    return add(cpu_.in, device_.in, dims, dtype_of<T>(), values.data(), static_cast<int64_t>(values.size() * sizeof(T)));
  }
  Compare& in(const Weight& weight, std::vector<int64_t> dims) {
    auto operand = std::make_unique<Operand>();
    operand->shape = shape_of(dims);
    operand->weight = &weight;
    cpu_.in.push_back(operand.get());
    operands_.push_back(std::move(operand));
    auto copy = std::make_unique<gpu::DeviceWeight>();
    copy->format = weight.format(), copy->experts = weight.experts(), copy->rows = weight.rows();
    copy->columns = weight.columns(), copy->layout = weight.layout();
    copy->expert_stride = weight.repeats() ? 0 : weight.panels() * weight.layout().bytes;
    memory_.push_back(std::make_unique<DeviceBytes>(weight.data(), weight.bytes()));
    copy->data = memory_.back()->data();
    auto on_device = std::make_unique<gpu::Operand>();
    on_device->shape = shape_of(dims);
    on_device->weight = copy.get();
    device_.in.push_back(on_device.get());
    device_operands_.push_back(std::move(on_device));
    weights_.push_back(std::move(copy));
    return *this;
  }
  // The device's operands that are added from here on lie `elements` elements past an aligned address.
  Compare& shifted(int64_t elements) {
    shift_ = elements;
    return *this;
  }
  Compare& absent() {
    cpu_.in.push_back(nullptr), device_.in.push_back(nullptr);
    return *this;
  }
  template <class T>
  Compare& out(std::vector<int64_t> dims) {
    return add(cpu_.out, device_.out, dims, dtype_of<T>(), nullptr, -1);
  }
  // An output in the place of input `i`.
  Compare& out_in_place(size_t i) {
    cpu_.out.push_back(cpu_.in[i]), device_.out.push_back(device_.in[i]);
    return *this;
  }
  Compare& attr(int64_t i) { return attribute({i, static_cast<double>(i), {}}); }
  Compare& attr(int i) { return attr(int64_t{i}); }
  Compare& attr(double f) { return attribute({0, f, {}}); }
  Compare& attr(std::vector<int64_t> ints) { return attribute({0, 0, std::move(ints)}); }

  // On the CPU; throws what the kernel throws.
  Compare& run_cpu(ThreadPool& pool, Tier tier = Tier::kScalar) {
    cpu_.kernel = cpu_kernels().find(name_);
    if (cpu_.kernel == nullptr) fail(ErrorCode::kNative, "[test] got no CPU kernel '%s'", name_);
    cpu_.kernel->prepare(cpu_);
    Context context;
    context.pool = &pool, context.threads = pool.threads(), context.tier = tier;
    context.worker_stride = (cpu_.worker_scratch + 63) / 64 * 64;
    const AlignedBytes shared(cpu_.shared_scratch), workers(context.worker_stride * context.threads);
    context.shared_scratch = shared.data, context.worker_scratch = workers.data;
    cpu_.kernel->run(cpu_, context);
    return *this;
  }
  // On the device; the error that kernels report is kept.
  Compare& run_device() {
    const gpu::Kernel* kernel = gpu::kernels().find(name_);
    if (kernel == nullptr) fail(ErrorCode::kNative, "[test] got no CUDA kernel '%s'", name_);
    return run_device(*kernel);
  }
  // By a kernel that need not be registered.
  Compare& run_device(const gpu::Kernel& k) {
    const gpu::Kernel* kernel = &k;
    const gpu::DeviceLimits limits = device_limits();
    const DeviceBytes scratch(nullptr, kernel->scratch != nullptr ? kernel->scratch(device_, limits) : 0);
    const auto words = kernel->constant != nullptr ? kernel->constant(device_) : std::vector<std::byte>();
    const DeviceBytes constant(words.data(), static_cast<int64_t>(words.size()));
    error_ = {};
    const DeviceBytes error(&error_, sizeof error_);
    gpu::Launch on;
    gpu::check(cudaStreamCreateWithFlags(&on.stream, cudaStreamNonBlocking));
    on.device = &limits, on.scratch = scratch.data(), on.constant = constant.data();
    on.error = reinterpret_cast<gpu::ErrorWord*>(error.data());
    gpu::check(cudaDeviceSynchronize());
    kernel->launch(device_, on);
    gpu::check(cudaStreamSynchronize(on.stream));
    gpu::check(cudaStreamDestroy(on.stream));
    error.read(&error_);
    return *this;
  }
  Compare& run(ThreadPool& pool) { return run_cpu(pool).run_device(); }

  const gpu::ErrorWord& error() const { return error_; }
  template <class T>
  std::vector<T> cpu(size_t i = 0) const {
    const Operand& o = *cpu_.out[i];
    return {o.as<T>(), o.as<T>() + o.shape.size()};
  }
  template <class T>
  std::vector<T> device(size_t i = 0) const {
    std::vector<T> values(static_cast<size_t>(device_.out[i]->shape.size()));
    if (!values.empty()) {
      gpu::check(cudaMemcpy(values.data(), device_.out[i]->data, values.size() * sizeof(T), cudaMemcpyDeviceToHost));
    }
    return values;
  }
  template <class T>
  bool same(size_t i = 0) const {
    const std::vector<T> values = device<T>(i);
    return values.empty() || std::memcmp(values.data(), cpu_.out[i]->data, values.size() * sizeof(T)) == 0;
  }
  // Whether |device - cpu| <= absolute + relative·|cpu| everywhere; NaN and infinities must be the same.
  bool close(double relative, double absolute, size_t i = 0) const {
    const auto a = cpu<float>(i), b = device<float>(i);
    for (size_t j = 0; j < a.size(); j++) {
      const bool ok = std::isfinite(a[j]) ? std::fabs(double{b[j]} - a[j]) <= absolute + relative * std::fabs(a[j])
                                          : (std::isnan(a[j]) ? std::isnan(b[j]) : a[j] == b[j]);
      if (ok) continue;
      std::fprintf(stderr, "%s: output %zu, element %zu: device %.9g, cpu %.9g\n", name_, i, j, b[j], a[j]);
      return false;
    }
    return true;
  }
  // ‖device - cpu‖ / ‖cpu‖ of an output of f32.
  double distance(size_t i = 0) const {
    const auto a = cpu<float>(i), b = device<float>(i);
    double difference = 0, norm = 0;
    for (size_t j = 0; j < a.size(); j++) {
      difference += (double{b[j]} - a[j]) * (double{b[j]} - a[j]);
      norm += double{a[j]} * a[j];
    }
    return std::sqrt(difference / (norm > 0 ? norm : 1));  // NaN stays NaN and compares as false
  }

 private:
  Compare& attribute(Attribute a) {
    device_.attrs.push_back({a.i, a.f, a.ints});
    cpu_.attrs.push_back(std::move(a));
    return *this;
  }
  Compare& add(std::vector<const Operand*>& cpu_list, std::vector<const gpu::Operand*>& device_list,
               const std::vector<int64_t>& dims, DType dtype, const void* from, int64_t size) {
    auto operand = std::make_unique<Operand>();
    operand->dtype = dtype;
    operand->shape = shape_of(dims);
    const int64_t bytes = operand->shape.size() * dtype_size(dtype);
    if (from != nullptr && size != bytes) fail(ErrorCode::kNative, "[test] got %lld bytes, expected %lld", (long long)size, (long long)bytes);
    host_.push_back(std::make_unique<AlignedBytes>(bytes));
    operand->data = host_.back()->data;
    const int64_t before = shift_ * dtype_size(dtype);
    std::vector<std::byte> values(static_cast<size_t>(before + bytes), std::byte{0xA7});
    if (bytes > 0 && size >= 0) std::memcpy(operand->data, from, static_cast<size_t>(bytes));
    if (bytes > 0 && size >= 0) std::memcpy(values.data() + before, from, static_cast<size_t>(bytes));
    if (bytes > 0 && size < 0) std::memset(operand->data, 0xAB, static_cast<size_t>(bytes));
    memory_.push_back(std::make_unique<DeviceBytes>(values.data(), before + bytes));
    auto on_device = std::make_unique<gpu::Operand>();
    on_device->dtype = dtype, on_device->shape = operand->shape, on_device->data = memory_.back()->data() + before;
    cpu_list.push_back(operand.get());
    device_list.push_back(on_device.get());
    operands_.push_back(std::move(operand));
    device_operands_.push_back(std::move(on_device));
    return *this;
  }

  const char* name_;
  int64_t shift_ = 0;
  Instruction cpu_;
  gpu::Instruction device_;
  gpu::ErrorWord error_{};
  std::vector<std::unique_ptr<Operand>> operands_;
  std::vector<std::unique_ptr<gpu::Operand>> device_operands_;
  std::vector<std::unique_ptr<gpu::DeviceWeight>> weights_;
  std::vector<std::unique_ptr<AlignedBytes>> host_;
  std::vector<std::unique_ptr<DeviceBytes>> memory_;
};

}  // namespace switchyard::test
