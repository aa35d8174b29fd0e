// Copies from device to shared memory that run while the thread goes on (cp.async). A thread groups its copies, waits
// for its own groups, and a barrier makes them visible to others.
#pragma once

#include "vtl/kernels/device/portable.h"

#if !defined(__CUDACC__)
#include "vtl/kernels/simt/access.h"
#endif

namespace vtl::kernels::VTL_GPU {

// Bytes (4, 8, 16) at `to`, in shared memory: the first `taken` of them from `from`, then zeros; taken = 0 reads
// nothing. Both are aligned to Bytes. 16 bytes pass the L1 cache by.
template <int Bytes>
VTL_DEVICE void copy_async(void* to, const void* from, unsigned taken = Bytes, [[maybe_unused]] Site site = VTL_HERE) {
  static_assert(Bytes == 4 || Bytes == 8 || Bytes == 16);
#if defined(__CUDACC__)
  const auto at = static_cast<uint32_t>(__cvta_generic_to_shared(to));
  if constexpr (Bytes == 16)
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(at), "l"(from), "r"(taken) : "memory");
  else
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(at), "l"(from), "n"(Bytes), "r"(taken)
                 : "memory");
#else
  ::vtl::emulator::async_copy({to, from, Bytes, taken, site});
#endif
}

// Closes a group: the copies since the last one.
VTL_DEVICE void commit_async() {
#if defined(__CUDACC__)
  asm volatile("cp.async.commit_group;" ::: "memory");
#else
  ::vtl::emulator::async_commit();
#endif
}

// Until at most `Pending` of the latest groups are under way.
template <int Pending>
VTL_DEVICE void wait_async() {
#if defined(__CUDACC__)
  asm volatile("cp.async.wait_group %0;" ::"n"(Pending) : "memory");
#else
  ::vtl::emulator::async_wait(Pending);
#endif
}

}  // namespace vtl::kernels::VTL_GPU
