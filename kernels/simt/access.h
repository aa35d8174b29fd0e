// Memory as wrapped accesses see it: checked for alignment and bounds, shown to the observer.
#pragma once

#include <cstddef>
#include <cstdint>

#include "vtl/kernels/simt/block.h"

namespace vtl::emulator {

// What is wrong with an access of the running thread, in words; nothing when it is within device memory in use, one
// array of the block's shared memory where no asynchronous copy is about to write, or the thread's own stack.
std::string problem_with(AccessKind kind, const void* address, size_t bytes);

// Stops the block where there is a problem, or the address is no multiple of `alignment`. Shows the access to the
// observer.
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
