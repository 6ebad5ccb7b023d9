// What one environment (main thread or worker) holds, and how its promises settle.
#pragma once
#include "binding/napi.h"

#include <memory>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "runtime/error.h"
#include "runtime/executor.h"

namespace switchyard {

struct State;

// A task that a promise waits for. It holds no JavaScript values: it may die on the runtime thread.
class PromiseTask : public Task {
 public:
  uint64_t id = 0;
  // On the JavaScript thread, after perform() without error.
  virtual Napi::Value result(State& state, Napi::Env env) = 0;
};

// The way from runtime threads back to JavaScript. Closed by the environment's cleanup hook before anything is torn
// down; what comes later is dropped.
class Gate {
 public:
  void open(napi_threadsafe_function function) { function_ = function; }
  void post(std::unique_ptr<Task> task);  // any thread
  std::vector<std::unique_ptr<Task>> take();
  void close();

 private:
  std::mutex mutex_;
  bool closed_ = false;
  napi_threadsafe_function function_ = nullptr;
  std::vector<std::unique_ptr<Task>> done_;
};

struct State {
  explicit State(Napi::Env env);
  ~State();
  State(const State&) = delete;
  State& operator=(const State&) = delete;

  std::shared_ptr<MemoryUsage> usage = std::make_shared<MemoryUsage>();
  std::shared_ptr<BufferPool> buffers = std::make_shared<BufferPool>(usage);
  std::shared_ptr<Gate> gate = std::make_shared<Gate>();
  uint64_t next_program = 1;
  // (code, message, hint) => Error, set by JavaScript; without it plain Errors carry `code` and `hint`.
  Napi::FunctionReference error_factory;

  std::shared_ptr<Executor> make_executor(int threads, std::shared_ptr<BufferPool> pool);
  // Queues the task and returns its promise.
  Napi::Value submit(Napi::Env env, const std::shared_ptr<Executor>& executor, std::unique_ptr<PromiseTask> task);
  // Tells the garbage collector how much native memory came or went since the last call.
  void sync_memory(Napi::Env env);
  int64_t reported() const { return reported_; }

 private:
  struct Pending {
    Napi::Promise::Deferred deferred;
    std::shared_ptr<Executor> executor;  // never destroyed while it owes a promise
  };
  static void on_done(napi_env env, napi_value, void* state, void*);
  static void on_cleanup(void* state);
  void settle(Napi::Env env);

  napi_env env_;
  napi_threadsafe_function function_ = nullptr;
  uint64_t next_task_ = 1;
  std::unordered_map<uint64_t, Pending> pending_;
  std::vector<std::weak_ptr<Executor>> executors_;
  int64_t reported_ = 0;
};

// The JavaScript error of the exception being handled; call inside a catch block.
Napi::Value current_error(Napi::Env env, State& state);

// Every function of the addon is one of these: no C++ exception leaves it.
using Function = Napi::Value (*)(State&, const Napi::CallbackInfo&);

template <Function F>
Napi::Value entry(const Napi::CallbackInfo& info) {
  State& state = *info.Env().GetInstanceData<State>();
  try {
    return F(state, info);
  } catch (const Napi::Error&) {
    throw;  // JavaScript threw: a getter, a proxy
  } catch (...) {
    napi_throw(info.Env(), current_error(info.Env(), state));
    return {};
  }
}

// The same for functions that return a promise: their errors reject it.
template <Function F>
Napi::Value promise_entry(const Napi::CallbackInfo& info) {
  State& state = *info.Env().GetInstanceData<State>();
  try {
    return F(state, info);
  } catch (...) {
    const auto deferred = Napi::Promise::Deferred::New(info.Env());
    deferred.Reject(current_error(info.Env(), state));
    return deferred.Promise();
  }
}

void init_buffers(Napi::Env env, Napi::Object exports);
void init_programs(Napi::Env env, Napi::Object exports);
void init_weights(Napi::Env env, Napi::Object exports);
void init_device(Napi::Env env, Napi::Object exports);
void init_limits(Napi::Env env, Napi::Object exports);

}  // namespace switchyard
