// createRuntime, disposeRuntime, createProgram, programInfo, run, bindRun, start, runHere, createAbort, abort, takeTrace
#include "binding/arguments.h"
#include "binding/weights.h"

namespace switchyard {

// A program with all that a run of it needs, checked. Outputs that are null are allocated by each run.
struct BoundRun {
  std::shared_ptr<Executor> executor;
  std::shared_ptr<Program> program;
  std::vector<std::shared_ptr<Buffer>> inputs, outputs;
  std::vector<int64_t> ints;
  RunOptions options;
};

template <>
struct HandleType<BoundRun> {
  static constexpr const char* name = "run";
  static constexpr napi_type_tag tag{0x5c1f3f0e6a4d4b05, 0x9d2b7c3e1f5a6805};
};

namespace {

constexpr int kMostThreads = 1024;
// A program that takes less may run on the JavaScript thread: the way to the runtime thread and back takes 15 to 75 µs, by
// whether the two are awake.
constexpr double kBriefMicroseconds = 50;

Napi::Value create_runtime(State& state, const Napi::CallbackInfo& info) {
  const Napi::Object options = object(info[0], "createRuntime");
  const auto threads = static_cast<int>(integer(options.Get("threads"), "createRuntime threads", 1, kMostThreads));
  return make_handle(info.Env(), state.make_executor(threads, pool_of(state, options.Get("device"))));
}

// Ends what runs at its next instruction (its promises reject with ERR_ABORTED), joins the threads, frees the arena.
Napi::Value dispose_runtime(State& state, const Napi::CallbackInfo& info) {
  std::shared_ptr<Executor>& holder = holder_of<Executor>(info[0]);
  if (holder) holder->stop();
  holder.reset();
  state.sync_memory(info.Env());
  return info.Env().Undefined();
}

// (binary, constants, weights, device)
Napi::Value create_program(State& state, const Napi::CallbackInfo& info) {
  // The lists come first: reading them may run JavaScript, after which the bytes could have moved.
  auto constants = handles<Buffer>(info[1], "createProgram constants");
  auto weights = program_weights(info[2]);
  const auto binary = bytes(info[0], "createProgram");
  auto program = Program::load(binary, cpu_kernels(), std::move(constants), std::move(weights),
                               pool_of(state, info[3])->device());
  program->id = state.next_program++;
  return make_handle(info.Env(), std::move(program));
}

Napi::Value program_info(State&, const Napi::CallbackInfo& info) {
  const auto program = handle<Program>(info[0]);
  Napi::Object result = Napi::Object::New(info.Env());
  result.Set("id", static_cast<double>(program->id));
  result.Set("instructions", static_cast<double>(program->size()));
  result.Set("arenaBytes", static_cast<double>(program->arena_bytes()));
  return result;
}

Napi::Value dispose_program(State& state, const Napi::CallbackInfo& info) {
  holder_of<Program>(info[0]).reset();
  state.sync_memory(info.Env());
  return info.Env().Undefined();
}

class RunTask : public PromiseTask {
 public:
  RunTask(std::shared_ptr<const BoundRun> bound, std::shared_ptr<std::atomic<bool>> abort, int threads)
      : bound_(std::move(bound)), outputs_(bound_->outputs), abort_(std::move(abort)), threads_(threads) {}

  void perform(Executor& executor) override {
    RunOptions options = bound_->options;
    options.abort = abort_.get();
    options.threads = threads_;
    executor.run(*bound_->program, bound_->inputs, outputs_, bound_->ints, options);
  }
  Napi::Value result(State&, Napi::Env env) override {
    Napi::Array fresh = Napi::Array::New(env);
    for (size_t i = 0; i < outputs_.size(); i++) {
      if (!bound_->outputs[i]) fresh.Set(fresh.Length(), make_handle(env, std::move(outputs_[i])));
    }
    return fresh;
  }

 private:
  std::shared_ptr<const BoundRun> bound_;
  std::vector<std::shared_ptr<Buffer>> outputs_;
  std::shared_ptr<std::atomic<bool>> abort_;
  int threads_;
};

std::shared_ptr<std::atomic<bool>> abort_option(Napi::Value value) {
  return value.IsUndefined() ? nullptr : handle<std::atomic<bool>>(value);
}

void read_options(Napi::Value value, RunOptions* options) {
  if (value.IsUndefined()) {
    options->tier = best_tier();
    return;
  }
  const Napi::Object object = switchyard::object(value, "run options");
  if (const Napi::Value threads = object.Get("threads"); !threads.IsUndefined()) {
    options->threads = static_cast<int>(integer(threads, "run threads", 1, kMostThreads));
  }
  options->tier = tier_option(object.Get("tier"), "run tier");
  if (const Napi::Value trace = object.Get("trace"); !trace.IsUndefined()) {
    options->trace = boolean(trace, "run trace");
  }
}

// (runtime, program, inputs, ints, options)
Napi::Value run(State& state, const Napi::CallbackInfo& info) {
  auto bound = std::make_shared<BoundRun>();
  bound->executor = handle<Executor>(info[0]);
  bound->program = handle<Program>(info[1]);
  bound->inputs = handles<Buffer>(info[2], "run inputs");
  bound->ints = integers(info[3], "run ints");
  bound->options.threads = bound->executor->threads();
  read_options(info[4], &bound->options);
  auto abort = info[4].IsUndefined() ? nullptr : abort_option(info[4].As<Napi::Object>().Get("abort"));
  bound->outputs.resize(bound->program->output_bytes().size());
  bound->program->check_run(bound->inputs, bound->outputs, bound->ints.size());
  const int threads = bound->options.threads;
  const auto executor = bound->executor;
  return state.submit(info.Env(), executor, std::make_unique<RunTask>(std::move(bound), std::move(abort), threads));
}

// (runtime, program, inputs, outputs, options)
Napi::Value bind_run(State&, const Napi::CallbackInfo& info) {
  auto bound = std::make_shared<BoundRun>();
  bound->executor = handle<Executor>(info[0]);
  bound->program = handle<Program>(info[1]);
  bound->inputs = handles<Buffer>(info[2], "bindRun inputs");
  bound->outputs = handles<Buffer>(info[3], "bindRun outputs", true);
  bound->options.threads = bound->executor->threads();
  read_options(info[4], &bound->options);
  bound->program->check_run(bound->inputs, bound->outputs, 0);
  return make_handle(info.Env(), std::move(bound));
}

// (bound, abort)
Napi::Value start(State& state, const Napi::CallbackInfo& info) {
  const auto& bound = handle<BoundRun>(info[0]);
  auto task = std::make_unique<RunTask>(bound, abort_option(info[1]), bound->options.threads);
  return state.submit(info.Env(), bound->executor, std::move(task));
}

// (bound, abort)
Napi::Value run_here(State& state, const Napi::CallbackInfo& info) {
  const auto& bound = handle<BoundRun>(info[0]);
  // A device is waited for elsewhere.
  if (bound->program->device() != nullptr || bound->program->microseconds() > kBriefMicroseconds) return info.Env().Null();
  RunTask task(bound, abort_option(info[1]), 1);  // waking another thread takes as long as the run
  if (!bound->executor->perform_here(task)) return info.Env().Null();
  state.sync_memory(info.Env());
  return task.result(state, info.Env());
}

Napi::Value dispose_run(State& state, const Napi::CallbackInfo& info) {
  holder_of<BoundRun>(info[0]).reset();
  state.sync_memory(info.Env());
  return info.Env().Undefined();
}

Napi::Value create_abort(State&, const Napi::CallbackInfo& info) {
  return make_handle(info.Env(), std::make_shared<std::atomic<bool>>(false));
}

Napi::Value abort_runs(State&, const Napi::CallbackInfo& info) {
  *handle<std::atomic<bool>>(info[0]) = true;
  return info.Env().Undefined();
}

Napi::Value take_trace(State&, const Napi::CallbackInfo& info) {
  const auto events = handle<Executor>(info[0])->take_trace();
  Napi::Array array = Napi::Array::New(info.Env(), events.size());
  for (uint32_t i = 0; i < events.size(); i++) {
    Napi::HandleScope scope(info.Env());
    Napi::Object event = Napi::Object::New(info.Env());
    event.Set("name", Napi::String::New(info.Env(), events[i].kernel.data(), events[i].kernel.size()));
    if (!events[i].phase.empty()) {
      event.Set("phase", Napi::String::New(info.Env(), events[i].phase.data(), events[i].phase.size()));
    }
    event.Set("program", static_cast<double>(events[i].program));
    event.Set("instruction", static_cast<double>(events[i].step));
    event.Set("start", events[i].start);
    event.Set("duration", events[i].duration);
    array.Set(i, event);
  }
  return array;
}

}  // namespace

void init_programs(Napi::Env env, Napi::Object exports) {
  exports.Set("createRuntime", Napi::Function::New<entry<create_runtime>>(env, "createRuntime"));
  exports.Set("disposeRuntime", Napi::Function::New<entry<dispose_runtime>>(env, "disposeRuntime"));
  exports.Set("createProgram", Napi::Function::New<entry<create_program>>(env, "createProgram"));
  exports.Set("programInfo", Napi::Function::New<entry<program_info>>(env, "programInfo"));
  exports.Set("disposeProgram", Napi::Function::New<entry<dispose_program>>(env, "disposeProgram"));
  exports.Set("run", Napi::Function::New<promise_entry<run>>(env, "run"));
  exports.Set("bindRun", Napi::Function::New<entry<bind_run>>(env, "bindRun"));
  exports.Set("start", Napi::Function::New<promise_entry<start>>(env, "start"));
  exports.Set("runHere", Napi::Function::New<entry<run_here>>(env, "runHere"));
  exports.Set("disposeRun", Napi::Function::New<entry<dispose_run>>(env, "disposeRun"));
  exports.Set("createAbort", Napi::Function::New<entry<create_abort>>(env, "createAbort"));
  exports.Set("abort", Napi::Function::New<entry<abort_runs>>(env, "abort"));
  exports.Set("takeTrace", Napi::Function::New<entry<take_trace>>(env, "takeTrace"));
}

}  // namespace switchyard
