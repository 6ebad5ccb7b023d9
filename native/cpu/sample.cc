// `sample` draws a token for each row of logits through the row's sampler chain; `process_logits` gives the scores that the
// chain leaves, -inf where it removed a token.
//
// A row is i32 [chain offset, chain words, history offset, history length, seed, step]; offsets point into `data`, which
// holds all chains (samplers/record.h) and histories. So one program serves every chain.
//
// Where there are fewer rows than threads, threads share the passes over a row (samplers/row.h).
#include <cmath>

#include "cpu/parallel.h"
#include "cpu/philox.h"
#include "cpu/samplers/kinds.h"

namespace switchyard {
namespace {

using samplers::Record;
using samplers::Row;
using samplers::RowMemory;

constexpr int64_t kRowWords = 6;
// Instead of a token, where a row has none; src/generate/steps/sampling.ts makes errors of them.
constexpr int32_t kNothingLeft = -1, kUnusableLogits = -2;

struct Kind {
  void (*run)(Row&, Record&);
  bool edits;
};
#define SY_KIND(name, edits) {samplers::name, edits},
constexpr Kind kKinds[] = {SY_SAMPLERS(SY_KIND)};
#undef SY_KIND
constexpr size_t kTemperature = 1;

void prepare_rows(Instruction& instruction) {
  const Operand* logits = instruction.in[0];
  require_tensor(instruction, logits, "logits", DType::kF32, 2);
  require_tensor(instruction, instruction.in[1], "rows", DType::kI32, 2);
  require_tensor(instruction, instruction.in[2], "data", DType::kI32, 1);
  require_dim(instruction, "rows of rows", instruction.in[1]->shape[0], logits->shape[0]);
  require_dim(instruction, "columns of rows", instruction.in[1]->shape[1], kRowWords);
  require_that(instruction, logits->shape[1] > 0 && logits->shape[1] <= INT32_MAX - 64,
               "vocabulary is empty or beyond i32");
  instruction.worker_scratch = RowMemory::bytes(logits->shape[1]);
}

void prepare_sample(Instruction& instruction) {
  require_counts(instruction, 3, 3, 3, 3);
  prepare_rows(instruction);
  require_tensor(instruction, instruction.out[0], "tokens", DType::kI32, 1);
  require_tensor(instruction, instruction.out[1], "log-probabilities", DType::kF32, 1);
  require_tensor(instruction, instruction.out[2], "chosen log-probabilities", DType::kF32, 1);
  for (const Operand* y : instruction.out)
    require_dim(instruction, "rows of an output", y->shape[0], instruction.in[0]->shape[0]);
}

void prepare_process(Instruction& instruction) {
  require_counts(instruction, 3, 3, 1, 1);
  prepare_rows(instruction);
  require_tensor(instruction, instruction.out[0], "scores", DType::kF32, 2);
  for (int axis : {0, 1})
    require_dim(instruction, "size of scores", instruction.out[0]->shape[axis], instruction.in[0]->shape[axis]);
}

std::span<const int32_t> part_of(const Operand* data, uint32_t offset, uint32_t length) {
  const uint64_t size = uint64_t(data->shape[0]);
  if (uint64_t(offset) + length > size) {
    fail(ErrorCode::kOption, "[sample] got %u words from %u on, expected them within data of %llu", length, offset,
         (unsigned long long)size);
  }
  return {data->as<int32_t>() + offset, length};
}

// fn(kind, record) for each record of a chain.
template <class F>
void each_record(std::span<const int32_t> words, const F& fn) {
  Record chain(words);
  while (!chain.done()) {
    const uint32_t kind = chain.index();
    if (kind >= std::size(kKinds)) fail(ErrorCode::kOption, "[sample] got a processor of kind %u, expected a known one", kind);
    Record record(chain.list());
    fn(kind, record);
    if (!record.done()) fail(ErrorCode::kOption, "[sample] got a processor of kind %u with words to spare", kind);
  }
}

// Sends each row through its chain and hands it to finish(r, row).
template <class F>
void run_rows(const Instruction& instruction, const Context& context, const F& finish) {
  const Operand* logits = instruction.in[0];
  const int64_t rows = logits->shape[0], v = logits->shape[1];
  const bool share = rows < context.threads;
  const auto one = [&](int64_t r, int worker) {
    const auto* words = reinterpret_cast<const uint32_t*>(instruction.in[1]->as<int32_t>() + r * kRowWords);
    const auto chain = part_of(instruction.in[2], words[0], words[1]);
    bool edits = false;
    int temperatures = 0;
    each_record(chain, [&](uint32_t kind, Record& record) {
      edits = edits || kKinds[kind].edits;
      temperatures += kind == kTemperature;
      record.skip();
    });
    Row row(math_table(context.tier), share ? &context : nullptr, RowMemory(context.scratch_of(worker), v),
            logits->as<float>() + r * v, v, edits || temperatures > 1);
    row.history = part_of(instruction.in[2], words[2], words[3]);
    row.seed = words[4];
    row.step = words[5];
    if (row.usable()) {
      each_record(chain, [&](uint32_t kind, Record& record) { kKinds[kind].run(row, record); });
    }
    finish(r, row);
  };
  if (share) {
    for (int64_t r = 0; r < rows; r++) one(r, 0);
  } else {
    context.parallel_for(rows, one);
  }
}

void run_sample(const Instruction& instruction, const Context& context) {
  auto* tokens = instruction.out[0]->as<int32_t>();
  auto* raw = instruction.out[1]->as<float>();
  auto* chosen = instruction.out[2]->as<float>();
  run_rows(instruction, context, [&](int64_t r, Row& row) {
    raw[r] = chosen[r] = 0;
    if (row.usable()) row.weigh();
    if (!row.usable() || row.size() == 0) {
      tokens[r] = row.usable() ? kNothingLeft : kUnusableLogits;
      return;
    }
    const auto words = philox(row.step, row.seed);
    const int64_t slot = row.pick(unit_double(words[0], words[1]));
    tokens[r] = row.id(slot);
    raw[r] = float(row.raw_logprob(tokens[r]));
    chosen[r] = float(std::log(double(row.weights()[slot]) / row.total()));
  });
}

void run_process(const Instruction& instruction, const Context& context) {
  const int64_t v = instruction.in[0]->shape[1];
  auto* scores = instruction.out[0]->as<float>();
  run_rows(instruction, context, [&](int64_t r, Row& row) {
    float* y = scores + r * v;
    if (!row.usable()) {
      fail(ErrorCode::kOption, "[process_logits] got a largest logit that is no finite number in row %lld, expected one",
           (long long)r);
    }
    row.list_thinned();
    std::fill_n(y, v, -INFINITY);
    for (int64_t i = 0; i < row.size(); i++) y[row.id(i)] = row.score(i) / row.divisor();
  });
}

}  // namespace

void register_sample(KernelRegistry& registry) {
  registry.add({"sample", "", prepare_sample, run_sample});
  registry.add({"process_logits", "", prepare_process, run_process});
}

}  // namespace switchyard
