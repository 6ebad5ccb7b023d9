// dtypes and shapes.
#pragma once
#include <array>
#include <cstdint>
#include <string>

namespace switchyard {

// The numbers are part of the program format; src/core/dtype.ts holds the same list.
enum class DType : uint8_t { kF32 = 0, kF16 = 1, kBF16 = 2, kI32 = 3, kU32 = 4, kU8 = 5, kBool = 6 };
constexpr int kDTypeCount = 7;

inline int64_t dtype_size(DType t) {
  constexpr int64_t kSize[kDTypeCount] = {4, 2, 2, 4, 4, 1, 1};
  return kSize[static_cast<int>(t)];
}
const char* dtype_name(DType t);

constexpr int kMaxRank = 8;

struct Shape {
  int rank = 0;
  std::array<int64_t, kMaxRank> dims{};

  int64_t operator[](int i) const { return dims[i]; }
  // Safe to multiply: the program loader has checked the product.
  int64_t size() const {
    int64_t n = 1;
    for (int i = 0; i < rank; i++) n *= dims[i];
    return n;
  }
  bool operator==(const Shape& o) const {
    if (rank != o.rank) return false;
    for (int i = 0; i < rank; i++)
      if (dims[i] != o.dims[i]) return false;
    return true;
  }
};
std::string shape_text(const Shape& s);  // "[2, 3]"

}  // namespace switchyard
