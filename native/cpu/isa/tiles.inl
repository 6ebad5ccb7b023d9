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
