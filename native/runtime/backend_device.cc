#include "runtime/backend_device.h"

#include <cstring>

#include "runtime/error.h"
#include "runtime/program.h"
#include "runtime/weight.h"

#if defined(_WIN32)
#include <windows.h>
#else
#include <dlfcn.h>
#endif

namespace switchyard {
namespace {

#if defined(_WIN32)
void* open_library(const std::string& path, std::string* reason) {
  HMODULE library = LoadLibraryA(path.c_str());
  if (library == nullptr) *reason = "error " + std::to_string(GetLastError());
  return library;
}
void* find_symbol(void* library, const char* name) {
  return reinterpret_cast<void*>(GetProcAddress(static_cast<HMODULE>(library), name));
}
void close_library(void* library) { FreeLibrary(static_cast<HMODULE>(library)); }
#else
void* open_library(const std::string& path, std::string* reason) {
  void* library = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    const char* text = ::dlerror();
    *reason = text != nullptr ? text : "unknown";
  }
  return library;
}
void* find_symbol(void* library, const char* name) { return ::dlsym(library, name); }
void close_library(void* library) { ::dlclose(library); }
#endif

[[noreturn]] void raise(const sy_error& error) {
  ErrorCode code = ErrorCode::kNative;
  for (int i = 0; i <= static_cast<int>(ErrorCode::kDevice); i++) {
    if (std::strcmp(error.code, error_code_name(static_cast<ErrorCode>(i))) == 0) code = static_cast<ErrorCode>(i);
  }
  throw Error(code, error.message, error.hint);
}

}  // namespace

// The description points into vectors that live as long as the call to load().
struct ProgramDescription {
  std::vector<sy_operand> operands;
  std::vector<std::vector<int32_t>> lists;
  std::vector<std::vector<sy_attribute>> attrs;
  std::vector<std::string> names;
  std::vector<sy_instruction> instructions;
  std::vector<sy_constant> constants;
  std::vector<sy_weight> weights;
  sy_program program{};
};

class LoadedProgram : public BackendProgram {
 public:
  LoadedProgram(std::shared_ptr<BackendDevice> device, void* handle) : device_(std::move(device)), handle_(handle) {}
  ~LoadedProgram() override {
    std::lock_guard lock(device_->mutex_);
    device_->backend_->unload(device_->device_, handle_);
  }
  BackendDevice* device() const { return device_.get(); }
  void* handle() const { return handle_; }

 private:
  std::shared_ptr<BackendDevice> device_;
  void* handle_;
};

std::shared_ptr<BackendDevice> BackendDevice::open(const std::string& library, int index) {
  std::shared_ptr<BackendDevice> d(new BackendDevice);
  std::string reason;
  d->library_ = open_library(library, &reason);
  if (d->library_ == nullptr) {
    throw Error(ErrorCode::kDevice, "[backend] got no library (" + reason + "), expected " + library);
  }
  const auto entry = reinterpret_cast<sy_backend_entry_fn>(find_symbol(d->library_, SY_BACKEND_ENTRY));
  d->backend_ = entry != nullptr ? entry() : nullptr;
  if (d->backend_ == nullptr || d->backend_->abi != SY_BACKEND_ABI) {
    throw Error(ErrorCode::kDevice, "[backend] got " + library + " of another build, expected one made with this addon",
                "build the library again");
  }
  sy_error error{};
  d->device_ = d->backend_->open(index, &error);
  if (d->device_ == nullptr) raise(error);
  return d;
}

BackendDevice::~BackendDevice() {
  if (device_ != nullptr) backend_->close(device_);
  if (library_ != nullptr) close_library(library_);
}

sy_device_info BackendDevice::info() const {
  sy_device_info info{};
  sy_error error{};
  std::lock_guard lock(mutex_);
  if (backend_->info(device_, &info, &error) == 0) raise(error);
  return info;
}

std::shared_ptr<BackendProgram> BackendDevice::load(Program& program) {
  const ProgramDescription description = program.describe();
  sy_error error{};
  std::lock_guard lock(mutex_);
  void* handle = backend_->load(device_, &description.program, &error);
  if (handle == nullptr) raise(error);
  return std::make_shared<LoadedProgram>(shared_from_this(), handle);
}

void BackendDevice::run(Program& program, std::span<const std::shared_ptr<Buffer>> inputs,
                        std::span<const std::shared_ptr<Buffer>> outputs, std::span<const int64_t> ints,
                        const std::atomic<bool>* abort, std::span<double> times) {
  auto* loaded = static_cast<LoadedProgram*>(program.on_backend.get());
  if (loaded == nullptr || loaded->device() != this) {
    program.on_backend = load(program);
    loaded = static_cast<LoadedProgram*>(program.on_backend.get());
  }
  std::vector<const void*> in;
  std::vector<void*> out;
  for (const auto& b : inputs) in.push_back(b->data());
  for (const auto& b : outputs) out.push_back(b->data());
  // The flag is read once before the run: a device step is short, and the executor looks between runs.
  if (abort != nullptr && abort->load(std::memory_order_relaxed)) {
    fail(ErrorCode::kAborted, "[run] got an abort before the program began");
  }
  const sy_run run{in.data(), out.data(), ints.data(), times.empty() ? nullptr : times.data()};
  sy_error error{};
  std::lock_guard lock(mutex_);
  if (backend_->run(device_, loaded->handle(), &run, &error) == 0) raise(error);
}

ProgramDescription Program::describe() const {
  ProgramDescription d;
  for (size_t i = 0; i < entries_.size(); i++) {
    const Entry& entry = entries_[i];
    const Operand& operand = operands_[i];
    sy_operand o{};
    o.kind = static_cast<int32_t>(entry.kind);
    o.dtype = static_cast<int32_t>(operand.dtype);
    o.index = entry.index;
    o.offset = entry.offset;
    o.rank = operand.shape.rank;
    for (int r = 0; r < operand.shape.rank; r++) o.dims[r] = operand.shape[r];
    const auto among = [&](const std::vector<uint32_t>& list) {
      for (const uint32_t w : list) {
        if (w == entry.index) return 1;
      }
      return 0;
    };
    if (entry.kind == Kind::kInput) o.written = among(written_inputs_);
    if (entry.kind == Kind::kConstant) o.written = among(written_constants_);
    d.operands.push_back(o);
  }
  const auto numbers = [&](const std::vector<const Operand*>& list) {
    std::vector<int32_t> out;
    for (const Operand* o : list) out.push_back(o == nullptr ? -1 : static_cast<int32_t>(o - operands_.data()));
    return out;
  };
  const size_t n = steps_.size();
  d.lists.reserve(2 * n);
  d.attrs.reserve(n);
  d.names.reserve(n);
  for (const Step& step : steps_) {
    const Instruction& instruction = step.instruction;
    d.lists.push_back(numbers(instruction.in));
    d.lists.push_back(numbers(instruction.out));
    std::vector<sy_attribute> attrs;
    for (const Attribute& a : instruction.attrs) {
      attrs.push_back({a.i, a.f, a.ints.data(), static_cast<int64_t>(a.ints.size()), -1});
    }
    for (const RuntimeAttribute& r : step.runtime) attrs[r.attribute].slot = static_cast<int32_t>(r.slot);
    d.attrs.push_back(std::move(attrs));
    d.names.emplace_back(instruction.kernel->name);
    const auto& in = d.lists[d.lists.size() - 2];
    const auto& out = d.lists.back();
    d.instructions.push_back({d.names.back().c_str(), in.data(), static_cast<int32_t>(in.size()), out.data(),
                              static_cast<int32_t>(out.size()), d.attrs.back().data(),
                              static_cast<int32_t>(d.attrs.back().size())});
  }
  for (const auto& b : constants_) d.constants.push_back({b->data(), b->bytes(), b->id()});
  for (const ProgramWeight& w : weights_) {
    const Weight& weight = *w.weight;
    d.weights.push_back({weight.panel(0, 0), weight.bytes(), weight.expert_stride(), weight.layout().bytes,
                         static_cast<int32_t>(weight.format()), w.experts, w.rows, w.columns, weight.id()});
  }
  d.program = {d.operands.data(), static_cast<int32_t>(d.operands.size()),
               d.instructions.data(), static_cast<int32_t>(n),
               d.constants.data(), static_cast<int32_t>(d.constants.size()),
               d.weights.data(), static_cast<int32_t>(d.weights.size()),
               input_bytes_.data(), static_cast<int32_t>(input_bytes_.size()),
               output_bytes_.data(), static_cast<int32_t>(output_bytes_.size()),
               static_cast<int32_t>(ints_), arena_bytes_};
  return d;
}

}  // namespace switchyard
