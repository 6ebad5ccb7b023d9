// Copies that are asked for and waited for, as the emulated twins of device/async.h. A copy is made when it is waited for: what
// is read before holds old bytes.
#pragma once
#include <cstddef>
#include <cstdint>

namespace switchyard::cuda::emulation {

// `copied` bytes and zeros up to `size`, of the group that this thread commits next.
void copy_later(void* to, const void* from, int copied, int size);
void commit_copies();
void wait_copies(int groups_left);

void barrier_init(uint64_t* word, int arrivals);
void barrier_arrive(uint64_t* word, uint32_t expected_bytes);
bool barrier_complete(uint64_t* word, uint32_t parity);
void copy_bulk(void* to, const void* from, uint32_t bytes, uint64_t* word);

// Before a block starts. Bulk copies that nobody waited for end the program: they may write after the block has gone.
void forget_copies();

}  // namespace switchyard::cuda::emulation
