// Integer atomics on device or shared memory, relaxed. There are none for floats: their sums would depend on the order.
#pragma once

#include "vtl/kernels/device/portable.h"

#if !defined(__CUDACC__)
#include "vtl/kernels/simt/access.h"
#endif

namespace vtl::kernels::VTL_GPU {

// *at becomes *at + value, or the larger of both; what was there is returned.
template <class T>
VTL_DEVICE T atomic_add(T* at, T value, [[maybe_unused]] Site site = VTL_HERE) {
  static_assert(static_cast<T>(0.5) == 0 && sizeof(T) == 4, "integers of 32 bits");
#if defined(__CUDACC__)
  return atomicAdd(at, value);
#else
  ::vtl::emulator::check_access(::vtl::emulator::AccessKind::atomic, at, sizeof(T), alignof(T), site);
  return __atomic_fetch_add(at, value, __ATOMIC_RELAXED);
#endif
}
template <class T>
VTL_DEVICE T atomic_max(T* at, T value, [[maybe_unused]] Site site = VTL_HERE) {
  static_assert(static_cast<T>(0.5) == 0 && sizeof(T) == 4, "integers of 32 bits");
#if defined(__CUDACC__)
  return atomicMax(at, value);
#else
  ::vtl::emulator::check_access(::vtl::emulator::AccessKind::atomic, at, sizeof(T), alignof(T), site);
  T before = __atomic_load_n(at, __ATOMIC_RELAXED);
  while (before < value && !__atomic_compare_exchange_n(at, &before, value, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
  }
  return before;
#endif
}

}  // namespace vtl::kernels::VTL_GPU
