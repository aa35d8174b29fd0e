// Attributes that host and device compilers spell differently.
#pragma once

#if defined(__CUDACC__)
#define VTL_HOST_DEVICE __host__ __device__
#else
#define VTL_HOST_DEVICE
#endif

// Functions that kernels share must never be emitted out of line: a linker would keep one copy for
// all instruction sets, and it might be the AVX-512 one.
#if defined(__CUDACC__)
#define VTL_INLINE VTL_HOST_DEVICE __forceinline__
#else
#define VTL_INLINE inline __attribute__((always_inline))
#endif
