#include "binding/state.h"

namespace switchyard {
namespace {

void check(napi_env env, napi_status status) {
  if (status != napi_ok) throw Napi::Error::New(env);
}

Napi::Value make_error(Napi::Env env, State& state, const char* code, const std::string& message,
                       const std::string& hint) {
  if (!state.error_factory.IsEmpty()) {
    const auto text = [&](const std::string& s) -> napi_value {
      if (s.empty()) return env.Undefined();
      return Napi::String::New(env, s);
    };
    return state.error_factory.Call({Napi::String::New(env, code), text(message), text(hint)});
  }
  Napi::Object error = Napi::Error::New(env, message).Value();
  error.Set("code", code);
  if (!hint.empty()) error.Set("hint", hint);
  return error;
}

}  // namespace

Napi::Value current_error(Napi::Env env, State& state) {
  try {
    try {
      throw;
    } catch (const Error& e) {
      return make_error(env, state, error_code_name(e.code()), e.what(), e.hint());
    } catch (const Napi::Error&) {
      throw;
    } catch (const std::bad_alloc&) {
      return make_error(env, state, "ERR_OUT_OF_MEMORY", "[native] got no memory from the system", "");
    } catch (const std::exception& e) {
      return make_error(env, state, "ERR_NATIVE", std::string("[native] got an unexpected failure: ") + e.what(), "");
    } catch (...) {
      return make_error(env, state, "ERR_NATIVE", "[native] got an unexpected failure", "");
    }
  } catch (const Napi::Error& e) {
    return e.Value();  // thrown by JavaScript, the factory included
  }
}

void Gate::post(std::unique_ptr<Task> task) {
  std::lock_guard lock(mutex_);
  if (closed_) return;
  done_.push_back(std::move(task));
  // One call drains all that is done by then.
  if (done_.size() == 1) napi_call_threadsafe_function(function_, nullptr, napi_tsfn_nonblocking);
}

std::vector<std::unique_ptr<Task>> Gate::take() {
  std::lock_guard lock(mutex_);
  return std::exchange(done_, {});
}

void Gate::close() {
  std::lock_guard lock(mutex_);
  closed_ = true;
  done_.clear();
}

State::State(Napi::Env env) : env_(env) {
  check(env, napi_create_threadsafe_function(env, nullptr, nullptr, Napi::String::New(env, "switchyard"), 0, 1,
                                             nullptr, nullptr, this, on_done, &function_));
  check(env, napi_unref_threadsafe_function(env, function_));  // only a promise that waits keeps the process alive
  gate->open(function_);
  // Hooks run last in, first out: this one before that of the thread-safe function.
  check(env, napi_add_env_cleanup_hook(env, on_cleanup, this));
}

State::~State() = default;

void State::on_cleanup(void* data) {
  State& state = *static_cast<State*>(data);
  state.gate->close();
  for (auto& weak : state.executors_) {
    if (const auto executor = weak.lock()) executor->stop();
  }
  state.pending_.clear();
  state.error_factory.Reset();
  int64_t now;
  napi_adjust_external_memory(state.env_, -state.reported_, &now);
  state.reported_ = 0;
}

std::shared_ptr<Executor> State::make_executor(int threads, std::shared_ptr<BufferPool> pool) {
  std::erase_if(executors_, [](const std::weak_ptr<Executor>& weak) { return weak.expired(); });
  auto executor = std::make_shared<Executor>(
      threads, std::move(pool), [to = gate](std::unique_ptr<Task> task) { to->post(std::move(task)); });
  executors_.push_back(executor);
  return executor;
}

Napi::Value State::submit(Napi::Env env, const std::shared_ptr<Executor>& executor,
                          std::unique_ptr<PromiseTask> task) {
  const uint64_t id = task->id = next_task_++;
  const auto deferred = Napi::Promise::Deferred::New(env);
  pending_.emplace(id, Pending{deferred, executor});
  try {
    executor->submit(std::move(task));
  } catch (...) {
    pending_.erase(id);
    throw;
  }
  if (pending_.size() == 1) napi_ref_threadsafe_function(env, function_);
  return deferred.Promise();
}

void State::on_done(napi_env env, napi_value, void* state, void*) {
  if (env == nullptr) return;  // the environment is ending
  static_cast<State*>(state)->settle(env);
}

void State::settle(Napi::Env env) {
  for (auto& done : gate->take()) {
    auto& task = static_cast<PromiseTask&>(*done);
    const auto found = pending_.find(task.id);
    if (found == pending_.end()) continue;
    const Pending pending = std::move(found->second);
    pending_.erase(found);
    Napi::HandleScope scope(env);
    try {
      if (task.error) std::rethrow_exception(task.error);
      pending.deferred.Resolve(task.result(*this, env));
    } catch (...) {
      try {
        pending.deferred.Reject(current_error(env, *this));
      } catch (const Napi::Error&) {
        // The environment is ending and runs no JavaScript any more: nobody waits.
      }
    }
  }
  if (pending_.empty()) napi_unref_threadsafe_function(env, function_);
  sync_memory(env);
}

void State::sync_memory(Napi::Env env) {
  const int64_t external = usage->external;
  if (external == reported_) return;
  int64_t now;
  if (napi_adjust_external_memory(env, external - reported_, &now) == napi_ok) reported_ = external;
}

}  // namespace switchyard
