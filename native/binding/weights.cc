// packWeight, convertWeight, weightError, openPacked, repeatWeight, readWeight, storeWeight, copyWeight, packedBytes,
// weightInfo, disposeWeight
#include "binding/weights.h"

#include <algorithm>
#include <utility>

#include "binding/arguments.h"
#include "formats/format_table.h"
#include "runtime/file.h"
#include "runtime/mapped_file.h"
#include "runtime/weight.h"

namespace switchyard {

template <>
struct HandleType<ProgramWeight> {
  static constexpr const char* name = "weight";
  static constexpr napi_type_tag tag{0x5c1f3f0e6a4d4b05, 0x9d2b7c3e1f5a6805};
};

namespace {

// A packed weight and its place in the account. Those that share its bytes hold it too, so they count once.
struct Counted {
  Counted(std::shared_ptr<Weight> packed, std::shared_ptr<MemoryUsage> account)
      : weight(std::move(packed)), usage(std::move(account)) {
    count(1);
  }
  ~Counted() { count(-1); }
  Counted(const Counted&) = delete;
  Counted& operator=(const Counted&) = delete;

  void count(int sign) {
    usage->weights += sign * weight->bytes();
    // Mapped bytes are the system's, which takes them back when it needs memory: no garbage collection would help.
    if (weight->bytes() >= kExternalBytes && !weight->file()) usage->external += sign * weight->bytes();
  }

  std::shared_ptr<Weight> weight;
  std::shared_ptr<MemoryUsage> usage;
};

// Where the programs of a runtime read a weight.
std::shared_ptr<Weight> placed(std::shared_ptr<Weight> weight, const Executor& executor) {
  return executor.device() ? weight->on(executor.device()) : weight;
}

Napi::Value make_weight(Napi::Env env, std::shared_ptr<const Weight> weight) {
  auto value = std::make_shared<ProgramWeight>();
  value->experts = weight->experts();
  value->rows = weight->rows();
  value->columns = weight->columns();
  value->weight = std::move(weight);
  return make_handle(env, std::move(value));
}

class PackTask : public PromiseTask {
 public:
  WeightSource source;
  std::vector<std::vector<std::byte>> copies;  // of parts in JavaScript's memory, which may move or go meanwhile
  bool on_host = false;
  std::shared_ptr<std::atomic<bool>> abort;
  std::shared_ptr<MemoryUsage> usage;
  std::shared_ptr<Counted> packed;

  void perform(Executor& executor) override {
    auto weight = Weight::pack(source, executor.pool(), executor.threads(), abort.get());
    if (!on_host) weight = placed(std::move(weight), executor);
    packed = std::make_shared<Counted>(std::move(weight), usage);
    copies.clear();
  }
  void cancel() override { *abort = true; }
  Napi::Value result(State&, Napi::Env env) override {
    const Weight* weight = packed->weight.get();
    return make_weight(env, std::shared_ptr<const Weight>(std::move(packed), weight));
  }
};

// Weights whose packed bytes lie in a file.
class OpenTask : public PromiseTask {
 public:
  std::string path;
  int64_t file_bytes = 0;
  std::vector<std::byte> head;  // what the file must begin with
  std::vector<PackedRange> ranges;
  std::vector<bool> on_host;  // of each range
  std::shared_ptr<std::atomic<bool>> abort;
  std::shared_ptr<MemoryUsage> usage;
  std::vector<std::shared_ptr<Counted>> opened;

  void perform(Executor& executor) override {
    const auto mapped = MappedFile::open(path, file_bytes);
    const File file(path);
    check_head(file, mapped.get());
    for (size_t i = 0; i < ranges.size(); i++) {
      auto weight = mapped ? Weight::map(ranges[i], mapped) : Weight::read(ranges[i], file, abort.get());
      if (!on_host[i]) weight = placed(std::move(weight), executor);
      opened.push_back(std::make_shared<Counted>(std::move(weight), usage));
    }
  }
  void cancel() override { *abort = true; }
  Napi::Value result(State&, Napi::Env env) override {
    Napi::Array array = Napi::Array::New(env, opened.size());
    for (uint32_t i = 0; i < opened.size(); i++) {
      Napi::HandleScope scope(env);
      const Weight* weight = opened[i]->weight.get();
      array.Set(i, make_weight(env, std::shared_ptr<const Weight>(std::move(opened[i]), weight)));
    }
    return array;
  }

 private:
  // Another process may have put another file in its place since JavaScript read the head.
  void check_head(const File& file, const MappedFile* mapped) const {
    std::vector<std::byte> there(head.size());
    file.read(0, static_cast<int64_t>(head.size()), there.data());
    const bool same = there == head && (mapped == nullptr || std::equal(head.begin(), head.end(), mapped->data()));
    if (mapped != nullptr) mapped->check();
    if (!same) fail(ErrorCode::kIo, "[file] got another file at '%s' than a moment ago, expected the same", path.c_str());
  }
};

class ErrorTask : public PromiseTask {
 public:
  std::shared_ptr<const Weight> weight, reference;
  std::shared_ptr<std::atomic<bool>> abort;
  WeightError sums;

  void perform(Executor& executor) override {
    weight = Weight::on_host(std::move(weight)), reference = Weight::on_host(std::move(reference));
    sums = weight_error(*weight, *reference, executor.pool(), executor.threads(), abort.get());
    for (const Weight* w : {weight.get(), reference.get()}) {
      if (w->file()) w->file()->check();
    }
  }
  void cancel() override { *abort = true; }
  Napi::Value result(State&, Napi::Env env) override {
    Napi::Object result = Napi::Object::New(env);
    result.Set("difference", sums.difference);
    result.Set("reference", sums.reference);
    return result;
  }
};

class ConvertTask : public PromiseTask {
 public:
  std::shared_ptr<const Weight> from;
  Format as = Format::kF32;
  std::vector<int64_t> experts;
  std::shared_ptr<std::atomic<bool>> abort;
  std::shared_ptr<MemoryUsage> usage;
  std::shared_ptr<Counted> converted;

  void perform(Executor& executor) override {
    from = Weight::on_host(std::move(from));
    auto weight = Weight::convert(*from, as, experts, executor.pool(), executor.threads(), abort.get());
    converted = std::make_shared<Counted>(placed(std::move(weight), executor), usage);
  }
  void cancel() override { *abort = true; }
  Napi::Value result(State&, Napi::Env env) override {
    const Weight* weight = converted->weight.get();
    return make_weight(env, std::shared_ptr<const Weight>(std::move(converted), weight));
  }
};

std::shared_ptr<std::atomic<bool>> abort_of(Napi::Value value) {
  return value.IsUndefined() ? std::make_shared<std::atomic<bool>>(false) : handle<std::atomic<bool>>(value);
}

Format format_of(Napi::Value value, const char* where) {
  Format format;
  if (!value.IsString() || !parse_format(value.As<Napi::String>().Utf8Value(), &format)) {
    wrong_argument(value, where, "the name of a weight format");
  }
  return format;
}

int64_t optional_integer(Napi::Value value, const char* name, int64_t otherwise) {
  return value.IsUndefined() ? otherwise : integer(value, name, 0);
}

bool optional_boolean(Napi::Value value, const char* name) { return !value.IsUndefined() && boolean(value, name); }

// How many rows the bytes of a part hold: the last element of the last row must lie within them.
int64_t rows_of(const WeightSource& source, const WeightPart& part) {
  const int block = format_info(source.stored).values_per_block;
  if (source.columns % block != 0) {
    fail(ErrorCode::kShape, "[packWeight] got %lld columns for '%s', expected a multiple of %d",
         static_cast<long long>(source.columns), source.name.c_str(), block);
  }
  const int64_t row_bytes = stored_row_bytes(source.stored, source.columns);
  if (part.row_stride == 0) return part.bytes / row_bytes;
  const int64_t size = format_info(source.stored).bytes_per_block;
  const int64_t first = checked_add(
      checked_mul(checked_mul(source.columns - 1, part.column_stride, "packWeight"), size, "packWeight"), size,
      "packWeight");
  if (part.bytes < first) return 0;
  return (part.bytes - first) / checked_mul(part.row_stride, size, "packWeight") + 1;
}

// A range of a file or of an array, which is copied.
void read_range(PackTask& task, Napi::Object from, WeightBytes* range) {
  const Napi::Value path = from.Get("path"), data = from.Get("data");
  if (path.IsUndefined() == data.IsUndefined()) wrong_argument(path, "packWeight path", "either path or data");
  range->offset = integer(from.Get("offset"), "packWeight offset", 0);
  range->bytes = integer(from.Get("bytes"), "packWeight bytes", 0);
  if (!path.IsUndefined()) {
    range->path = text(path, "packWeight path");
    if (range->path.empty()) wrong_argument(path, "packWeight path", "the path of a file");
    return;
  }
  const auto all = bytes(data, "packWeight data");
  const auto size = static_cast<int64_t>(all.size());
  if (range->offset > size || range->bytes > size - range->offset) {
    fail(ErrorCode::kShape, "[packWeight] got %lld bytes at %lld, expected them within %lld bytes of data",
         static_cast<long long>(range->bytes), static_cast<long long>(range->offset), static_cast<long long>(size));
  }
  task.copies.emplace_back(all.data() + range->offset, all.data() + range->offset + range->bytes);
  // Not null even where it is empty: a part has a path or memory.
  static constexpr std::byte kNothing{};
  range->memory = range->bytes == 0 ? &kNothing : task.copies.back().data();
  range->offset = 0;
}

void read_grid(PackTask& task, Napi::Object from, ScaleGrid* grid) {
  read_range(task, from, grid);
  grid->format = format_of(from.Get("format"), "packWeight grid format");
  grid->block_rows = integer(from.Get("blockRows"), "packWeight grid blockRows", 1);
  grid->block_columns = integer(from.Get("blockColumns"), "packWeight grid blockColumns", 1);
  grid->rows = integer(from.Get("rows"), "packWeight grid rows", 1);
  grid->columns = integer(from.Get("columns"), "packWeight grid columns", 1);
  grid->first = integer(from.Get("first"), "packWeight grid first", 0);
}

void read_part(PackTask& task, Napi::Object from) {
  WeightPart part;
  const Napi::Value scales = from.Get("scales"), rows = from.Get("rows");
  part.row_stride = optional_integer(from.Get("rowStride"), "packWeight rowStride", 0);
  part.column_stride = optional_integer(from.Get("columnStride"), "packWeight columnStride", 0);
  read_range(task, from, &part);
  if (!scales.IsUndefined()) read_range(task, object(scales, "packWeight scales"), &part.scales.emplace());
  const Napi::Value grid = from.Get("grid");
  if (!grid.IsUndefined()) read_grid(task, object(grid, "packWeight grid"), &part.grid.emplace());
  part.rows = rows.IsUndefined() && !part.scales ? rows_of(task.source, part) : integer(rows, "packWeight rows", 1);
  task.source.parts.push_back(std::move(part));
}

Napi::Value pack_weight(State& state, const Napi::CallbackInfo& info) {
  const auto executor = handle<Executor>(info[0]);
  const Napi::Object from = object(info[1], "packWeight");
  auto task = std::make_unique<PackTask>();
  WeightSource& source = task->source;
  const Napi::Value name = from.Get("name"), as = from.Get("as"), parts = from.Get("parts");
  source.name = name.IsUndefined() ? "weight" : text(name, "packWeight name");
  source.stored = format_of(from.Get("format"), "packWeight format");
  if (!as.IsUndefined()) source.as = format_of(as, "packWeight as");
  source.experts = integer(from.Get("experts"), "packWeight experts", 1);
  source.rows = integer(from.Get("rows"), "packWeight rows", 1);
  source.columns = integer(from.Get("columns"), "packWeight columns", 1, kMaxColumns);
  // Told here rather than by the task, which cannot count the rows of parts without it.
  if (is_packed_only(source.stored)) {
    fail(ErrorCode::kFormat, "[packWeight] got '%s' of format %s, expected a format that files have", source.name.c_str(),
         format_info(source.stored).name);
  }
  if (!parts.IsArray()) wrong_argument(parts, "packWeight parts", "an array of parts");
  const Napi::Array list = parts.As<Napi::Array>();
  for (uint32_t i = 0; i < list.Length(); i++) {
    Napi::HandleScope scope(info.Env());
    read_part(*task, object(list.Get(i), "packWeight parts"));
  }
  task->on_host = optional_boolean(from.Get("onHost"), "packWeight onHost");
  task->abort = abort_of(info[2]);
  task->usage = state.usage;
  return state.submit(info.Env(), executor, std::move(task));
}

// (from, expert, to, slot): the bytes of an expert take the place of another's.
Napi::Value copy_expert(State&, const Napi::CallbackInfo& info) {
  const auto from = handle<ProgramWeight>(info[0])->weight, to = handle<ProgramWeight>(info[2])->weight;
  to->replace(integer(info[3], "copyExpert slot", 0, to->experts() - 1), *from,
              integer(info[1], "copyExpert expert", 0, from->experts() - 1));
  return info.Env().Undefined();
}

Napi::Value open_packed(State& state, const Napi::CallbackInfo& info) {
  const auto executor = handle<Executor>(info[0]);
  const Napi::Object from = object(info[1], "openPacked");
  auto task = std::make_unique<OpenTask>();
  task->path = text(from.Get("path"), "openPacked path");
  task->file_bytes = integer(from.Get("bytes"), "openPacked bytes", 1);
  const Napi::Value weights = from.Get("weights");
  if (!weights.IsArray()) wrong_argument(weights, "openPacked weights", "an array of weights");
  const Napi::Array list = weights.As<Napi::Array>();
  for (uint32_t i = 0; i < list.Length(); i++) {
    Napi::HandleScope scope(info.Env());
    const Napi::Object entry = object(list.Get(i), "openPacked weights");
    PackedRange range;
    range.name = text(entry.Get("name"), "openPacked name");
    range.format = format_of(entry.Get("format"), "openPacked format");
    range.experts = integer(entry.Get("experts"), "openPacked experts", 1);
    range.rows = integer(entry.Get("rows"), "openPacked rows", 1);
    range.columns = integer(entry.Get("columns"), "openPacked columns", 1, kMaxColumns);
    range.offset = integer(entry.Get("offset"), "openPacked offset", 0);
    task->ranges.push_back(std::move(range));
    task->on_host.push_back(optional_boolean(entry.Get("onHost"), "openPacked onHost"));
  }
  const auto head = bytes(from.Get("head"), "openPacked head");
  task->head.assign(head.begin(), head.end());
  task->abort = abort_of(info[2]);
  task->usage = state.usage;
  return state.submit(info.Env(), executor, std::move(task));
}

Napi::Value convert_weight(State& state, const Napi::CallbackInfo& info) {
  const auto executor = handle<Executor>(info[0]);
  auto task = std::make_unique<ConvertTask>();
  task->from = handle<ProgramWeight>(info[1])->weight;
  task->as = format_of(info[2], "convertWeight as");
  task->experts = integers(info[3], "convertWeight experts");
  task->abort = abort_of(info[4]);
  task->usage = state.usage;
  return state.submit(info.Env(), executor, std::move(task));
}

Napi::Value weight_error_of(State& state, const Napi::CallbackInfo& info) {
  const auto executor = handle<Executor>(info[0]);
  auto task = std::make_unique<ErrorTask>();
  task->weight = handle<ProgramWeight>(info[1])->weight;
  task->reference = handle<ProgramWeight>(info[2])->weight;
  task->abort = abort_of(info[3]);
  return state.submit(info.Env(), executor, std::move(task));
}

Napi::Value repeat_weight(State&, const Napi::CallbackInfo& info) {
  const auto from = handle<ProgramWeight>(info[0]);
  const int64_t experts = integer(info[1], "repeatWeight experts", 1, INT32_MAX);
  // The new weight, held together with what counts its bytes.
  using Both = std::pair<std::shared_ptr<Weight>, std::shared_ptr<const Weight>>;
  auto both = std::make_shared<Both>(from->weight->repeated(experts), from->weight);
  const Weight* weight = both->first.get();
  return make_weight(info.Env(), std::shared_ptr<const Weight>(std::move(both), weight));
}

struct Rows {
  std::shared_ptr<const Weight> weight;
  int64_t expert, row, rows;
};

// The arguments weight, expert, row, rows.
Rows rows_of(const Napi::CallbackInfo& info, const char* where) {
  const auto weight = Weight::on_host(handle<ProgramWeight>(info[0])->weight);
  const int64_t row = integer(info[2], where, 0, weight->rows());
  return {weight, integer(info[1], where, 0, weight->experts() - 1), row,
          integer(info[3], where, 0, weight->rows() - row)};
}

size_t checked_size(int64_t rows, int64_t row_size, const char* where) {
  constexpr int64_t kMost = int64_t{1} << 32;  // the elements of the longest typed array
  const int64_t elements = checked_mul(rows, row_size, where);
  if (elements > kMost) {
    fail(ErrorCode::kShape, "[%s] got %lld values, expected at most 2^32 at once", where,
         static_cast<long long>(elements));
  }
  return static_cast<size_t>(elements);
}

Napi::Value read_weight(State&, const Napi::CallbackInfo& info) {
  const auto [weight, expert, row, rows] = rows_of(info, "readWeight");
  const size_t elements = checked_size(rows, weight->columns(), "readWeight");
  auto values = Napi::Float32Array::New(info.Env(), elements);
  if (elements > 0) weight->read(expert, row, rows, values.Data());
  if (weight->file()) weight->file()->check();
  return values;
}

Napi::Value store_weight(State&, const Napi::CallbackInfo& info) {
  const auto [weight, expert, row, rows] = rows_of(info, "storeWeight");
  const size_t size = checked_size(rows, stored_row_bytes(weight->format(), weight->columns()), "storeWeight");
  auto stored = Napi::Uint8Array::New(info.Env(), size);
  weight->store(expert, row, rows, reinterpret_cast<std::byte*>(stored.Data()));
  if (weight->file()) weight->file()->check();
  return stored;
}

Napi::Value copy_weight(State&, const Napi::CallbackInfo& info) {
  const auto weight = handle<ProgramWeight>(info[0])->weight;
  const auto target = bytes(info[2], "copyWeight target");
  const auto size = static_cast<int64_t>(target.size());
  const int64_t offset = integer(info[1], "copyWeight offset", 0, weight->bytes());
  if (size > weight->bytes() - offset) {
    fail(ErrorCode::kShape, "[copyWeight] got %lld bytes from byte %lld on, expected them within %lld",
         static_cast<long long>(size), static_cast<long long>(offset), static_cast<long long>(weight->bytes()));
  }
  copy_out(weight->device(), target.data(), weight->data() + offset, size);
  if (weight->file()) weight->file()->check();
  return info.Env().Undefined();
}

Napi::Value packed_bytes(State&, const Napi::CallbackInfo& info) {
  const Format format = format_of(info[0], "packedBytes format");
  const int64_t experts = integer(info[1], "packedBytes experts", 1);
  const int64_t rows = integer(info[2], "packedBytes rows", 1);
  const int64_t columns = integer(info[3], "packedBytes columns", 1, kMaxColumns);
  return Napi::Number::New(info.Env(), static_cast<double>(packed_weight_bytes(format, experts, rows, columns)));
}

Napi::Value weight_info(State&, const Napi::CallbackInfo& info) {
  const auto weight = handle<ProgramWeight>(info[0])->weight;
  Napi::Object result = Napi::Object::New(info.Env());
  result.Set("format", format_info(weight->format()).name);
  result.Set("experts", static_cast<double>(weight->experts()));
  result.Set("rows", static_cast<double>(weight->rows()));
  result.Set("columns", static_cast<double>(weight->columns()));
  result.Set("bytes", static_cast<double>(weight->bytes()));
  result.Set("repeated", Napi::Boolean::New(info.Env(), weight->repeats()));
  result.Set("mapped", Napi::Boolean::New(info.Env(), weight->file() != nullptr));
  return result;
}

Napi::Value dispose_weight(State& state, const Napi::CallbackInfo& info) {
  holder_of<ProgramWeight>(info[0]).reset();
  state.sync_memory(info.Env());
  return info.Env().Undefined();
}

}  // namespace

std::vector<ProgramWeight> program_weights(Napi::Value value) {
  std::vector<ProgramWeight> list;
  for (const auto& weight : handles<ProgramWeight>(value, "createProgram weights")) list.push_back(*weight);
  return list;
}

void init_weights(Napi::Env env, Napi::Object exports) {
  exports.Set("packWeight", Napi::Function::New<promise_entry<pack_weight>>(env, "packWeight"));
  exports.Set("openPacked", Napi::Function::New<promise_entry<open_packed>>(env, "openPacked"));
  exports.Set("convertWeight", Napi::Function::New<promise_entry<convert_weight>>(env, "convertWeight"));
  exports.Set("copyExpert", Napi::Function::New<entry<copy_expert>>(env, "copyExpert"));
  exports.Set("weightError", Napi::Function::New<promise_entry<weight_error_of>>(env, "weightError"));
  exports.Set("repeatWeight", Napi::Function::New<entry<repeat_weight>>(env, "repeatWeight"));
  exports.Set("readWeight", Napi::Function::New<entry<read_weight>>(env, "readWeight"));
  exports.Set("storeWeight", Napi::Function::New<entry<store_weight>>(env, "storeWeight"));
  exports.Set("copyWeight", Napi::Function::New<entry<copy_weight>>(env, "copyWeight"));
  exports.Set("packedBytes", Napi::Function::New<entry<packed_bytes>>(env, "packedBytes"));
  exports.Set("weightInfo", Napi::Function::New<entry<weight_info>>(env, "weightInfo"));
  exports.Set("packVersion", kPackVersion);
  exports.Set("disposeWeight", Napi::Function::New<entry<dispose_weight>>(env, "disposeWeight"));
}

}  // namespace switchyard
