// createRuntime, disposeRuntime, createProgram, programInfo, run, createAbort, abort, takeTrace
#include "binding/arguments.h"
#include "binding/weights.h"

namespace switchyard {
namespace {

constexpr int kMostThreads = 1024;

Napi::Value create_runtime(State& state, const Napi::CallbackInfo& info) {
  const Napi::Object options = object(info[0], "createRuntime");
  const auto threads = static_cast<int>(integer(options.Get("threads"), "createRuntime threads", 1, kMostThreads));
  return make_handle(info.Env(), state.make_executor(threads));
}

// Ends what runs at its next instruction (its promises reject with ERR_ABORTED), joins the threads, frees the arena.
Napi::Value dispose_runtime(State& state, const Napi::CallbackInfo& info) {
  std::shared_ptr<Executor>& holder = holder_of<Executor>(info[0]);
  if (holder) holder->stop();
  holder.reset();
  state.sync_memory(info.Env());
  return info.Env().Undefined();
}

Napi::Value create_program(State& state, const Napi::CallbackInfo& info) {
  // The lists come first: reading them may run JavaScript, after which the bytes could have moved.
  auto constants = handles<Buffer>(info[1], "createProgram constants");
  auto weights = program_weights(info[2]);
  const auto binary = bytes(info[0], "createProgram");
  auto program = Program::load(binary, cpu_kernels(), std::move(constants), std::move(weights));
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
  std::shared_ptr<Program> program;
  std::vector<std::shared_ptr<Buffer>> inputs, outputs;
  std::vector<int64_t> ints;
  RunOptions options;
  std::shared_ptr<std::atomic<bool>> abort;

  void perform(Executor& executor) override {
    options.abort = abort.get();
    outputs = executor.run(*program, inputs, ints, options);
  }
  Napi::Value result(State&, Napi::Env env) override {
    Napi::Array array = Napi::Array::New(env, outputs.size());
    for (uint32_t i = 0; i < outputs.size(); i++) array.Set(i, make_handle(env, std::move(outputs[i])));
    return array;
  }
};

Napi::Value run(State& state, const Napi::CallbackInfo& info) {
  const auto executor = handle<Executor>(info[0]);
  auto task = std::make_unique<RunTask>();
  task->program = handle<Program>(info[1]);
  task->inputs = handles<Buffer>(info[2], "run inputs");
  task->ints = integers(info[3], "run ints");
  task->options.threads = executor->threads();
  if (!info[4].IsUndefined()) {
    const Napi::Object options = object(info[4], "run options");
    if (const Napi::Value threads = options.Get("threads"); !threads.IsUndefined()) {
      task->options.threads = static_cast<int>(integer(threads, "run threads", 1, kMostThreads));
    }
    task->options.tier = tier_option(options.Get("tier"), "run tier");
    if (const Napi::Value abort = options.Get("abort"); !abort.IsUndefined()) {
      task->abort = handle<std::atomic<bool>>(abort);
    }
    if (const Napi::Value trace = options.Get("trace"); !trace.IsUndefined()) {
      task->options.trace = boolean(trace, "run trace");
    }
  } else {
    task->options.tier = best_tier();
  }
  return state.submit(info.Env(), executor, std::move(task));
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
  exports.Set("createAbort", Napi::Function::New<entry<create_abort>>(env, "createAbort"));
  exports.Set("abort", Napi::Function::New<entry<abort_runs>>(env, "abort"));
  exports.Set("takeTrace", Napi::Function::New<entry<take_trace>>(env, "takeTrace"));
}

}  // namespace switchyard
