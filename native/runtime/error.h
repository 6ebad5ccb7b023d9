// The one exception of the native side; the binding turns it into a typed JavaScript error.
#pragma once
#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>

namespace switchyard {

enum class ErrorCode { kShape, kDType, kOption, kFormat, kUnsupported, kOutOfMemory, kDisposed, kAborted, kIo, kProgram, kNative };

// The JavaScript name of a code, e.g. "ERR_SHAPE".
const char* error_code_name(ErrorCode code);

class Error : public std::runtime_error {
 public:
  Error(ErrorCode code, const std::string& message, std::string hint = "")
      : std::runtime_error(message), code_(code), hint_(std::move(hint)) {}
  ErrorCode code() const { return code_; }
  const std::string& hint() const { return hint_; }

 private:
  ErrorCode code_;
  std::string hint_;
};

// printf-style: fail(ErrorCode::kShape, "[linear] got %lld columns, expected %lld", a, b).
[[noreturn]] void fail(ErrorCode code, const char* format, ...)
#if defined(__GNUC__)
    __attribute__((format(printf, 2, 3)))
#endif
    ;

// Checked arithmetic for every count, offset and size that comes from outside.
int64_t checked_add(int64_t a, int64_t b, const char* where);
int64_t checked_mul(int64_t a, int64_t b, const char* where);

}  // namespace switchyard
