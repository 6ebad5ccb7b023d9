// Reads and checks the binary of a program. Whatever the bytes are, the result is a program that cannot reach memory
// outside its operands, or an Error.
#include <algorithm>
#include <cstring>
#include <map>
#include <string>

#include "runtime/device_program.h"
#include "runtime/program.h"
#include "runtime/weight.h"

namespace switchyard {
namespace {

constexpr uint32_t kMagic = 0x31505953;  // "SYP1"
constexpr uint32_t kVersion = 1;
constexpr uint32_t kAbsent = 0xFFFFFFFF;
constexpr int64_t kMostBytes = int64_t{1} << 46;  // of one operand or the arena: sums of several still fit 64 bits
constexpr int64_t kAlign = 64;
constexpr uint32_t kMostOperands = 4096;  // checks are quadratic in it

// Walks the binary; every read is checked against the bytes that remain.
class Reader {
 public:
  explicit Reader(std::span<const std::byte> bytes) : bytes_(bytes) {}

  size_t remaining() const { return bytes_.size() - at_; }

  const std::byte* take(size_t n, const char* what) {
    if (n > remaining()) {
      fail(ErrorCode::kProgram, "[program] got %zu bytes after %zu, expected %zu for %s", remaining(), at_, n, what);
    }
    const std::byte* p = bytes_.data() + at_;
    at_ += n;
    return p;
  }
  uint32_t u32(const char* what) { return static_cast<uint32_t>(little_endian(take(4, what), 4)); }
  int64_t i64(const char* what) { return static_cast<int64_t>(little_endian(take(8, what), 8)); }
  void align(size_t to) { take((to - at_ % to) % to, "padding"); }

  // A number of items, none of them smaller than `item` bytes: so many must be there before anything is allocated.
  void check_count(uint32_t count, size_t item, const char* what) const {
    if (count <= remaining() / item) return;
    fail(ErrorCode::kProgram, "[program] got %u %s in %zu bytes, expected at least %zu bytes each", count, what,
         remaining(), item);
  }

 private:
  static uint64_t little_endian(const std::byte* p, int n) {
    uint64_t v = 0;
    for (int i = 0; i < n; i++) v |= static_cast<uint64_t>(p[i]) << (8 * i);
    return v;
  }

  std::span<const std::byte> bytes_;
  size_t at_ = 0;
};

// The bytes of the arena that hold something: disjoint ranges, begin -> end, never touching each other.
class Written {
 public:
  void add(int64_t begin, int64_t end) {
    if (begin == end) return;
    auto next = ranges_.upper_bound(begin);
    if (next != ranges_.begin() && std::prev(next)->second >= begin) --next;
    while (next != ranges_.end() && next->first <= end) {
      begin = std::min(begin, next->first);
      end = std::max(end, next->second);
      next = ranges_.erase(next);
    }
    ranges_[begin] = end;
  }
  bool covers(int64_t begin, int64_t end) const {
    if (begin == end) return true;
    auto next = ranges_.upper_bound(begin);
    return next != ranges_.begin() && std::prev(next)->second >= end;
  }

 private:
  std::map<int64_t, int64_t> ranges_;
};

std::vector<std::string_view> split(std::string_view text, char by) {
  std::vector<std::string_view> parts;
  while (!text.empty()) {
    const size_t at = text.find(by);
    parts.push_back(text.substr(0, at));
    text = at == std::string_view::npos ? std::string_view() : text.substr(at + 1);
  }
  return parts;
}

enum class Type : uint32_t { kInt = 0, kFloat = 1, kInts = 2, kRuntimeInt = 3 };

}  // namespace

class ProgramLoader {
 public:
  ProgramLoader(std::span<const std::byte> binary, const KernelRegistry& kernels,
                std::vector<std::shared_ptr<Buffer>> constants, std::vector<ProgramWeight> weights)
      : in_(binary), kernels_(kernels), program_(std::make_shared<Program>()) {
    program_->constants_ = std::move(constants);
    program_->weights_ = std::move(weights);
    auto& files = program_->files_;
    for (const ProgramWeight& w : program_->weights_) {
      const auto& file = w.weight->file();
      if (file && std::find(files.begin(), files.end(), file) == files.end()) files.push_back(file);
    }
  }

  std::shared_ptr<Program> load() {
    read_header();
    read_strings();
    read_entries();
    program_->steps_.reserve(instructions_);
    for (uint32_t i = 0; i < instructions_; i++) read_instruction();
    if (in_.remaining() != 0) {
      fail(ErrorCode::kProgram, "[program] got %zu bytes after the last instruction, expected none", in_.remaining());
    }
    for (size_t i = 0; i < output_written_.size(); i++) {
      if (!output_written_[i]) fail(ErrorCode::kProgram, "[program] got no instruction that writes output %zu", i);
    }
    for (const uint32_t w : program_->written_constants_) {
      for (size_t i = 0; i < program_->constants_.size(); i++) {
        if (i == w || program_->constants_[i] != program_->constants_[w]) continue;
        fail(ErrorCode::kProgram, "[program] got constants %u and %zu in one buffer, expected a written one apart", w, i);
      }
    }
    for (Program::Step& step : program_->steps_) {
      if (step.runtime.empty()) program_->prepare(step);
    }
    return std::move(program_);
  }

 private:
  using Kind = Program::Kind;
  using Entry = Program::Entry;

  void read_header() {
    if (const uint32_t magic = in_.u32("the magic"); magic != kMagic) {
      fail(ErrorCode::kProgram, "[program] got magic 0x%08x, expected 0x%08x", magic, kMagic);
    }
    if (const uint32_t version = in_.u32("the version"); version != kVersion) {
      fail(ErrorCode::kProgram, "[program] got version %u, expected %u", version, kVersion);
    }
    strings_.resize(read_count("strings", 4));
    found_.resize(strings_.size());
    buffers_ = read_count("buffers", 24);
    instructions_ = read_count("instructions", 16);
    const uint32_t inputs = read_count("inputs", 0);
    const uint32_t constants = read_count("constants", 0);
    const uint32_t weights = read_count("weights", 0);
    const uint32_t outputs = read_count("outputs", 24);
    program_->ints_ = read_count("run-time integers", 0);
    if (constants != program_->constants_.size() || weights != program_->weights_.size()) {
      fail(ErrorCode::kProgram, "[program] got %zu constants and %zu weights, expected %u and %u",
           program_->constants_.size(), program_->weights_.size(), constants, weights);
    }
    // Inputs and integers may be unused, so no bytes back their number: a plain limit does.
    constexpr uint32_t kMany = 1u << 20;
    if (inputs > kMany || program_->ints_ > kMany) {
      fail(ErrorCode::kProgram, "[program] got %u inputs and %u run-time integers, expected at most %u", inputs,
           program_->ints_, kMany);
    }
    program_->input_bytes_.assign(inputs, -1);
    program_->output_bytes_.assign(outputs, -1);
    output_written_.assign(outputs, false);
    program_->arena_bytes_ = in_.i64("the arena bytes");
    if (program_->arena_bytes_ < 0 || program_->arena_bytes_ > kMostBytes) {
      fail(ErrorCode::kProgram, "[program] got an arena of %lld bytes, expected 0 to 2^46",
           static_cast<long long>(program_->arena_bytes_));
    }
  }

  uint32_t read_count(const char* what, size_t item) {
    const uint32_t count = in_.u32(what);
    if (item > 0) in_.check_count(count, item, what);
    return count;
  }

  void read_strings() {
    for (std::string_view& s : strings_) {
      const uint32_t length = in_.u32("the length of a string");
      s = {reinterpret_cast<const char*>(in_.take(length, "a string")), length};
      in_.align(4);
    }
    in_.align(8);
  }

  void read_entries() {
    program_->entries_.resize(buffers_);
    program_->operands_.resize(buffers_);
    for (uint32_t i = 0; i < buffers_; i++) read_entry(i);
    for (size_t i = 0; i < program_->output_bytes_.size(); i++) {
      if (program_->output_bytes_[i] < 0) fail(ErrorCode::kProgram, "[program] got no buffer for output %zu", i);
    }
  }

  void read_entry(uint32_t number) {
    const uint32_t kind = in_.u32("a buffer"), dtype = in_.u32("a buffer"), rank = in_.u32("a buffer");
    Entry& entry = program_->entries_[number];
    Operand& operand = program_->operands_[number];
    entry.index = in_.u32("a buffer");
    entry.offset = in_.i64("a buffer");
    if (kind > 4 || dtype >= static_cast<uint32_t>(kDTypeCount) || rank > static_cast<uint32_t>(kMaxRank)) {
      fail(ErrorCode::kProgram, "[program] got kind %u, dtype %u, rank %u for buffer %u, expected at most 4, %d, %d",
           kind, dtype, rank, number, kDTypeCount - 1, kMaxRank);
    }
    entry.kind = static_cast<Kind>(kind);
    operand.dtype = static_cast<DType>(dtype);
    operand.shape.rank = static_cast<int>(rank);
    // Zeros count as one here, so that kernels may multiply any of the dims.
    int64_t span = dtype_size(operand.dtype), bytes = span;
    for (uint32_t d = 0; d < rank; d++) {
      const int64_t dim = in_.i64("the dims of a buffer");
      operand.shape.dims[d] = dim;
      span = checked_mul(span, std::max<int64_t>(dim, dim < 0 ? dim : 1), "program");
      bytes *= dim;  // at most span
      if (span > kMostBytes) {
        fail(ErrorCode::kProgram, "[program] got more than 2^46 bytes for buffer %u, expected fewer", number);
      }
    }
    entry.bytes = bytes;
    if (entry.kind == Kind::kArena) {
      if (entry.offset < 0 || entry.offset % kAlign != 0 || entry.offset > program_->arena_bytes_ ||
          bytes > program_->arena_bytes_ - entry.offset) {
        fail(ErrorCode::kProgram, "[program] got %lld bytes at %lld for buffer %u, expected a multiple of 64 in an arena of %lld",
             static_cast<long long>(bytes), static_cast<long long>(entry.offset), number,
             static_cast<long long>(program_->arena_bytes_));
      }
      return;
    }
    if (entry.offset != 0) {
      fail(ErrorCode::kProgram, "[program] got offset %lld for buffer %u, expected 0 outside the arena",
           static_cast<long long>(entry.offset), number);
    }
    switch (entry.kind) {
      case Kind::kInput: check_bytes(number, "input", program_->input_bytes_); break;
      case Kind::kOutput: check_bytes(number, "output", program_->output_bytes_); break;
      case Kind::kConstant: bind_constant(number); break;
      default: bind_weight(number); break;
    }
  }

  void check_index(uint32_t number, const char* kind, size_t count) const {
    const uint32_t index = program_->entries_[number].index;
    if (index < count) return;
    fail(ErrorCode::kProgram, "[program] got %s %u for buffer %u, expected fewer than %zu", kind, index, number, count);
  }

  // All entries of one input or output have the same bytes: `sizes` holds those of the first.
  void check_bytes(uint32_t number, const char* kind, std::vector<int64_t>& sizes) const {
    check_index(number, kind, sizes.size());
    const Entry& entry = program_->entries_[number];
    int64_t& bytes = sizes[entry.index];
    if (bytes < 0) bytes = entry.bytes;
    if (bytes == entry.bytes) return;
    fail(ErrorCode::kProgram, "[program] got %lld bytes for another view of %s %u, expected %lld",
         static_cast<long long>(entry.bytes), kind, entry.index, static_cast<long long>(bytes));
  }

  void bind_constant(uint32_t number) {
    check_index(number, "constant", program_->constants_.size());
    const Entry& entry = program_->entries_[number];
    const Buffer& constant = *program_->constants_[entry.index];
    if (constant.bytes() != entry.bytes) {
      fail(ErrorCode::kProgram, "[program] got a constant %u of %lld bytes, expected %lld", entry.index,
           static_cast<long long>(constant.bytes()), static_cast<long long>(entry.bytes));
    }
    program_->operands_[number].data = constant.data();
  }

  void bind_weight(uint32_t number) {
    check_index(number, "weight", program_->weights_.size());
    const ProgramWeight& w = program_->weights_[program_->entries_[number].index];
    Operand& operand = program_->operands_[number];
    const Shape dims{3, {w.experts, w.rows, w.columns}};
    if (!(operand.shape == dims)) {
      fail(ErrorCode::kProgram, "[program] got a weight %s for buffer %u, expected %s", shape_text(dims).c_str(),
           number, shape_text(operand.shape).c_str());
    }
    operand.weight = w.weight.get();
  }

  void read_instruction() {
    const uint32_t name = in_.u32("an instruction");
    const uint32_t inputs = in_.u32("an instruction"), outputs = in_.u32("an instruction"),
                   attributes = in_.u32("an instruction");
    if (name >= strings_.size()) {
      fail(ErrorCode::kProgram, "[program] got kernel name %u, expected fewer than %zu", name, strings_.size());
    }
    if (inputs > kMostOperands || outputs > kMostOperands) {
      fail(ErrorCode::kProgram, "[program] got an instruction with %u inputs and %u outputs, expected at most %u",
           inputs, outputs, kMostOperands);
    }
    in_.check_count(attributes, 16, "attributes");
    Program::Step step;
    Instruction& instruction = step.instruction;
    if (found_[name] == nullptr) found_[name] = kernels_.find(strings_[name]);
    instruction.kernel = found_[name];
    if (instruction.kernel == nullptr) {
      fail(ErrorCode::kProgram, "[program] got kernel '%.*s', expected one of this build",
           static_cast<int>(std::min<size_t>(strings_[name].size(), 64)), strings_[name].data());
    }
    std::vector<uint32_t> in(inputs), out(outputs);
    for (uint32_t& operand : in) operand = read_operand();
    for (uint32_t& operand : out) operand = read_operand();
    in_.align(8);
    check_operands(instruction, in, out);
    for (const uint32_t n : in) instruction.in.push_back(n == kAbsent ? nullptr : &program_->operands_[n]);
    for (const uint32_t n : out) instruction.out.push_back(n == kAbsent ? nullptr : &program_->operands_[n]);
    read_attributes(step, attributes);
    program_->steps_.push_back(std::move(step));
  }

  uint32_t read_operand() {
    const uint32_t number = in_.u32("an operand");
    if (number != kAbsent && number >= buffers_) {
      fail(ErrorCode::kProgram, "[program] got operand %u, expected fewer than %u", number, buffers_);
    }
    return number;
  }

  void check_operands(const Instruction& instruction, const std::vector<uint32_t>& in,
                      const std::vector<uint32_t>& out) {
    const std::string name(instruction.kernel->name);
    for (const uint32_t n : in) {
      if (n != kAbsent && !is_written(program_->entries_[n])) {
        fail(ErrorCode::kProgram, "[%s] got buffer %u before anything is written there", name.c_str(), n);
      }
    }
    for (size_t i = 0; i < out.size(); i++) {
      if (out[i] == kAbsent) continue;
      const Entry& entry = program_->entries_[out[i]];
      bool over_input = false;
      for (const uint32_t n : in) {
        if (n == kAbsent || !overlap(entry, program_->entries_[n])) continue;
        over_input = true;
        if (instruction.kernel->in_place != InPlace::kNo && exact(entry, program_->entries_[n])) continue;
        fail(ErrorCode::kProgram, "[%s] got output buffer %u over input buffer %u, expected them apart", name.c_str(),
             out[i], n);
      }
      for (size_t j = 0; j < i; j++) {
        if (out[j] == kAbsent || !overlap(entry, program_->entries_[out[j]])) continue;
        fail(ErrorCode::kProgram, "[%s] got output buffers %u and %u over each other, expected them apart",
             name.c_str(), out[j], out[i]);
      }
      const bool own = entry.kind == Kind::kArena || entry.kind == Kind::kOutput;
      if (!own && !(entry.kind != Kind::kWeight && instruction.kernel->in_place == InPlace::kAny && over_input)) {
        fail(ErrorCode::kProgram, "[%s] got buffer %u to write, expected an intermediate or an output", name.c_str(),
             out[i]);
      }
    }
    for (const uint32_t n : out) {
      if (n == kAbsent) continue;
      const Entry& entry = program_->entries_[n];
      if (entry.kind == Kind::kArena) written_.add(entry.offset, entry.offset + entry.bytes);
      if (entry.kind == Kind::kOutput) output_written_[entry.index] = true;
      if (entry.kind == Kind::kInput) note(program_->written_inputs_, entry.index);
      if (entry.kind == Kind::kConstant) note(program_->written_constants_, entry.index);
    }
  }

  static void note(std::vector<uint32_t>& indexes, uint32_t index) {
    if (std::find(indexes.begin(), indexes.end(), index) == indexes.end()) indexes.push_back(index);
  }
  bool is_written(const Entry& entry) const {
    if (entry.kind == Kind::kArena) return written_.covers(entry.offset, entry.offset + entry.bytes);
    return entry.kind != Kind::kOutput || output_written_[entry.index];
  }
  static bool overlap(const Entry& a, const Entry& b) {
    if (a.kind != b.kind || a.bytes == 0 || b.bytes == 0) return false;
    if (a.kind != Kind::kArena) return a.index == b.index;
    return a.offset < b.offset + b.bytes && b.offset < a.offset + a.bytes;
  }
  static bool exact(const Entry& a, const Entry& b) { return a.offset == b.offset && a.bytes == b.bytes; }

  void read_attributes(Program::Step& step, uint32_t attributes) {
    Instruction& instruction = step.instruction;
    const std::string name(instruction.kernel->name);
    const auto signature = split(instruction.kernel->signature, ',');
    if (attributes != signature.size()) {
      fail(ErrorCode::kProgram, "[%s] got %u attributes, expected %zu", name.c_str(), attributes, signature.size());
    }
    instruction.attrs.resize(attributes);
    for (uint32_t i = 0; i < attributes; i++) {
      const uint32_t type = in_.u32("an attribute"), count = in_.u32("an attribute");
      in_.check_count(count, 8, "attribute values");
      const std::string_view wanted = signature[i].substr(signature[i].find(':') + 1);
      const bool fits = wanted == "int"     ? type == 0 || type == 3
                        : wanted == "float" ? type == 1
                                            : wanted == "ints" && type == 2;
      if (!fits || (type != 2 && count != 1)) {
        fail(ErrorCode::kProgram, "[%s] got attribute type %u with %u values, expected '%.*s'", name.c_str(), type,
             count, static_cast<int>(signature[i].size()), signature[i].data());
      }
      read_attribute(step, i, static_cast<Type>(type), count);
    }
  }

  void read_attribute(Program::Step& step, uint32_t number, Type type, uint32_t count) {
    Attribute& attribute = step.instruction.attrs[number];
    switch (type) {
      case Type::kInt: attribute.i = in_.i64("an integer"); break;
      case Type::kFloat: {
        const int64_t bits = in_.i64("a number");
        std::memcpy(&attribute.f, &bits, 8);
        break;
      }
      case Type::kInts:
        attribute.ints.resize(count);
        for (int64_t& value : attribute.ints) value = in_.i64("an integer");
        break;
      case Type::kRuntimeInt: {
        const int64_t slot = in_.i64("a slot");
        if (slot < 0 || slot >= program_->ints_) {
          fail(ErrorCode::kProgram, "[program] got run-time integer %lld, expected fewer than %u",
               static_cast<long long>(slot), program_->ints_);
        }
        step.runtime.push_back({number, static_cast<uint32_t>(slot)});
        break;
      }
    }
  }

  Reader in_;
  const KernelRegistry& kernels_;
  std::shared_ptr<Program> program_;
  std::vector<std::string_view> strings_;
  std::vector<const Kernel*> found_;  // by string
  uint32_t buffers_ = 0, instructions_ = 0;
  std::vector<bool> output_written_;
  Written written_;
};

std::shared_ptr<Program> Program::load(std::span<const std::byte> binary, const KernelRegistry& kernels,
                                       std::vector<std::shared_ptr<Buffer>> constants,
                                       std::vector<ProgramWeight> weights, std::shared_ptr<const Device> device) {
  // What lies in the host's memory is for instructions that run there.
  for (size_t i = 0; i < constants.size(); i++) {
    if (constants[i]->device() == device.get() || constants[i]->device() == nullptr) continue;
    fail(ErrorCode::kOption, "[program] got constant %zu on another device than the program's, expected it there", i);
  }
  for (size_t i = 0; i < weights.size(); i++) {
    if (weights[i].weight->device() == device.get() || weights[i].weight->device() == nullptr) continue;
    fail(ErrorCode::kOption, "[program] got weight %zu on another device than the program's, expected it there", i);
  }
  auto program = ProgramLoader(binary, kernels, std::move(constants), std::move(weights)).load();
  program->device_ = device;
  if (device) program->on_device_ = std::make_unique<DeviceProgram>(std::move(device), *program);
  return program;
}

}  // namespace switchyard
