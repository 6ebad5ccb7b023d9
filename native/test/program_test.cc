// The loader refuses what it must, mutated programs never crash, the executor runs, aborts and stops.
#include "runtime/program.h"

#include <chrono>
#include <functional>
#include <random>

#include "check.h"
#include "program_builder.h"
#include "runtime/executor.h"

using namespace switchyard;
using namespace switchyard::test;

namespace {

// ---- kernels of this test ----

void prepare_two(Instruction& i) {
  require_counts(i, 2, 2, 1, 1);
  require_tensor(i, i.in[0], "a", DType::kF32, 1);
  require_tensor(i, i.in[1], "b", DType::kF32, 1);
  require_tensor(i, i.out[0], "y", DType::kF32, 1);
  require_dim(i, "b", i.in[1]->shape[0], i.in[0]->shape[0]);
  require_dim(i, "y", i.out[0]->shape[0], i.in[0]->shape[0]);
  i.shared_scratch = 64;
  i.worker_scratch = 100;
}
void run_add(const Instruction& i, const Context& c) {
  const float *a = i.in[0]->as<float>(), *b = i.in[1]->as<float>();
  float* y = i.out[0]->as<float>();
  c.shared_scratch[63] = std::byte{1};
  c.parallel_for(i.out[0]->shape[0], [&](int64_t n, int worker) {
    std::memset(c.scratch_of(worker), worker, 100);
    y[n] = a[n] + b[n];
  });
}

void prepare_power(Instruction& i) {
  require_counts(i, 1, 1, 1, 1);
  require_tensor(i, i.in[0], "x", DType::kF32, 1);
  require_tensor(i, i.out[0], "y", DType::kF32, 1);
  require_dim(i, "y", i.out[0]->shape[0], i.in[0]->shape[0]);
  require_that(i, i.attrs[0].i >= 1 && i.attrs[0].i <= 9, "got a wrong power, expected 1 to 9");
  i.worker_scratch = i.attrs[0].i * 1000;
}
void run_power(const Instruction& i, const Context& c) {
  std::memset(c.worker_scratch, 7, i.worker_scratch);
  for (int64_t n = 0; n < i.out[0]->shape[0]; n++) {
    float y = static_cast<float>(i.attrs[1].f);
    for (int64_t p = 0; p < i.attrs[0].i; p++) y *= i.in[0]->as<float>()[n];
    i.out[0]->as<float>()[n] = y;
  }
}

void prepare_none(Instruction&) {}
void run_nap(const Instruction& i, const Context&) {
  std::this_thread::sleep_for(std::chrono::milliseconds(i.attrs[0].i));
  if (!i.out.empty() && i.out[0]) std::memset(i.out[0]->data, 0, i.out[0]->shape.size() * 4);
}

KernelRegistry test_kernels() {
  KernelRegistry r;
  r.add({"add", "", prepare_two, run_add});
  r.add({"power", "power:int,factor:float", prepare_power, run_power, InPlace::kArena});
  r.add({"store", "", prepare_two, run_add, InPlace::kAny});
  r.add({"nap", "ms:int", prepare_none, run_nap});
  r.add({"list", "values:ints", prepare_none, [](const Instruction&, const Context&) {}});
  return r;
}

// ---- a good program: out = ((in0 + constant) ^ slot 0 * 2) + in1, through the arena ----

ProgramText good() {
  ProgramText p;
  p.inputs = 2, p.constants = 1, p.outputs = 1, p.ints = 1, p.arena = 128;
  p.buffers = {{0, 0, 0, 0, {4}}, {0, 0, 1, 0, {4}}, {1, 0, 0, 0, {4}}, {2, 0, 0, 0, {4}},
               {2, 0, 0, 0, {2, 2}}, {3, 0, 0, 0, {4}}};
  p.instructions = {{"add", {0, 2}, {3}, {}},
                    {"power", {3}, {3}, {slot_attr(0), float_attr(2)}},
                    {"add", {3, 1}, {5}, {}}};
  return p;
}

struct Fixture {
  std::shared_ptr<MemoryUsage> usage = std::make_shared<MemoryUsage>();
  std::shared_ptr<BufferPool> pool = std::make_shared<BufferPool>(usage);
  KernelRegistry kernels = test_kernels();
  std::shared_ptr<Buffer> constant = floats({10, 20, 30, 40});

  std::shared_ptr<Buffer> floats(std::vector<float> values) {
    auto buffer = pool->allocate(static_cast<int64_t>(values.size() * 4), false);
    std::memcpy(buffer->data(), values.data(), values.size() * 4);
    return buffer;
  }
  std::shared_ptr<Program> load(const std::vector<std::byte>& binary) {
    return Program::load(binary, kernels, {constant}, {});
  }
  std::string refusal(const std::function<void(ProgramText&)>& change) {
    ProgramText p = good();
    change(p);
    return error_of([&] { load(p.encode()); });
  }
};

void refuses_wrong_programs() {
  Fixture f;
  CHECK(f.refusal([](ProgramText&) {}) == "");
  const std::vector<std::pair<const char*, std::function<void(ProgramText&)>>> cases = {
      {"got magic", [](ProgramText& p) { p.magic++; }},
      {"got version 2", [](ProgramText& p) { p.version = 2; }},
      {"expected 2 and 0", [](ProgramText& p) { p.constants = 2; }},
      {"expected 1 and 3", [](ProgramText& p) { p.weights = 3; }},
      {"inputs", [](ProgramText& p) { p.inputs = 0x7FFFFFFF; }},
      {"outputs", [](ProgramText& p) { p.outputs = 0x7FFFFFFF; }},
      {"no buffer for output 1", [](ProgramText& p) { p.outputs = 2; }},
      {"arena of -1", [](ProgramText& p) { p.arena = -1; }},
      {"expected 0 to 2^46", [](ProgramText& p) { p.arena = INT64_MAX; }},
      {"in an arena of 8", [](ProgramText& p) { p.arena = 8; }},
      {"kind 5", [](ProgramText& p) { p.buffers[0].kind = 5; }},
      {"dtype 7", [](ProgramText& p) { p.buffers[0].dtype = 7; }},
      {"rank 9", [](ProgramText& p) { p.buffers[0].dims.assign(9, 1); }},
      {"negative size", [](ProgramText& p) { p.buffers[3].dims = {-1}; }},
      {"2^46 bytes", [](ProgramText& p) { p.buffers[3].dims = {int64_t{1} << 45}; }},
      {"2^46 bytes", [](ProgramText& p) { p.buffers[3].dims = {0, int64_t{1} << 45}; }},
      {"beyond 64 bits", [](ProgramText& p) { p.buffers[3].dims = {5, INT64_MAX / 5}; }},
      {"multiple of 64", [](ProgramText& p) { p.buffers[3].offset = 32; }},
      {"multiple of 64", [](ProgramText& p) { p.buffers[3].offset = -64; }},
      {"multiple of 64", [](ProgramText& p) { p.buffers[3].offset = INT64_MAX / 64 * 64; }},
      {"offset 64", [](ProgramText& p) { p.buffers[0].offset = 64; }},
      {"input 2", [](ProgramText& p) { p.buffers[0].index = 2; }},
      {"constant 1", [](ProgramText& p) { p.buffers[2].index = 1; }},
      {"another view of input 0", [](ProgramText& p) { p.buffers[1] = {0, 0, 0, 0, {5}}; }},
      {"constant 0 of 16 bytes, expected 20", [](ProgramText& p) { p.buffers[2].dims = {5}; }},
      {"weight 0", [](ProgramText& p) { p.buffers[2].kind = 4; }},
      {"kernel 'nothing'", [](ProgramText& p) { p.instructions[0].kernel = "nothing"; }},
      {"operand 6", [](ProgramText& p) { p.instructions[0].in[0] = 6; }},
      {"got 1 inputs", [](ProgramText& p) { p.instructions[0].in.pop_back(); }},
      {"got nothing", [](ProgramText& p) { p.instructions[0].in[0] = kAbsent; }},
      {"before anything is written", [](ProgramText& p) { p.buffers[4] = {2, 0, 0, 64, {4}}, p.instructions[0].in[0] = 4; }},
      {"before anything is written", [](ProgramText& p) { p.instructions[0].in[0] = 5; }},
      {"over input buffer", [](ProgramText& p) { p.instructions[2] = {"add", {3, 1}, {4}, {}}; }},
      {"over input buffer",
       [](ProgramText& p) {
         p.buffers[3].dims = {20}, p.buffers[4] = {2, 0, 0, 64, {4}};
         p.instructions[0] = {"nap", {}, {3}, {int_attr(0)}};
         p.instructions[1].out = {4};
       }},
      {"over each other", [](ProgramText& p) { p.instructions[0] = {"nap", {0}, {3, 4}, {int_attr(0)}}; }},
      {"to write, expected", [](ProgramText& p) { p.instructions[0].out = {1}; }},
      {"to write, expected", [](ProgramText& p) { p.instructions[1] = {"power", {0}, {0}, {int_attr(2), float_attr(1)}}; }},
      {"no instruction that writes output 0", [](ProgramText& p) { p.instructions.pop_back(); }},
      {"got 1 attributes, expected 2", [](ProgramText& p) { p.instructions[1].attrs.pop_back(); }},
      {"attribute type 1", [](ProgramText& p) { p.instructions[1].attrs[0] = float_attr(1); }},
      {"attribute type 3", [](ProgramText& p) { p.instructions[1].attrs[1] = slot_attr(0); }},
      {"attribute type 3 with 2", [](ProgramText& p) { p.instructions[1].attrs[0].values = {0, 0}; }},
      {"attribute type 0 with 0", [](ProgramText& p) { p.instructions[1].attrs[0] = {0, {}}; }},
      {"run-time integer 1", [](ProgramText& p) { p.instructions[1].attrs[0] = slot_attr(1); }},
      {"run-time integer -1", [](ProgramText& p) { p.instructions[1].attrs[0] = slot_attr(-1); }},
      {"wrong power", [](ProgramText& p) { p.instructions[1].attrs[0] = int_attr(10); }},
  };
  for (const auto& [expected, change] : cases) CHECK(holds(f.refusal(change), expected));

  std::vector<std::byte> binary = good().encode();
  for (size_t n = 0; n < binary.size(); n++) {
    const std::vector<std::byte> cut(binary.begin(), binary.begin() + static_cast<int64_t>(n));
    if (error_of([&] { f.load(cut); }).find("ERR_PROGRAM") != 0) CHECK(!"a cut program was accepted");
  }
  binary.resize(binary.size() + 8);
  CHECK(holds(error_of([&] { f.load(binary); }), "after the last instruction"));
}

void in_place_writes() {
  Fixture f;
  const auto store = [](ProgramText& p) { p.instructions[0] = {"store", {0, 1}, {0}, {}}, p.instructions[1].in = {0}; };
  CHECK(f.refusal(store) == "");
  CHECK(holds(f.refusal([&](ProgramText& p) { store(p), p.instructions[0].out = {1}, p.instructions[0].in = {0, 0}; }),
              "to write, expected"));
  ProgramText p = good();
  store(p);
  auto program = f.load(p.encode());
  auto a = f.floats({1, 2, 3, 4}), b = f.floats({1, 1, 1, 1});
  const std::vector<std::shared_ptr<Buffer>> apart = {a, b}, same = {a, a}, constant = {f.constant, b}, one = {nullptr};
  CHECK(error_of([&] { program->check_run(apart, one, 1); }) == "");
  CHECK(holds(error_of([&] { program->check_run(same, one, 1); }), "expected them apart"));
  CHECK(holds(error_of([&] { program->check_run(constant, one, 1); }), "expected them apart"));
}

void bound_outputs() {
  Fixture f;
  auto program = f.load(good().encode());
  const auto whole = f.pool->allocate(256, true);
  const auto part = [&](int64_t offset, int64_t bytes = 16) { return std::make_shared<Buffer>(whole, offset, bytes); };
  CHECK(holds(error_of([&] { part(8); }), "a multiple of 64"));
  CHECK(holds(error_of([&] { part(-64); }), "within 256"));
  CHECK(holds(error_of([&] { part(192, 65); }), "within 256"));
  CHECK(holds(error_of([&] { part(320, 0); }), "within 256"));
  CHECK(part(64)->overlaps(*part(64)) && part(0, 128)->overlaps(*part(64)) && whole->overlaps(*part(192)));
  CHECK(!part(0, 64)->overlaps(*part(64)) && !part(64, 0)->overlaps(*whole) && !whole->overlaps(*f.constant));

  const std::vector<std::shared_ptr<Buffer>> inputs = {part(0), part(64)};
  const auto check = [&](std::shared_ptr<Buffer> output) {
    return error_of([&] { program->check_run(inputs, std::vector{std::move(output)}, 1); });
  };
  CHECK(check(part(128)) == "");
  CHECK(holds(check(part(0)), "expected them apart"));
  CHECK(holds(check(f.constant), "expected them apart"));
  CHECK(holds(check(part(128, 20)), "got 20 bytes for output 0"));
  CHECK(holds(error_of([&] { program->check_run(inputs, {}, 1); }), "got 0 outputs"));
}

// ---- the executor ----

struct Run : Task {
  std::shared_ptr<Program> program;
  std::vector<std::shared_ptr<Buffer>> inputs, outputs;
  std::vector<int64_t> ints;
  RunOptions options;
  void perform(Executor& executor) override {
    outputs.assign(program->output_bytes().size(), nullptr);
    program->check_run(inputs, outputs, ints.size());
    executor.run(*program, inputs, outputs, ints, options);
  }
};

struct Runner {
  std::mutex mutex;
  std::condition_variable arrived;
  std::deque<std::unique_ptr<Task>> done;
  Executor executor;

  Runner(const Fixture& f, int threads)
      : executor(threads, f.pool, [this](std::unique_ptr<Task> task) {
          std::lock_guard lock(mutex);
          done.push_back(std::move(task));
          arrived.notify_one();
        }) {}
  std::unique_ptr<Run> wait() {
    std::unique_lock lock(mutex);
    arrived.wait(lock, [&] { return !done.empty(); });
    std::unique_ptr<Run> run(static_cast<Run*>(done.front().release()));
    done.pop_front();
    return run;
  }
};

std::unique_ptr<Run> make_run(const std::shared_ptr<Program>& program, std::vector<std::shared_ptr<Buffer>> inputs,
                              std::vector<int64_t> ints, RunOptions options = {}) {
  auto run = std::make_unique<Run>();
  run->program = program, run->inputs = std::move(inputs), run->ints = std::move(ints), run->options = options;
  return run;
}

std::string outcome(const Run& run) {
  return error_of([&] {
    if (run.error) std::rethrow_exception(run.error);
  });
}

void runs_programs() {
  Fixture f;
  auto program = f.load(good().encode());
  Runner runner(f, 3);
  for (int64_t power : {1, 2, 3, 2}) {
    RunOptions options{3, Tier::kScalar, power == 3, nullptr};
    runner.executor.submit(make_run(program, {f.floats({1, 2, 3, 4}), f.floats({5, 6, 7, 8})}, {power}, options));
    auto run = runner.wait();
    CHECK(outcome(*run) == "");
    for (int n = 0; n < 4; n++) {
      float base = static_cast<float>(n + 1 + 10 * (n + 1)), expected = 2;
      for (int64_t i = 0; i < power; i++) expected *= base;
      CHECK(reinterpret_cast<float*>(run->outputs[0]->data())[n] == expected + static_cast<float>(n + 5));
    }
  }
  const auto events = runner.executor.take_trace();
  CHECK(events.size() == 3 && events[1].kernel == "power" && events[1].step == 1 && events[1].duration >= 0);
  CHECK(runner.executor.take_trace().empty());

  // What a run may not bring; the runtime goes on after each.
  auto in = f.floats({1, 2, 3, 4});
  std::vector<std::pair<const char*, std::unique_ptr<Run>>> wrong;
  wrong.emplace_back("got 1 inputs", make_run(program, {in}, {1}));
  wrong.emplace_back("got 0 integers", make_run(program, {in, in}, {}));
  wrong.emplace_back("got 20 bytes", make_run(program, {in, f.floats({1, 2, 3, 4, 5})}, {1}));
  wrong.emplace_back("wrong power", make_run(program, {in, in}, {0}));
  wrong.emplace_back("wrong power", make_run(program, {in, in}, {0}));
  for (auto& [expected, run] : wrong) {
    runner.executor.submit(std::move(run));
    CHECK(holds(outcome(*runner.wait()), expected));
  }
  runner.executor.submit(make_run(program, {in, in}, {1}));
  CHECK(outcome(*runner.wait()) == "");
  CHECK(f.usage->arena > 0);
  runner.executor.stop();
  CHECK(f.usage->arena == 0);
  CHECK(holds(error_of([&] { runner.executor.submit(make_run(program, {in, in}, {1})); }), "ERR_DISPOSED"));
}

// A caller's thread and the runtime's take turns, and stop() waits for both.
void performs_on_the_calling_thread() {
  Fixture f;
  auto program = f.load(good().encode());
  const auto in = f.floats({1, 2, 3, 4});
  Runner runner(f, 2);
  auto here = make_run(program, {in, in}, {2});
  CHECK(std::isinf(program->microseconds()));
  CHECK(runner.executor.perform_here(*here));
  CHECK(reinterpret_cast<float*>(here->outputs[0]->data())[0] == 2 * 11 * 11 + 1);
  CHECK(program->microseconds() < 1e6);
  CHECK(holds(error_of([&] { runner.executor.perform_here(*make_run(program, {in, in}, {0})); }), "wrong power"));

  ProgramText p;
  p.outputs = 1;
  p.buffers = {{3, 0, 0, 0, {4}}};
  p.instructions.push_back({"nap", {}, {0}, {int_attr(20)}});
  auto slow = Program::load(p.encode(), f.kernels, {}, {});
  runner.executor.submit(make_run(slow, {}, {}));
  CHECK(!runner.executor.perform_here(*here));  // one waits or runs
  CHECK(outcome(*runner.wait()) == "");
  CHECK(slow->microseconds() >= 20e3);
  CHECK(runner.executor.perform_here(*here));

  std::string got;
  const auto naps_elsewhere = [&] {
    std::thread thread([&] { got = error_of([&] { runner.executor.perform_here(*make_run(slow, {}, {})); }); });
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    return thread;
  };
  std::thread other = naps_elsewhere();
  runner.executor.submit(make_run(program, {in, in}, {2}));  // waits for that thread
  CHECK(outcome(*runner.wait()) == "");
  other.join();
  CHECK(got == "");
  other = naps_elsewhere();
  runner.executor.stop();
  CHECK(f.usage->arena == 0);
  other.join();
  CHECK(holds(error_of([&] { runner.executor.perform_here(*here); }), "ERR_DISPOSED"));
}

void aborts_and_stops() {
  Fixture f;
  ProgramText p;
  p.outputs = 1;
  p.buffers = {{3, 0, 0, 0, {4}}};
  for (int i = 0; i < 400; i++) p.instructions.push_back({"nap", {}, {0}, {int_attr(5)}});
  auto program = Program::load(p.encode(), f.kernels, {}, {});
  {
    Runner runner(f, 2);
    std::atomic<bool> abort{false};
    runner.executor.submit(make_run(program, {}, {}, {1, Tier::kScalar, false, &abort}));
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    abort = true;
    CHECK(holds(outcome(*runner.wait()), "ERR_ABORTED [run] got an abort before instruction"));
  }
  for (int round = 0; round < 20; round++) {
    Runner runner(f, 2);
    for (int i = 0; i < 3; i++) runner.executor.submit(make_run(program, {}, {}));
    std::this_thread::sleep_for(std::chrono::milliseconds(round % 4));
    runner.executor.stop();
    for (int i = 0; i < 3; i++) CHECK(holds(outcome(*runner.wait()), "ERR_ABORTED"));
  }
}

// Bytes, fields and lengths changed at random: an Error or a program that runs, never a crash (ASan watches).
void mutations_never_crash() {
  Fixture f;
  Runner runner(f, 2);
  std::mt19937_64 random(7);
  const std::vector<std::byte> binary = good().encode();
  const int64_t special[] = {0, 1, -1, 2, 4, 5, 63, 64, 65, 1 << 20, INT32_MAX, INT32_MIN, INT64_MAX, INT64_MIN};
  int accepted = 0, refused = 0;
  for (int round = 0; round < 20000; round++) {
    std::vector<std::byte> bytes = binary;
    for (int n = 0; n <= static_cast<int>(random() % 3); n++) {
      const size_t at = random() % bytes.size();
      const int64_t value = special[random() % std::size(special)];
      if (random() % 2) bytes[at] = static_cast<std::byte>(random());
      else if (at + 8 <= bytes.size()) std::memcpy(&bytes[at & ~size_t{3}], &value, random() % 2 ? 4 : 8);
    }
    std::shared_ptr<Program> program;
    const std::string got = error_of([&] { program = f.load(bytes); });
    if (!program) {
      refused++;
      if (got.find("ERR_") != 0) CHECK(!"an error without a code");
      continue;
    }
    accepted++;
    if (program->arena_bytes() > (1 << 24)) continue;
    runner.executor.submit(make_run(program, {f.floats({1, 2, 3, 4}), f.floats({1, 2, 3, 4})}, {2}));
    runner.wait();
  }
  CHECK(accepted > 100);
  CHECK(refused > 5000);
}

void buffers_are_reused_and_counted() {
  Fixture f;
  const int64_t before = f.usage->buffers;
  for (int64_t bytes : {0, 1, 64, 1000, 100000, 3 << 20, 40 << 20}) {
    auto a = f.pool->allocate(bytes, true);
    CHECK(reinterpret_cast<uintptr_t>(a->data()) % 64 == 0);
    CHECK(std::all_of(a->data(), a->data() + bytes, [](std::byte b) { return b == std::byte{0}; }));
    std::memset(a->data(), 0xAB, static_cast<size_t>(bytes));
    const std::byte* at = a->data();
    CHECK(f.usage->buffers == before + bytes);
    CHECK(f.usage->external == (bytes >= kExternalBytes ? bytes : 0));
    a.reset();
    auto b = f.pool->allocate(bytes, true);
    CHECK(b->data() == at);
    CHECK(std::all_of(b->data(), b->data() + bytes, [](std::byte v) { return v == std::byte{0}; }));
  }
  CHECK(f.usage->buffers == before && f.usage->external == 0);
  CHECK(holds(error_of([&] { f.pool->allocate(-1, false); }), "ERR_OPTION"));
  CHECK(holds(error_of([&] { f.pool->allocate(int64_t{1} << 46, false); }), "ERR_OUT_OF_MEMORY"));
}

void the_outputs_of_a_step_are_kept_for_the_next() {
  Fixture f;
  constexpr int64_t kLarge = 48 << 20;
  const auto step = [&] {
    for (auto held = std::vector{f.pool->allocate(kLarge, false), f.pool->allocate(kLarge, false)}; !held.empty();) held.pop_back();
  };
  step();
  CHECK(f.pool->kept() == kLarge);  // one of both: no program asked for more
  f.pool->expect(2 * kLarge);
  step();
  CHECK(f.pool->kept() == 2 * kLarge);
  step();
  CHECK(f.pool->kept() == 2 * kLarge);
  f.pool->expect(100);
  CHECK(f.pool->kept() == kLarge);
}

}  // namespace

int main() {
  refuses_wrong_programs();
  in_place_writes();
  bound_outputs();
  runs_programs();
  performs_on_the_calling_thread();
  aborts_and_stops();
  mutations_never_crash();
  buffers_are_reused_and_counted();
  the_outputs_of_a_step_are_kept_for_the_next();
  return report();
}
