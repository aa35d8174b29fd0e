// Memory as wrapped accesses see it: checked for alignment and bounds, shown to the observer.
#pragma once

#include <cstddef>
#include <cstdint>

#include "vtl/kernels/simt/block.h"

namespace vtl::emulator {

// Stops the block unless `bytes` at `address`, which must be a multiple of `alignment`, lie in device memory in use, in
// one array of the block's shared memory, or on the thread's own stack, and no asynchronous copy is about to write
// there.
void check_access(AccessKind kind, const void* address, size_t bytes, size_t alignment, Site site);

// Checked, then copied. 1, 2, 4, 8, 16 bytes and anything else.
void read(void* to, const void* from, size_t bytes, size_t alignment, Site site);
void write(void* to, const void* from, size_t bytes, size_t alignment, Site site);

// cp.async: the copy happens when the thread waits for its group, not before. 4, 8 or 16 bytes.
void async_copy(const AsyncCopy& copy);
void async_commit();
// Until at most `pending` of the thread's committed groups are under way.
void async_wait(unsigned pending);

}  // namespace vtl::emulator
