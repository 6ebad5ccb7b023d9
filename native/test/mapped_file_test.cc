// Weights in mapped files: the same values as in memory, and what a file that is cut, short or hostile does.
#include "runtime/mapped_file.h"

#if defined(__unix__) || defined(__APPLE__)
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <vector>

#include "check.h"
#include "runtime/file.h"
#include "runtime/memory.h"
#include "runtime/weight.h"

using namespace switchyard;

namespace {

constexpr int64_t kRows = 300, kColumns = 64;
const int64_t kPage = page_size();

// A temporary file of some bytes, gone with the object.
struct TemporaryFile {
  explicit TemporaryFile(const std::vector<std::byte>& content) {
    char name[] = "/tmp/switchyard-mapped-XXXXXX";
    descriptor = ::mkstemp(name);
    path = name;
    bytes = static_cast<int64_t>(content.size());
    CHECK(::write(descriptor, content.data(), content.size()) == static_cast<ssize_t>(content.size()));
  }
  ~TemporaryFile() {
    ::close(descriptor);
    ::unlink(path.c_str());
  }
  void cut(int64_t to) { CHECK(::ftruncate(descriptor, to) == 0); }

  int descriptor = -1;
  std::string path;
  int64_t bytes = 0;
};

std::shared_ptr<Weight> packed_weight(ThreadPool& pool) {
  std::vector<float> values(static_cast<size_t>(kRows * kColumns));
  for (size_t i = 0; i < values.size(); i++) values[i] = 1 + std::sin(static_cast<float>(i));
  WeightSource source;
  source.rows = kRows;
  source.columns = kColumns;
  WeightPart part;
  part.rows = kRows;
  part.memory = reinterpret_cast<const std::byte*>(values.data());
  part.bytes = static_cast<int64_t>(values.size() * sizeof(float));
  source.parts.push_back(part);
  return Weight::pack(source, pool, 1);
}

// A page of zeros, then the weight.
std::vector<std::byte> file_of(const Weight& weight) {
  std::vector<std::byte> content(static_cast<size_t>(kPage + weight.bytes()));
  std::memcpy(content.data() + kPage, weight.data(), static_cast<size_t>(weight.bytes()));
  return content;
}

PackedRange range_at(int64_t offset) { return {"w", Format::kF32, 1, kRows, kColumns, offset}; }

std::vector<float> values_of(const Weight& weight) {
  std::vector<float> values(static_cast<size_t>(kRows * kColumns));
  weight.read(0, 0, kRows, values.data());
  return values;
}

void same_values(const Weight& weight) {
  const TemporaryFile file(file_of(weight));
  const auto mapped = MappedFile::open(file.path, file.bytes);
  CHECK(mapped != nullptr);
  const auto there = Weight::map(range_at(kPage), mapped);
  CHECK(there->file() == mapped && there->bytes() == weight.bytes());
  CHECK(values_of(*there) == values_of(weight));
  CHECK(there->repeated(3)->file() == mapped);
  const auto read = Weight::read(range_at(kPage), File(file.path));
  CHECK(!read->file() && values_of(*read) == values_of(weight));
  std::atomic<bool> abort{true};
  CHECK(test::holds(test::error_of([&] { Weight::read(range_at(kPage), File(file.path), &abort); }), "ERR_ABORTED"));
  mapped->check();
}

void refused(const Weight& weight) {
  const TemporaryFile file(file_of(weight));
  const auto opened = [&](int64_t bytes) { return test::error_of([&] { MappedFile::open(file.path, bytes); }); };
  CHECK(test::holds(opened(file.bytes + 1), "ERR_IO"));
  CHECK(test::holds(opened(file.bytes - 1), "ERR_IO"));
  CHECK(test::holds(test::error_of([&] { MappedFile::open(file.path + ".none", 1); }), "ERR_IO"));
  const auto mapped = MappedFile::open(file.path, file.bytes);
  const auto with = [&](auto change) {
    PackedRange range = range_at(kPage);
    change(range);
    return test::error_of([&] { Weight::map(range, mapped); });
  };
  CHECK(test::holds(with([](PackedRange& r) { r.offset = kPage + 64; }), "ERR_FORMAT"));
  CHECK(test::holds(with([](PackedRange& r) { r.offset = 32; }), "ERR_FORMAT"));
  CHECK(test::holds(with([](PackedRange& r) { r.offset = -64; }), "ERR_FORMAT"));
  CHECK(test::holds(with([](PackedRange& r) { r.offset = INT64_MAX / 64 * 64; }), "ERR_FORMAT"));
  CHECK(test::holds(with([](PackedRange& r) { r.experts = INT64_MAX; }), "ERR_SHAPE"));
  CHECK(test::holds(with([](PackedRange& r) { r.rows = INT64_MAX; }), "ERR_SHAPE"));
  CHECK(test::holds(with([](PackedRange& r) { r.rows = 0; }), "ERR_SHAPE"));
  CHECK(test::holds(with([](PackedRange& r) { r.format = Format::kQ4_K; }), "ERR_SHAPE"));
}

// Several threads read while the file is cut under them; all come back, and the file says so. Another file is whole.
void cut_while_it_is_read(const Weight& weight) {
  const TemporaryFile whole(file_of(weight));
  const auto kept = MappedFile::open(whole.path, whole.bytes);
  for (int round = 0; round < 20; round++) {
    TemporaryFile file(file_of(weight));
    const auto mapped = MappedFile::open(file.path, file.bytes);
    const auto there = Weight::map(range_at(kPage), mapped);
    std::vector<std::thread> readers;
    for (int i = 0; i < 3; i++) {
      readers.emplace_back([&] {
        for (int j = 0; j < 50; j++) values_of(*there);
      });
    }
    file.cut(round % 2 == 0 ? 0 : kPage + 5);
    for (std::thread& reader : readers) reader.join();
    values_of(*there);
    CHECK(test::holds(test::error_of([&] { mapped->check(); }), file.path.c_str()));
    file.cut(file.bytes);  // as long as before, but what was read is gone
    if (round % 2 == 0) CHECK(test::holds(test::error_of([&] { mapped->check(); }), "ERR_IO"));
  }
  kept->check();
  CHECK(values_of(*Weight::map(range_at(kPage), kept)) == values_of(weight));
}

// Bytes behind a new end read as zeros without a signal up to the end of the page: the size tells.
void cut_within_the_last_page(const Weight& weight) {
  TemporaryFile file(file_of(weight));
  const auto mapped = MappedFile::open(file.path, file.bytes);
  mapped->check();
  file.cut(file.bytes - 1);
  CHECK(test::holds(test::error_of([&] { mapped->check(); }), "ERR_IO"));
}

sigjmp_buf escape;
int foreign_faults = 0;
void on_foreign_fault(int) {
  foreign_faults++;
  ::siglongjmp(escape, 1);
}

// A fault at an address of nobody's goes to the handler that was there before. Runs first: guards install once.
void other_handlers_stay(const Weight& weight) {
  struct sigaction action = {};
  action.sa_handler = on_foreign_fault;
  CHECK(::sigaction(SIGBUS, &action, nullptr) == 0);
  const TemporaryFile guarded(file_of(weight));
  const auto mapped = MappedFile::open(guarded.path, guarded.bytes);
  TemporaryFile file(file_of(weight));
  void* foreign = ::mmap(nullptr, static_cast<size_t>(kPage), PROT_READ, MAP_PRIVATE, file.descriptor, 0);
  file.cut(0);
  if (::sigsetjmp(escape, 1) == 0) {
    CHECK(*static_cast<volatile char*>(foreign) != 0);  // never gets here
  }
  CHECK(foreign_faults == 1);
  ::munmap(foreign, static_cast<size_t>(kPage));
  mapped->check();
}

}  // namespace

int main() {
  ThreadPool pool(1);
  const auto weight = packed_weight(pool);
  other_handlers_stay(*weight);
  same_values(*weight);
  refused(*weight);
  cut_while_it_is_read(*weight);
  cut_within_the_last_page(*weight);
  return test::report();
}

#else

#include <cstdio>

int main() {
  std::puts("no files to map on this system");
  return 0;
}

#endif
