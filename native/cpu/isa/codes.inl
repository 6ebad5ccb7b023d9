// The packed layout as vectors: codes and scales of a chunk. Included after simd_*.inl.

template <Format f>
struct Spec {
  static constexpr FormatInfo kInfo = kFormatTable[static_cast<int>(f)];
  static constexpr int kBits = kInfo.code_bits;
  static constexpr int kCodeBytes = chunk_code_bytes(kBits);
  static constexpr int kScaleBytes = scale_bytes(kInfo.scales);
  static constexpr int64_t kScaleChunks = chunks_per_scale(kInfo);
  static constexpr int kSuperBytes = super_bytes(kInfo.scales);
  static constexpr int kGroups = kInfo.group == 16 ? 2 : 1;  // per chunk
  static constexpr bool kHasMin = kInfo.scales == ScaleKind::kScaleMin || kInfo.scales == ScaleKind::kSuperMin;
  static constexpr int kLowBits = kBits == 3 ? 2 : kBits == 5 || kBits == 6 ? 4 : kBits;
  static constexpr bool kTable = kInfo.values != nullptr;
  static constexpr bool kFloat8 = kInfo.scales == ScaleKind::kFloat;
  // Bits of the codes as integer products take them: the values of a table are moved up by `zero`.
  static constexpr int kDotBits = !kTable ? kBits : kInfo.zero == 128 ? 8 : 5;
};

// values + zero of a format with a table.
template <Format f>
struct DotTable {
  struct Bytes {
    uint8_t at[16];
  };
  static constexpr Bytes make() {
    Bytes b{};
    for (int i = 0; i < 16; i++) b.at[i] = static_cast<uint8_t>(Spec<f>::kInfo.values[i] + Spec<f>::kInfo.zero);
    return b;
  }
  static constexpr Bytes kBytes = make();
};

constexpr uint32_t every_byte(uint32_t mask) { return mask * 0x01010101u; }

// Plane of kWidth bits, moved to bit kTo of every byte; see pack.h.
template <int kWidth, int kTo>
inline I plane_vector(const std::byte* plane, int v) {
  constexpr uint32_t kMask = every_byte(((1u << kWidth) - 1) << kTo);
  const int vector = kWidth == 4 ? v % 4 : v * kWidth / 8;
  const int at = kWidth == 4 ? v / 4 * 4 : kWidth == 2 ? v % 4 * 2 : kWidth == 1 ? v : 0;
  const I bits = i_load(plane + 64 * vector);
  if constexpr (kWidth == 8) return bits;
  return i_and(at > kTo ? i_shr(bits, at - kTo) : at < kTo ? i_shl(bits, kTo - at) : bits, kMask);
}

// Code vector v (values 4v…4v+3 of 16 lanes) of a chunk, as integer products take it.
template <Format f>
inline I code_vector(const std::byte* chunk, int v) {
  using S = Spec<f>;
  const I low = plane_vector<S::kLowBits, 0>(chunk, v);
  if constexpr (S::kTable) {
    return i_lookup(low, DotTable<f>::kBytes.at);
  } else if constexpr (S::kBits == S::kLowBits) {
    return low;
  } else {
    return i_or(low, plane_vector<S::kBits - S::kLowBits, S::kLowBits>(chunk + 64 * S::kLowBits, v));
  }
}

// Value 4v + i of a chunk before scaling, in f32: its code, or what the code stands for.
template <Format f>
inline F code_value(const std::byte* chunk, int v, int i) {
  if constexpr (Spec<f>::kTable) {
    return f_lookup(i_load(chunk + 64 * (v % 4)), 2 * i + v / 4, Spec<f>::kInfo.values);
  } else if constexpr (Spec<f>::kFloat8) {
    return f_float8(i_load(chunk + 64 * v), i);
  } else if constexpr (Spec<f>::kBits == 4) {
    return f_nibble(i_load(chunk + 64 * (v % 4)), 2 * i + v / 4);
  } else {
    return f_byte(code_vector<f>(chunk, v), i);
  }
}

// s and m of group `half` of a chunk; `m` is set only where the format stores one.
template <Format f>
inline void load_scale(const std::byte* scales, const std::byte* supers, int half, F* s, F* m) {
  using S = Spec<f>;
  if constexpr (S::kInfo.scales == ScaleKind::kScale) {
    *s = f_load_f16(scales);
  } else if constexpr (S::kInfo.scales == ScaleKind::kRow || S::kFloat8) {
    *s = f_load(scales);
  } else if constexpr (S::kInfo.scales == ScaleKind::kExponent) {
    *s = f_load_exponent(scales);
  } else if constexpr (S::kInfo.scales == ScaleKind::kScaleMin) {
    *s = f_load_f16(scales);
    *m = f_load_f16(scales + 32);
  } else if constexpr (S::kInfo.scales == ScaleKind::kSuper) {
    *s = f_mul(f_load_f16(supers), f_load_i8(scales + 16 * half));
  } else if constexpr (S::kGroups == 2) {
    *s = f_mul(f_load_f16(supers), f_load_u4(scales + 16 * half, 0));
    *m = f_mul(f_mul(f_load_f16(supers + 32), f_load_u4(scales + 16 * half, 4)), f_set1(-1.0f));
  } else {
    *s = f_mul(f_load_f16(supers), f_load_u8(scales));
    *m = f_mul(f_mul(f_load_f16(supers + 32), f_load_u8(scales + 16)), f_set1(-1.0f));
  }
}

template <Format f>
inline void load_scale_f32(const std::byte* scales, const std::byte* supers, int half, F* s, F* m) {
  load_scale<f>(scales, supers, half, s, m);
  constexpr float kZero = Spec<f>::kTable ? -0.0f : static_cast<float>(-Spec<f>::kInfo.zero);
  if constexpr (!Spec<f>::kHasMin) *m = f_mul(*s, f_set1(kZero));
}

// Calls fn.template operator()<f>() for every format that `kWhich` picks.
template <bool (*kWhich)(Format), int kFrom = 0, class Fn>
inline void for_formats(const Fn& fn) {
  if constexpr (kFrom < kFormatCount) {
    if constexpr (kWhich(static_cast<Format>(kFrom))) fn.template operator()<static_cast<Format>(kFrom)>();
    for_formats<kWhich, kFrom + 1>(fn);
  }
}

// How far ahead the panels are fetched that one row streams through: to the same place of the next panels where these
// are small (a fixed distance would fetch what is being read already), kPrefetch bytes where they are large.
inline int64_t prefetch_distance(int64_t panels_bytes) { return panels_bytes <= kNearPanels ? panels_bytes : kPrefetch; }

// Some chunks of some panels, for the wide int8 kernels.
struct WideSlab {
  const std::byte* codes;   // of the first panel, from the first chunk on
  const std::byte* scales;
  int64_t stride;           // bytes between panels
  int64_t chunks;
  bool first, last;         // whether the chains start and end here
  // What is fetched meanwhile, from memory to the caches: the codes at `ahead`, packed as the weight is, chunk c where
  // c % turns == turn. Row blocks that pass over a slab take turns, so that memory is read all the time.
  const std::byte* ahead = nullptr;
  int64_t turn = 0, turns = 1;
};

constexpr int kWideWords = 4 * kInt8G128.words;  // bytes of a row in a group
static_assert(kInt8G64.words == kInt8G128.words);

// The words of chunk c, the first of a group, in a row block at x.
template <Format f>
inline const std::byte* wide_words(const std::byte* x, int64_t columns, int64_t rows, int64_t c) {
  constexpr Int8Layout kLayout = int8_layout(Spec<f>::kInfo);
  return x + kLayout.words_at(columns, rows) + rows * (c / (kLayout.group / kChunk)) * kWideWords;
}

template <Format f, int P>
inline void fetch_ahead(const WideSlab& slab, int64_t chunk) {
  if (slab.ahead == nullptr || (slab.turns > 1 && chunk % slab.turns != slab.turn)) return;
  const std::byte* at = slab.ahead + chunk * Spec<f>::kCodeBytes;
  SY_UNROLL(4)
  for (int p = 0; p < P; p++) {
    SY_UNROLL(8)
    for (int line = 0; line < Spec<f>::kCodeBytes; line += 64) prefetch(at + p * slab.stride + line);
  }
}
