#include "runtime/error.h"

#include <cstdarg>
#include <cstdio>

namespace switchyard {

const char* error_code_name(ErrorCode code) {
  switch (code) {
    case ErrorCode::kShape: return "ERR_SHAPE";
    case ErrorCode::kDType: return "ERR_DTYPE";
    case ErrorCode::kOption: return "ERR_OPTION";
    case ErrorCode::kFormat: return "ERR_FORMAT";
    case ErrorCode::kUnsupported: return "ERR_UNSUPPORTED";
    case ErrorCode::kOutOfMemory: return "ERR_OUT_OF_MEMORY";
    case ErrorCode::kDisposed: return "ERR_DISPOSED";
    case ErrorCode::kAborted: return "ERR_ABORTED";
    case ErrorCode::kIo: return "ERR_IO";
    case ErrorCode::kProgram: return "ERR_PROGRAM";
    case ErrorCode::kNative: return "ERR_NATIVE";
  }
  return "ERR_NATIVE";
}

void fail(ErrorCode code, const char* format, ...) {
  va_list args;
  va_start(args, format);
  va_list copy;
  va_copy(copy, args);
  const int length = std::vsnprintf(nullptr, 0, format, args);
  va_end(args);
  std::string text(length > 0 ? static_cast<size_t>(length) : 0, '\0');
  if (length > 0) std::vsnprintf(text.data(), text.size() + 1, format, copy);
  va_end(copy);
  throw Error(code, text);
}

int64_t checked_add(int64_t a, int64_t b, const char* where) {
  if (b > 0 ? a > INT64_MAX - b : a < INT64_MIN - b) {
    fail(ErrorCode::kShape, "[%s] got a size beyond 64 bits, expected a smaller one", where);
  }
  return a + b;
}

// Sizes are never negative, so a negative factor is an error too.
int64_t checked_mul(int64_t a, int64_t b, const char* where) {
  if (a < 0 || b < 0) fail(ErrorCode::kShape, "[%s] got a negative size, expected 0 or more", where);
  if (b != 0 && a > INT64_MAX / b) {
    fail(ErrorCode::kShape, "[%s] got a size beyond 64 bits, expected a smaller one", where);
  }
  return a * b;
}

}  // namespace switchyard
