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

// Tiles by number: in the instructions these must be literals.
template <int kTile>
inline void zero_tile() {
  if constexpr (kTile == 0) _tile_zero(0);
  if constexpr (kTile == 1) _tile_zero(1);
  if constexpr (kTile == 2) _tile_zero(2);
  if constexpr (kTile == 3) _tile_zero(3);
}

template <int kTile>
inline void load_tile(const void* from, int64_t stride) {
  if constexpr (kTile == 0) _tile_loadd(0, from, stride);
  if constexpr (kTile == 1) _tile_loadd(1, from, stride);
  if constexpr (kTile == 2) _tile_loadd(2, from, stride);
  if constexpr (kTile == 3) _tile_loadd(3, from, stride);
  if constexpr (kTile == 4) _tile_loadd(4, from, stride);
  if constexpr (kTile == 5) _tile_loadd(5, from, stride);
  if constexpr (kTile == 6) _tile_loadd(6, from, stride);
  if constexpr (kTile == 7) _tile_loadd(7, from, stride);
}

template <int kTile>
inline void store_tile(void* to, int64_t stride) {
  if constexpr (kTile == 0) _tile_stored(0, to, stride);
  if constexpr (kTile == 1) _tile_stored(1, to, stride);
  if constexpr (kTile == 2) _tile_stored(2, to, stride);
  if constexpr (kTile == 3) _tile_stored(3, to, stride);
}

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

  // What the job reads after its first `panels` panels: some more of its own, or what comes after the job. In `steps` steps.
  PanelsAhead(const PanelJob& job, int64_t panels, int64_t most, int64_t steps) {
    const int64_t left = job.panel_count - panels;
    const int64_t bytes = left > 0 ? (left < most ? left : most) * job.layout.bytes : job.next_bytes;
    at = left > 0 ? job.panels + panels * job.layout.bytes : job.next;
    end = at + bytes;
    lines = (bytes / 64 + steps - 1) / steps;
  }
  void step() {
    for (int64_t i = 0; i < lines && at < end; i++, at += 64) prefetch(at);
  }
};
