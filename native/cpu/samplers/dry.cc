// dry(multiplier, base, allowed, from, breakers): "don't repeat yourself" (p-e-w 2024). A token that would lengthen a repetition of
// what ends the text loses multiplier · base^(length - allowed), where length >= allowed tokens are repeated so far. A match
// does not reach across a breaker.
#include <algorithm>
#include <cmath>
#include <vector>

#include "cpu/samplers/kinds.h"

namespace switchyard::samplers {

namespace {

constexpr double kMost = 1e30;  // finite in f32

// reversed[0…n): z[i] is how many tokens from i on are those from 0 on (Gusfield 1997), at most `limit`.
std::vector<int32_t> z_function(const std::vector<int32_t>& reversed, int32_t limit) {
  const auto n = int32_t(reversed.size());
  std::vector<int32_t> z(size_t(n), 0);
  int32_t left = 0, right = 0;
  for (int32_t i = 1; i < n; i++) {
    int32_t length = i < right ? std::min(right - i, z[size_t(i - left)]) : 0;
    while (length < limit && i + length < n && reversed[size_t(length)] == reversed[size_t(i + length)]) length++;
    z[size_t(i)] = length;
    if (i + length > right) {
      left = i;
      right = i + length;
    }
  }
  return z;
}

}  // namespace

void dry(Row& row, Record& record) {
  const double multiplier = record.finite(), base = record.finite();
  const auto allowed = int32_t(record.index());
  const auto ids = row.history_from(record.index());
  const auto breakers = record.list();  // rising
  if (ids.size() < 2) return;
  const auto breaks = [&](int32_t id) { return std::binary_search(breakers.begin(), breakers.end(), id); };
  const std::vector<int32_t> reversed(ids.rbegin(), ids.rend());
  const auto limit = int32_t(std::find_if(reversed.begin(), reversed.end(), breaks) - reversed.begin());
  if (limit < std::max(allowed, 1)) return;
  const std::vector<int32_t> z = z_function(reversed, limit);
  int32_t* longest = row.memory.counts;
  for (const int32_t id : ids) {
    if (row.has(id)) longest[id] = 0;
  }
  for (size_t i = 1; i < reversed.size(); i++) {
    const int32_t next = reversed[i - 1];  // what followed there
    if (row.has(next) && !breaks(next)) longest[next] = std::max(longest[next], z[i]);
  }
  row.settle();
  for (const int32_t id : ids) {
    if (!row.has(id) || longest[id] < std::max(allowed, 1)) continue;
    const double cost = multiplier * std::pow(base, double(longest[id] - allowed));
    row.set_score(id, row.score_of(id) - float(std::clamp(cost, -kMost, kMost)));
    longest[id] = 0;
  }
}

}  // namespace switchyard::samplers
