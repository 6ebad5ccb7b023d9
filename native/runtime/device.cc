#include "runtime/device.h"

#include <algorithm>
#include <cstdio>
#include <cstring>

#include "runtime/error.h"

#if defined(_WIN32)
#include <windows.h>
#else
#include <dlfcn.h>
#endif

namespace switchyard {
namespace {

#if defined(_WIN32)
void* open_library(const std::string& path, std::string* why) {
  void* handle = LoadLibraryA(path.c_str());
  if (handle == nullptr) *why = "error " + std::to_string(GetLastError());
  return handle;
}
void* find(void* handle, const char* name) {
  return reinterpret_cast<void*>(GetProcAddress(static_cast<HMODULE>(handle), name));
}
void close_library(void* handle) { FreeLibrary(static_cast<HMODULE>(handle)); }
#else
void* open_library(const std::string& path, std::string* why) {
  void* handle = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr) *why = dlerror();
  return handle;
}
void* find(void* handle, const char* name) { return dlsym(handle, name); }
void close_library(void* handle) { dlclose(handle); }
#endif

}  // namespace

void check_status(const SyStatus& status) {
  if (status.code == 0) return;
  const int last = static_cast<int>(ErrorCode::kNative);
  throw Error(static_cast<ErrorCode>(std::clamp(status.code - 1, 0, last)), status.message);
}

void status_of_exception(SyStatus* status) noexcept {
  const auto fill = [&](ErrorCode code, const char* message) {
    status->code = 1 + static_cast<int32_t>(code);
    std::snprintf(status->message, sizeof status->message, "%s", message);
  };
  try {
    throw;
  } catch (const Error& e) {
    fill(e.code(), e.what());
  } catch (const std::bad_alloc&) {
    fill(ErrorCode::kOutOfMemory, "[native] got no memory from the system");
  } catch (const std::exception& e) {
    fill(ErrorCode::kNative, e.what());
  } catch (...) {
    fill(ErrorCode::kNative, "[native] got an unexpected failure");
  }
}

std::shared_ptr<const BackendLibrary> BackendLibrary::load(const std::string& path) {
  std::shared_ptr<BackendLibrary> library(new BackendLibrary);
  std::string why;
  library->handle_ = open_library(path, &why);
  if (library->handle_ == nullptr) {
    fail(ErrorCode::kUnsupported, "[device] got no backend from '%s' (%s), expected a library that loads", path.c_str(), why.c_str());
  }
  const auto function = reinterpret_cast<SyBackendFunction>(find(library->handle_, SWITCHYARD_BACKEND_SYMBOL));
  library->backend_ = function != nullptr ? function() : nullptr;
  if (library->backend_ == nullptr || library->backend_->version != SWITCHYARD_BACKEND_VERSION) {
    fail(ErrorCode::kUnsupported, "[device] got '%s' of version %u, expected a backend of version %u", path.c_str(),
         library->backend_ == nullptr ? 0 : library->backend_->version, SWITCHYARD_BACKEND_VERSION);
  }
  int64_t count = 0;
  const char* const* names = library->backend_->kernels(&count);
  library->kernels_.assign(names, names + count);
  std::sort(library->kernels_.begin(), library->kernels_.end());
  return library;
}

BackendLibrary::~BackendLibrary() {
  if (handle_ != nullptr) close_library(handle_);
}

bool BackendLibrary::has_kernel(std::string_view name) const {
  return std::binary_search(kernels_.begin(), kernels_.end(), name);
}

Device::Device(std::shared_ptr<const BackendLibrary> library, int ordinal) : library_(std::move(library)) {
  SyStatus status{};
  device_ = (*library_)->open(ordinal, &status);
  check_status(status);
}

Device::~Device() { (*library_)->close(device_); }

SyDeviceInfo Device::info() const {
  SyDeviceInfo info{};
  SyStatus status{};
  (*library_)->info(device_, &info, &status);
  check_status(status);
  return info;
}

std::byte* Device::allocate(int64_t bytes) const {
  SyStatus status{};
  void* memory = (*library_)->allocate(device_, bytes, &status);
  check_status(status);
  return static_cast<std::byte*>(memory);
}

void Device::upload(std::byte* to, const void* from, int64_t bytes) const {
  SyStatus status{};
  (*library_)->upload(device_, to, from, bytes, &status);
  check_status(status);
}

void Device::download(void* to, const std::byte* from, int64_t bytes) const {
  SyStatus status{};
  (*library_)->download(device_, to, from, bytes, &status);
  check_status(status);
}

void Device::clear(std::byte* to, int64_t bytes) const {
  SyStatus status{};
  (*library_)->clear(device_, to, bytes, &status);
  check_status(status);
}

}  // namespace switchyard
