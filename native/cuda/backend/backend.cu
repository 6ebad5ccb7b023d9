// The backend's C interface (runtime/backend.h): every function catches what is thrown and tells it as a status.
#include "runtime/backend.h"

#include <cstdio>
#include <cstring>
#include <new>

#include "cuda/backend/device_state.h"
#include "cuda/backend/program.h"
#include "runtime/error.h"

struct SyDevice {
  std::shared_ptr<switchyard::cuda::DeviceState> state;
};
struct SyProgram {
  switchyard::cuda::Program program;
};

namespace switchyard::cuda {
namespace {

void tell(SyStatus* status, ErrorCode code, const char* message) {
  status->code = 1 + static_cast<int32_t>(code);
  std::snprintf(status->message, sizeof status->message, "%s", message);
}

// fn() with what it throws told in the status.
template <class F>
auto guarded(SyStatus* status, const F& fn) -> decltype(fn()) {
  try {
    return fn();
  } catch (const HostError& e) {
    *status = e.status;
  } catch (const ValueError& e) {
    tell(status, ErrorCode::kOption, e.what());
  } catch (const CudaError& e) {
    const bool memory = e.code == cudaErrorMemoryAllocation;
    if (memory) cudaGetLastError();  // not fatal: the next call would meet it again
    tell(status, memory ? ErrorCode::kOutOfMemory : ErrorCode::kNative,
         (std::string("[cuda] got a failure of the device (") + e.what() + "), expected it to work").c_str());
  } catch (const std::bad_alloc&) {
    tell(status, ErrorCode::kOutOfMemory, "[cuda] got no memory from the system");
  } catch (const std::exception& e) {
    tell(status, ErrorCode::kUnsupported, e.what());
  } catch (...) {
    tell(status, ErrorCode::kNative, "[cuda] got an unexpected failure");
  }
  return decltype(fn())();
}

SyDevice* open_device(int32_t ordinal, SyStatus* status) {
  return guarded(status, [&] { return new SyDevice{std::make_shared<DeviceState>(ordinal)}; });
}

void close_device(SyDevice* device) { delete device; }

void device_info(SyDevice* device, SyDeviceInfo* info, SyStatus* status) {
  guarded(status, [&] {
    const DeviceState& state = *device->state;
    state.enter();
    cudaDeviceProp properties;
    check(cudaGetDeviceProperties(&properties, state.ordinal()));
    std::snprintf(info->name, sizeof info->name, "%s", properties.name);
    size_t free = 0, total = 0;
    check(cudaMemGetInfo(&free, &total));
    info->memory = static_cast<int64_t>(total), info->free = static_cast<int64_t>(free);
    info->multiprocessors = state.limits().multiprocessors;
    info->capability = state.limits().capability;
  });
}

const char* const* kernel_names(int64_t* count) {
  static const std::vector<const char*> names = [] {
    std::vector<const char*> list;
    for (const Kernel& k : kernels().all()) list.push_back(k.name.data());
    return list;
  }();
  *count = static_cast<int64_t>(names.size());
  return names.data();
}

void* allocate(SyDevice* device, int64_t bytes, SyStatus* status) {
  return guarded(status, [&] {
    device->state->enter();
    void* memory = nullptr;
    check(cudaMalloc(&memory, static_cast<size_t>(bytes)));
    return memory;
  });
}

void release(SyDevice* device, void* memory) {
  if (cudaSetDevice(device->state->ordinal()) == cudaSuccess) cudaFree(memory);
}

void upload(SyDevice* device, void* to, const void* from, int64_t bytes, SyStatus* status) {
  guarded(status, [&] {
    device->state->enter();
    device->state->upload(static_cast<std::byte*>(to), from, bytes);
  });
}

void download(SyDevice* device, void* to, const void* from, int64_t bytes, SyStatus* status) {
  guarded(status, [&] {
    device->state->enter();
    device->state->download(to, static_cast<const std::byte*>(from), bytes);
  });
}

void clear(SyDevice* device, void* to, int64_t bytes, SyStatus* status) {
  guarded(status, [&] {
    device->state->enter();
    device->state->clear(static_cast<std::byte*>(to), bytes);
  });
}

SyProgram* load(SyDevice* device, const SyProgramSource* source, SyStatus* status) {
  return guarded(status, [&] { return new SyProgram{{device->state, *source}}; });
}

void unload(SyProgram* program) { delete program; }

void run(SyProgram* program, const SyRun* run, SyStatus* status) {
  guarded(status, [&] { program->program.run(*run); });
}

int64_t working_memory(SyDevice* device) { return device->state->working; }

constexpr SyBackend kBackend = {SWITCHYARD_BACKEND_VERSION, "cuda", open_device, close_device, device_info, kernel_names,
                                allocate, release, upload, download, clear, load, unload, run, working_memory};

}  // namespace
}  // namespace switchyard::cuda

extern "C" __attribute__((visibility("default"))) const SyBackend* switchyard_backend(void) {
  return &switchyard::cuda::kBackend;
}
