// AMX tiles. The intrinsics of GCC 12 do not tell the compiler which memory they read and write, not even the
// configuration: memory_barrier() stands between them and ordinary loads and stores.

inline void memory_barrier() {
#if defined(_MSC_VER) && !defined(__clang__)
  _ReadWriteBarrier();
#else
  asm volatile("" ::: "memory");
#endif
}

struct alignas(64) TileConfig {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};

  void set(int tile, int64_t tile_rows, int bytes) {
    rows[tile] = static_cast<uint8_t>(tile_rows);
    row_bytes[tile] = static_cast<uint16_t>(bytes);
  }
  void load() const {
    memory_barrier();
    _tile_loadconfig(this);
    memory_barrier();
  }
};
static_assert(sizeof(TileConfig) == 64);

// The tile registers are part of what the system saves when a thread is switched: give them back after a job.
inline void release_tiles() {
  memory_barrier();
  _tile_release();
}

// The panels that come next, fetched from memory to the caches while row blocks meet those before: some lines with every
// chunk of every block, so that memory is read all the time. Scales are fetched too: each line that is missed costs as
// much as many products.
struct PanelsAhead {
  const std::byte* at;
  const std::byte* end;
  int64_t lines;  // a step

  // Of `count` panels, in `steps` steps.
  PanelsAhead(const std::byte* first, int64_t count, int64_t panel_bytes, int64_t steps)
      : at(first), end(first + count * panel_bytes), lines((count * panel_bytes / 64 + steps - 1) / steps) {}
  void step() {
    for (int64_t i = 0; i < lines && at < end; i++, at += 64) prefetch(at);
  }
};
