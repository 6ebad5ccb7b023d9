// measureLimit
#include "bench/limits.h"

#include "binding/arguments.h"

namespace switchyard {
namespace {

class LimitTask : public PromiseTask {
 public:
  LimitOptions options;
  std::vector<double> rates;

  void perform(Executor& executor) override {
    rates = measure_limit(executor.pool(), options, [&executor] { return executor.stopping(); });
  }
  Napi::Value result(State&, Napi::Env env) override {
    Napi::Array array = Napi::Array::New(env, rates.size());
    for (uint32_t i = 0; i < rates.size(); i++) array.Set(i, rates[i]);
    return array;
  }
};

// measureLimit(runtime, what, {threads, tier, runs, bytes?, milliseconds?}) => Promise<number[]>
Napi::Value measure(State& state, const Napi::CallbackInfo& info) {
  const auto executor = handle<Executor>(info[0]);
  auto task = std::make_unique<LimitTask>();
  LimitOptions& o = task->options;
  if (!parse_limit(text(info[1], "measureLimit what"), &o.limit)) {
    wrong_argument(info[1], "measureLimit what", "'read', 'f32', 'bf16' or 'int8'");
  }
  const Napi::Object options = object(info[2], "measureLimit options");
  o.threads = static_cast<int>(integer(options.Get("threads"), "measureLimit threads", 1, 1024));
  o.runs = static_cast<int>(integer(options.Get("runs"), "measureLimit runs", 1, 10000));
  o.tier = tier_option(options.Get("tier"), "measureLimit tier");
  if (const Napi::Value bytes = options.Get("bytes"); !bytes.IsUndefined()) {
    o.bytes = integer(bytes, "measureLimit bytes", 1, int64_t{1} << 40);
  }
  if (const Napi::Value ms = options.Get("milliseconds"); !ms.IsUndefined()) {
    o.seconds = static_cast<double>(integer(ms, "measureLimit milliseconds", 1, 60'000)) / 1e3;
  }
  return state.submit(info.Env(), executor, std::move(task));
}

}  // namespace

void init_limits(Napi::Env env, Napi::Object exports) {
  exports.Set("measureLimit", Napi::Function::New<promise_entry<measure>>(env, "measureLimit"));
}

}  // namespace switchyard
