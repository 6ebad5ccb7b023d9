// A device of a backend that was loaded at run time: its memory, and what runs programs there.
#pragma once
#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "runtime/backend.h"

namespace switchyard {

// The shared library of a backend. It stays loaded as long as something of it lives.
class BackendLibrary {
 public:
  // Throws kUnsupported where the file cannot be loaded or is no backend of this version.
  static std::shared_ptr<const BackendLibrary> load(const std::string& path);
  ~BackendLibrary();
  BackendLibrary(const BackendLibrary&) = delete;
  BackendLibrary& operator=(const BackendLibrary&) = delete;

  const SyBackend& operator*() const { return *backend_; }
  const SyBackend* operator->() const { return backend_; }
  bool has_kernel(std::string_view name) const;

 private:
  BackendLibrary() = default;
  void* handle_ = nullptr;
  const SyBackend* backend_ = nullptr;
  std::vector<std::string_view> kernels_;  // sorted
};

// One device. Every function throws the Error that the backend tells; memory is freed by who took it.
class Device {
 public:
  Device(std::shared_ptr<const BackendLibrary> library, int ordinal);
  ~Device();
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

  const BackendLibrary& backend() const { return *library_; }
  SyDevice* handle() const { return device_; }
  SyDeviceInfo info() const;
  std::byte* allocate(int64_t bytes) const;
  void release(std::byte* memory) const { (*library_)->release(device_, memory); }
  void upload(std::byte* to, const void* from, int64_t bytes) const;
  void download(void* to, const std::byte* from, int64_t bytes) const;
  void clear(std::byte* to, int64_t bytes) const;
  int64_t working_memory() const { return (*library_)->working_memory(device_); }

 private:
  std::shared_ptr<const BackendLibrary> library_;
  SyDevice* device_ = nullptr;
};

// Throws what a backend tells.
void check_status(const SyStatus& status);
// Fills a status with the exception that is being handled.
void status_of_exception(SyStatus* status) noexcept;

}  // namespace switchyard
