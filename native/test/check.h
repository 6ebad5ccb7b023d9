// The smallest of test frames: CHECK counts, report() prints and gives the exit status.
#pragma once
#include <cstdio>
#include <string>

#include "runtime/error.h"

namespace switchyard::test {

inline int passed = 0, failed = 0;

inline bool check(bool ok, const char* what, const char* file, int line) {
  ok ? passed++ : failed++;
  if (!ok) std::fprintf(stderr, "%s:%d: failed: %s\n", file, line, what);
  return ok;
}

// The message of the Error that `fn` throws; "" where it throws none.
template <class F>
std::string error_of(const F& fn) {
  try {
    fn();
  } catch (const Error& e) {
    return std::string(error_code_name(e.code())) + " " + e.what();
  }
  return "";
}

inline bool holds(const std::string& text, const char* part) {
  if (text.find(part) != std::string::npos) return true;
  std::fprintf(stderr, "got '%s', expected '%s' in it\n", text.c_str(), part);
  return false;
}

inline int report() {
  std::printf("%d passed, %d failed\n", passed, failed);
  return failed == 0 ? 0 : 1;
}

}  // namespace switchyard::test

#define CHECK(...) ::switchyard::test::check(static_cast<bool>(__VA_ARGS__), #__VA_ARGS__, __FILE__, __LINE__)
