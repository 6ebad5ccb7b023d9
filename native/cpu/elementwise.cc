// `elementwise`: any chain of lane-wise operations in one pass over memory.
//
// 1. prepare() checks the code: opcodes, registers, lane types, shapes.
// 2. run() plans: each register is a tensor read in place, a tile in scratch, or the output written in place.
// Tiles are
//    reused once their register is dead, so that a long chain stays in the first-level cache.
// 3. The output is cut in tiles; inputs that are broadcast or not 4 bytes wide are brought into tiles first.
#include "cpu/elementwise.h"

#include <cstring>

#include "cpu/parallel.h"

namespace switchyard {
namespace {

constexpr int64_t kTile = 512;           // lanes: 2 KiB a register, 10-20 registers fit in 48 KiB
constexpr int64_t kCrossRows = 64;       // rows shorter than this share a tile
constexpr int kMaxRegisters = kMaxElementwiseInputs + kMaxElementwiseCode;

struct OpInfo {
  const char* name;
  const char* in;  // lane types: f, i
  char out;
};
// In the order of ElementOp.
constexpr OpInfo kOps[kElementOps] = {
    {"const", "", 'f'},       {"const_i32", "", 'i'},   {"add", "ff", 'f'},        {"sub", "ff", 'f'},
    {"mul", "ff", 'f'},       {"div", "ff", 'f'},       {"max", "ff", 'f'},        {"min", "ff", 'f'},
    {"pow", "ff", 'f'},       {"neg", "f", 'f'},        {"abs", "f", 'f'},         {"sign", "f", 'f'},
    {"exp", "f", 'f'},        {"log", "f", 'f'},        {"log1p", "f", 'f'},       {"sqrt", "f", 'f'},
    {"rsqrt", "f", 'f'},      {"reciprocal", "f", 'f'}, {"tanh", "f", 'f'},        {"erf", "f", 'f'},
    {"sigmoid", "f", 'f'},    {"sin", "f", 'f'},        {"cos", "f", 'f'},         {"floor", "f", 'f'},
    {"lt", "ff", 'i'},        {"le", "ff", 'i'},        {"eq", "ff", 'i'},         {"ne", "ff", 'i'},
    {"add_i32", "ii", 'i'},   {"sub_i32", "ii", 'i'},   {"mul_i32", "ii", 'i'},    {"div_i32", "ii", 'i'},
    {"mod_i32", "ii", 'i'},   {"max_i32", "ii", 'i'},   {"min_i32", "ii", 'i'},    {"lt_i32", "ii", 'i'},
    {"le_i32", "ii", 'i'},    {"eq_i32", "ii", 'i'},    {"ne_i32", "ii", 'i'},     {"and", "ii", 'i'},
    {"or", "ii", 'i'},        {"xor", "ii", 'i'},       {"not", "i", 'i'},         {"select", "iff", 'f'},
    {"select_i32", "iii", 'i'}, {"to_i32", "f", 'i'},   {"to_f32", "i", 'f'},
};

bool is_float(DType t) { return t == DType::kF32 || t == DType::kF16 || t == DType::kBF16; }

struct Step {
  int op;
  int in[3];  // registers
  int out;
  uint32_t bits;  // of a constant
};

// Where the lanes of a register are found.
enum class Place : uint8_t { kSlot, kTensor, kOutput };

struct Plan {
  int inputs, steps, registers, slots;
  int rank;                                  // of the collapsed output
  int64_t dims[kMaxRank];
  int64_t strides[kMaxElementwiseInputs][kMaxRank];
  bool full[kMaxElementwiseInputs];          // as large as the output: read by flat index
  bool scalar[kMaxElementwiseInputs];
  bool once[kMaxRegisters];                  // the same lanes for all tiles: filled once a range
  Place place[kMaxRegisters];
  int16_t slot[kMaxRegisters];
  int16_t last_use[kMaxRegisters];
  Step code[kMaxElementwiseCode];
};

// Merges dimensions that every input walks as one.
void collapse(const Instruction& instruction, Plan& p) {
  const Shape& shape = instruction.out[0]->shape;
  const int64_t size = shape.size();
  bool flat = true;
  for (int i = 0; i < p.inputs; i++) {
    const int64_t n = instruction.in[i]->shape.size();
    p.full[i] = n == size;
    p.scalar[i] = n == 1 && size != 1;
    flat = flat && (p.full[i] || p.scalar[i]);
  }
  if (flat) {
    p.rank = 1;
    p.dims[0] = size;
    for (int i = 0; i < p.inputs; i++) p.strides[i][0] = p.full[i];
    return;
  }
  p.rank = 0;
  int64_t step[kMaxElementwiseInputs];
  for (int i = 0; i < p.inputs; i++) step[i] = 1;
  // From the innermost dimension outwards; dims[0] is the innermost until the reversal below.
  for (int d = shape.rank - 1; d >= 0; d--) {
    const int64_t n = shape[d];
    int64_t stride[kMaxElementwiseInputs];
    for (int i = 0; i < p.inputs; i++) {
      const Shape& s = instruction.in[i]->shape;
      const int own = d - (shape.rank - s.rank);
      const int64_t m = own >= 0 ? s[own] : 1;
      stride[i] = m == 1 ? 0 : step[i];
      step[i] *= m;
    }
    if (n == 1) continue;
    bool merge = p.rank > 0;
    for (int i = 0; merge && i < p.inputs; i++)
      merge = stride[i] == p.strides[i][p.rank - 1] * p.dims[p.rank - 1];
    if (merge) {
      p.dims[p.rank - 1] *= n;
    } else {
      for (int i = 0; i < p.inputs; i++) p.strides[i][p.rank] = stride[i];
      p.dims[p.rank++] = n;
    }
  }
  std::reverse(p.dims, p.dims + p.rank);
  for (int i = 0; i < p.inputs; i++) std::reverse(p.strides[i], p.strides[i] + p.rank);
}

// Reads the code (already checked) and gives registers their places.
void make_plan(const Instruction& instruction, Plan& p) {
  const std::vector<int64_t>& code = instruction.attrs[0].ints;
  p.inputs = int(instruction.in.size());
  p.steps = int(code.size() / 4);
  p.registers = p.inputs + p.steps;
  collapse(instruction, p);
  for (int r = 0; r < p.registers; r++) p.last_use[r] = -1;
  for (int s = 0; s < p.steps; s++) {
    Step& step = p.code[s];
    step.op = int(code[4 * s]);
    step.out = p.inputs + s;
    step.bits = uint32_t(code[4 * s + 1]);
    const int arity = int(std::strlen(kOps[step.op].in));
    for (int k = 0; k < 3; k++) {
      step.in[k] = k < arity ? int(code[4 * s + 1 + k]) : -1;
      if (k < arity) p.last_use[step.in[k]] = int16_t(s);
    }
  }
  const int result = p.registers - 1;
  p.last_use[result] = int16_t(p.steps);
  const DType out_type = instruction.out[0]->dtype;
  const bool in_place = dtype_size(out_type) == 4;
  p.slots = 0;
  int free_slots[kMaxRegisters], free_count = 0;
  const auto take = [&] { return int16_t(free_count ? free_slots[--free_count] : p.slots++); };
  // Slots of inputs and constants are never shared: inputs are all brought in before the first step.
  for (int i = 0; i < p.inputs; i++) {
    const DType t = instruction.in[i]->dtype;
    p.once[i] = p.scalar[i];
    const bool readable = dtype_size(t) == 4 && (p.full[i] || p.strides[i][p.rank - 1] == 1);
    const bool rows_stay_whole = p.full[i] || p.rank == 1 || p.dims[p.rank - 1] >= kCrossRows;
    p.place[i] = readable && rows_stay_whole && !p.scalar[i] ? Place::kTensor : Place::kSlot;
    if (p.last_use[i] >= 0 && p.place[i] == Place::kSlot) p.slot[i] = take();
  }
  for (int s = 0; s < p.steps; s++) {
    const int r = p.inputs + s;
    p.once[r] = p.code[s].op <= int(ElementOp::kConstI32);
    p.place[r] = r == result && in_place && !p.once[r] ? Place::kOutput : Place::kSlot;
    if (p.once[r]) p.slot[r] = int16_t(p.slots++);
  }
  for (int s = 0; s < p.steps; s++) {
    const Step& step = p.code[s];
    for (int k = 0; k < 3; k++) {  // an operation may write over its own operands
      const int r = step.in[k];
      const bool repeated = (k > 0 && r == step.in[0]) || (k > 1 && r == step.in[1]);
      if (r >= p.inputs && !repeated && !p.once[r] && p.last_use[r] == s)
        free_slots[free_count++] = p.slot[r];
    }
    if (!p.once[step.out] && p.place[step.out] == Place::kSlot) {
      p.slot[step.out] = take();
      if (p.last_use[step.out] < 0) free_slots[free_count++] = p.slot[step.out];
    }
  }
}

// Element offset of the row that holds flat position `row`·inner, for one input.
int64_t row_offset(const Plan& p, int input, int64_t row) {
  int64_t offset = 0;
  for (int d = p.rank - 2; d >= 0; d--) {
    offset += row % p.dims[d] * p.strides[input][d];
    row /= p.dims[d];
  }
  return offset;
}

struct Machine {
  const Instruction& instruction;
  const Plan& p;
  const MathTable& math;

  void* lanes_of(int r, std::byte* scratch) const { return scratch + p.slot[r] * kTile * 4; }

  // Lanes [start, start + n) of an input, in place or brought into its tile.
  const void* bring(int i, int64_t start, int64_t n, std::byte* scratch) const {
    const Operand& x = *instruction.in[i];
    const int64_t size = dtype_size(x.dtype);
    const auto load = math.load[static_cast<int>(x.dtype)];
    if (p.full[i]) {
      if (p.place[i] == Place::kTensor) return x.data + start * size;
      load(lanes_of(i, scratch), x.data + start * size, n);
      return lanes_of(i, scratch);
    }
    const int64_t inner = p.dims[p.rank - 1], stride = p.strides[i][p.rank - 1];
    int64_t row = start / inner, column = start % inner;
    if (p.place[i] == Place::kTensor) return x.data + (row_offset(p, i, row) + column) * size;
    auto* tile = static_cast<uint32_t*>(lanes_of(i, scratch));
    for (int64_t done = 0; done < n; row++, column = 0) {
      const int64_t length = std::min(n - done, inner - column);
      const std::byte* from = x.data + (row_offset(p, i, row) + column * stride) * size;
      if (stride == 1) {
        load(tile + done, from, length);
      } else {
        uint32_t bits;
        load(&bits, from, 1);
        math.fill(tile + done, bits, length);
      }
      done += length;
    }
    return tile;
  }

  void run(int64_t begin, int64_t end, std::byte* scratch) const {
    const Operand& y = *instruction.out[0];
    const int64_t y_size = dtype_size(y.dtype), inner = p.dims[p.rank - 1];
    const bool whole_rows = p.rank > 1 && inner >= kCrossRows;
    const int result = p.registers - 1;
    const void* lanes[kMaxRegisters];
    for (int r = 0; r < p.registers; r++) {
      if (!p.once[r] || p.last_use[r] < 0) continue;
      uint32_t bits;
      if (r < p.inputs) {
        math.load[static_cast<int>(instruction.in[r]->dtype)](&bits, instruction.in[r]->data, 1);
      } else {
        bits = p.code[r - p.inputs].bits;
      }
      math.fill(lanes_of(r, scratch), bits, kTile);
      lanes[r] = lanes_of(r, scratch);
    }
    for (int64_t start = begin; start < end;) {
      int64_t n = std::min(kTile, end - start);
      if (whole_rows) n = std::min(n, inner - start % inner);
      for (int i = 0; i < p.inputs; i++) {
        if (!p.once[i] && p.last_use[i] >= 0) lanes[i] = bring(i, start, n, scratch);
      }
      for (int s = 0; s < p.steps; s++) {
        const Step& step = p.code[s];
        if (p.once[step.out]) continue;
        void* out =
            p.place[step.out] == Place::kOutput ? y.data + start * y_size : lanes_of(step.out, scratch);
        math.op[step.op](out, lanes[step.in[0]], step.in[1] < 0 ? nullptr : lanes[step.in[1]],
                         step.in[2] < 0 ? nullptr : lanes[step.in[2]], n);
        lanes[step.out] = out;
      }
      if (p.place[result] != Place::kOutput || p.steps == 0) {
        math.store[static_cast<int>(y.dtype)](y.data + start * y_size, lanes[result], n);
      }
      start += n;
    }
  }
};

void prepare(Instruction& instruction) {
  require_counts(instruction, 0, kMaxElementwiseInputs, 1, 1);
  const std::vector<int64_t>& code = instruction.attrs[0].ints;
  const int inputs = int(instruction.in.size());
  const Operand* y = instruction.out[0];
  require_dense(instruction, y, "output is a weight, expected a tensor");
  require_that(instruction, code.size() % 4 == 0, "code is not a list of [op, a, b, c]");
  const int steps = int(code.size() / 4);
  if (code.size() > 4 * kMaxElementwiseCode) {
    fail(ErrorCode::kProgram, "[elementwise] got %zu instructions, expected at most %d", code.size() / 4,
         kMaxElementwiseCode);
  }
  require_that(instruction, inputs + steps > 0, "no inputs and no code, expected a result");
  char types[kMaxRegisters];
  for (int i = 0; i < inputs; i++) {
    const Operand* x = instruction.in[i];
    require_dense(instruction, x, "an input is missing or a weight, expected a tensor");
    types[i] = is_float(x->dtype) ? 'f' : 'i';
    bool fits = x->shape.rank <= y->shape.rank;
    for (int d = 0; fits && d < x->shape.rank; d++) {
      const int64_t n = x->shape[d], m = y->shape[y->shape.rank - x->shape.rank + d];
      fits = n == m || n == 1;
    }
    if (!fits) {
      fail(ErrorCode::kProgram, "[elementwise] input %d got shape %s, expected one that broadcasts to %s", i,
           shape_text(x->shape).c_str(), shape_text(y->shape).c_str());
    }
  }
  for (int s = 0; s < steps; s++) {
    const int64_t op = code[4 * s];
    if (op < 0 || op >= kElementOps) {
      fail(ErrorCode::kProgram, "[elementwise] instruction %d got opcode %lld, expected 0…%d", s,
           (long long)op, kElementOps - 1);
    }
    const OpInfo& info = kOps[op];
    const int arity = int(std::strlen(info.in));
    for (int k = 0; k < arity; k++) {
      const int64_t r = code[4 * s + 1 + k];
      if (r < 0 || r >= inputs + s) {
        fail(ErrorCode::kProgram, "[elementwise] instruction %d (%s) got register %lld, expected 0…%d", s,
             info.name, (long long)r, inputs + s - 1);
      }
      if (types[r] != info.in[k]) {
        fail(ErrorCode::kProgram, "[elementwise] instruction %d (%s) got %s lanes as operand %d, expected %s",
             s, info.name, types[r] == 'f' ? "f32" : "i32", k, info.in[k] == 'f' ? "f32" : "i32");
      }
    }
    types[inputs + s] = info.out;
  }
  if ((types[inputs + steps - 1] == 'f') != is_float(y->dtype)) {
    fail(ErrorCode::kProgram,
         "[elementwise] got a result of %s lanes for an output of %s, expected a conversion",
         types[inputs + steps - 1] == 'f' ? "f32" : "i32", dtype_name(y->dtype));
  }
  Plan plan;
  make_plan(instruction, plan);
  instruction.worker_scratch = plan.slots * kTile * 4;
}

void run(const Instruction& instruction, const Context& context) {
  const int64_t size = instruction.out[0]->shape.size();
  if (size == 0) return;
  Plan plan;
  make_plan(instruction, plan);
  const Machine machine{instruction, plan, math_table(context.tier)};
  parallel_ranges(
      context, size, plan.steps + plan.inputs,
      [&](int64_t begin, int64_t end, int worker) { machine.run(begin, end, context.scratch_of(worker)); },
      kTile);
}

}  // namespace

std::vector<std::string_view> elementwise_opcodes() {
  std::vector<std::string_view> names;
  for (const OpInfo& op : kOps) names.push_back(op.name);
  return names;
}

void register_elementwise(KernelRegistry& registry) {
  // Inputs of a tile are read before it is written, and a step reads the lanes it writes at most.
  registry.add({"elementwise", "code:ints", prepare, run, InPlace::kArena});
}

}  // namespace switchyard
