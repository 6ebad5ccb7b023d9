// Writes the binary of a program (docs/program-format.md) without any check, so that tests can make wrong ones.
#pragma once
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

namespace switchyard::test {

constexpr uint32_t kAbsent = 0xFFFFFFFF;

struct Attr {
  uint32_t type = 0;
  std::vector<int64_t> values;
};
inline Attr int_attr(int64_t v) { return {0, {v}}; }
inline Attr float_attr(double v) {
  int64_t bits;
  std::memcpy(&bits, &v, 8);
  return {1, {bits}};
}
inline Attr ints_attr(std::vector<int64_t> v) { return {2, std::move(v)}; }
inline Attr slot_attr(int64_t slot) { return {3, {slot}}; }

struct BufferRow {
  uint32_t kind, dtype, index;
  int64_t offset;
  std::vector<int64_t> dims;
};
struct InstructionRow {
  std::string kernel;
  std::vector<uint32_t> in, out;
  std::vector<Attr> attrs;
};

struct ProgramText {
  uint32_t magic = 0x31505953, version = 1, inputs = 0, constants = 0, weights = 0, outputs = 0, ints = 0;
  int64_t arena = 0;
  std::vector<BufferRow> buffers;
  std::vector<InstructionRow> instructions;

  std::vector<std::byte> encode() const {
    std::vector<std::byte> bytes;
    const auto put = [&](const void* p, size_t n) {
      const auto* from = static_cast<const std::byte*>(p);
      bytes.insert(bytes.end(), from, from + n);
    };
    const auto u32 = [&](size_t v) {
      const auto w = static_cast<uint32_t>(v);
      put(&w, 4);
    };
    const auto i64 = [&](int64_t v) { put(&v, 8); };
    const auto pad = [&](size_t to) { bytes.resize((bytes.size() + to - 1) / to * to); };
    for (size_t v : {size_t{magic}, size_t{version}, instructions.size(), buffers.size(), instructions.size(),
                     size_t{inputs}, size_t{constants}, size_t{weights}, size_t{outputs}, size_t{ints}}) {
      u32(v);
    }
    i64(arena);
    for (const InstructionRow& row : instructions) {  // one string each: repeats are allowed
      u32(row.kernel.size());
      put(row.kernel.data(), row.kernel.size());
      pad(4);
    }
    pad(8);
    for (const BufferRow& row : buffers) {
      for (size_t v : {size_t{row.kind}, size_t{row.dtype}, row.dims.size(), size_t{row.index}}) u32(v);
      i64(row.offset);
      for (int64_t d : row.dims) i64(d);
    }
    for (size_t i = 0; i < instructions.size(); i++) {
      const InstructionRow& row = instructions[i];
      for (size_t v : {i, row.in.size(), row.out.size(), row.attrs.size()}) u32(v);
      for (uint32_t n : row.in) u32(n);
      for (uint32_t n : row.out) u32(n);
      pad(8);
      for (const Attr& attr : row.attrs) {
        u32(attr.type);
        u32(attr.values.size());
        for (int64_t v : attr.values) i64(v);
      }
    }
    return bytes;
  }
};

}  // namespace switchyard::test
