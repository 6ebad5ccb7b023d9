#include "moe/experts_layer.h"

#include <algorithm>
#include <cstring>

#include "formats/half.h"

namespace switchyard {
namespace {

constexpr int64_t kSerialTokens = 32 << 10;  // values; fewer take less time than waking the pool
constexpr int64_t kTokensPerTask = 8;

int64_t tokens_bound(const Weight* w, int compute, int64_t tokens) {
  if (w == nullptr || compute == 0 || (compute == 2) != is_integer_format(w->format())) return 0;
  return rows_bound(*w, compute, tokens);
}

// A block of `count` rows from blocks of one row each, group after group: what is written then stays in the L1 cache until
// all rows have filled their places.
void join_rows(Form form, const std::byte* const* rows, int64_t count, int64_t k, std::byte* out) {
  if (form == kFormBf16) {
    constexpr int64_t kBytes = 2 * kChunk;
    for (int64_t at = 0; at < bf16_row_bytes(k); at += kBytes) {
      for (int64_t r = 0; r < count; r++, out += kBytes) std::memcpy(out, rows[r] + at, kBytes);
    }
    return;
  }
  const Int8Layout layout = layout_of(form);
  for (int64_t first = 0; first < k; first += layout.group) {
    const int64_t codes = layout.codes(k - first);
    for (int64_t r = 0; r < count; r++) {
      const std::byte* from = rows[r] + first;
      std::byte* to = out + first * count + codes * r;
      for (int64_t i = 0; i < codes; i += 32) std::memcpy(to + i, from + i, 32);  // every unit is a multiple
    }
  }
  std::byte* words = out + layout.words_at(k, count);
  for (int64_t at = layout.words_at(k, 1); at < layout.counts_at(k, 1); at += 4) {
    for (int64_t r = 0; r < count; r++, words += 4) std::memcpy(words, rows[r] + at, 4);
  }
  for (int64_t r = 0; r < count; r++) {
    int32_t outliers;
    std::memcpy(&outliers, rows[r] + layout.counts_at(k, 1), 4);
    std::memcpy(out + layout.counts_at(k, count) + 4 * r, &outliers, 4);
    std::memcpy(out + layout.list_at(k, count, r), rows[r] + layout.list_at(k, 1, 0),
                static_cast<size_t>(outliers) * sizeof(Outlier));
  }
}

}  // namespace

PanelJob cut_rows(int64_t rows, int64_t blocks) {
  PanelJob job;
  job.rows = rows;
  job.blocks = job.last_block = blocks;
  return job;
}

int64_t rows_bound(const Weight& w, int compute, int64_t rows) {
  return aligned(checked_mul(rows, most_row_bytes(w.format(), compute, w.columns()), "moe_experts"));
}

int64_t Tokens::bytes(const ExpertLayer& l) {
  return std::max(tokens_bound(l.gate, l.compute, l.N), tokens_bound(l.up, l.compute, l.N));
}

void Tokens::pack(const Context& context) const {
  const int width = l_.N * l_.D < kSerialTokens ? 1 : context.threads;
  const int64_t bytes = row_bytes(form_, l_.D);
  context.pool->parallel_for((l_.N + kTokensPerTask - 1) / kTokensPerTask, width, [&](int64_t task, int) {
    for (int64_t n = task * kTokensPerTask; n < std::min(l_.N, (task + 1) * kTokensPerTask); n++) {
      pack_of(table_, form_)(l_.x + n * l_.D, l_.D, 1, l_.D, data_ + n * bytes);
    }
  });
}

void Tokens::block(int64_t begin, int64_t end, std::byte* out) const {
  const std::byte* rows[kMostBlockRows];
  for (int64_t r = begin; r < end; r++) rows[r - begin] = data_ + l_.row_token[r] * row_bytes(form_, l_.D);
  join_rows(form_, rows, end - begin, l_.D, out);
}

void pack_block(const LinearTable& t, Form form, bool direct, float* x, int64_t stride, int64_t rows, int64_t k,
                std::byte* out) {
  if (form == kFormRounded) {
    for (int64_t r = 0; r < rows; r++) {
      for (int64_t i = 0; i < k; i++) x[r * stride + i] = bf16_to_f32(f32_to_bf16(x[r * stride + i]));
    }
  }
  if (!direct) return pack_of(t, form)(x, stride, rows, k, out);
  if (reinterpret_cast<float*>(out) != x) std::memcpy(out, x, static_cast<size_t>(rows * k) * sizeof(float));
}

void add_bias(const float* bias, int64_t width, int64_t e, int64_t column, int64_t n, float* rows, int64_t count,
              int64_t stride) {
  if (bias == nullptr) return;
  const float* from = bias + e * width + column;
  for (int64_t r = 0; r < count; r++)
    for (int64_t i = 0; i < n; i++) rows[r * stride + i] += from[i];
}

PanelJob job_of(const LinearTable& t, const Weight& w, int64_t e, int64_t rows, const Rows& x, const std::byte* at,
                std::byte* scratch) {
  PanelJob job = cut_rows(rows, x.blocks(t, rows));
  job.layout = w.layout();
  job.panels = w.panel(e, 0);
  job.x = at;
  job.x_row_bytes = row_bytes(x.form, x.k);
  job.scratch = scratch;
  return job;
}

void run_part(const LinearTable& t, const Weight& w, const Rows& x, PanelJob job, int64_t panel, int64_t count,
              int64_t begin, int64_t end, float* y, int64_t stride) {
  Cut how;
  how.form = x.form;
  how.direct = x.direct(t, job.rows);
  job.panels += panel * job.layout.bytes;
  job.panel_count = count;
  job.first_block = begin;
  job.last_block = end;
  job.y = y;
  job.y_stride = stride;
  job.outputs = w.rows() - panel * kPanel;
  run_job(t, how, w.format(), job);
}

}  // namespace switchyard
