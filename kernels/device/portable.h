// One text for two compilers. nvcc compiles a .cu into the namespace vtl::kernels::cuda; the host compiler compiles the
// same text into vtl::kernels::simt, where the emulator runs it. Kernels include the headers of this folder and neither
// CUDA's nor the standard library's algorithms; what only one of the compilers knows is behind a wrapper here.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>

#include "vtl/core/dtype.h"

#if defined(__CUDACC__)
#define VTL_GPU cuda
#define VTL_DEVICE __device__ __forceinline__
#define VTL_UNROLL _Pragma("unroll")
#define VTL_UNROLL_BY(count) VTL_PRAGMA(unroll count)
#define VTL_PRAGMA(text) _Pragma(#text)
#define VTL_HERE \
  ::vtl::kernels::cuda::Site {}
#else
#include "vtl/kernels/simt/cuda_words.h"
#define VTL_GPU simt
#define VTL_DEVICE inline __attribute__((always_inline))
#define VTL_UNROLL
#define VTL_UNROLL_BY(count)
#define VTL_HERE VTL_SIMT_HERE
#endif

// VTL_SHARED(float, tile, [32][33]); an array in the block's shared memory.
// VTL_DYNAMIC_SHARED(float, tile);   the dynamic part, aligned to 128 bytes, as a pointer.
#if defined(__CUDACC__)
extern __shared__ __align__(128) unsigned char vtl_dynamic_shared[];
#define VTL_SHARED(T, name, dims) __shared__ T name dims
#define VTL_DYNAMIC_SHARED(T, name) T* name = reinterpret_cast<T*>(vtl_dynamic_shared)
#else
#define VTL_SHARED(T, name, dims)           \
  using name##_array = T dims;              \
  static char name##_declaration;           \
  auto& name = *static_cast<name##_array*>( \
      ::vtl::emulator::shared_array(&name##_declaration, sizeof(name##_array), VTL_SIMT_HERE))
#define VTL_DYNAMIC_SHARED(T, name) T* name = static_cast<T*>(::vtl::emulator::shared_dynamic())
#endif

namespace vtl::kernels::VTL_GPU {

// The place of a call, which the emulator names in errors. Nothing on the device.
#if defined(__CUDACC__)
struct Site {};
#else
using ::vtl::emulator::Site;
#endif

inline constexpr unsigned kWarpLanes = 32;
inline constexpr uint32_t kAllLanes = ~0u;

VTL_DEVICE unsigned lane_index() { return threadIdx.x % kWarpLanes; }
VTL_DEVICE unsigned warp_index() { return threadIdx.x / kWarpLanes; }

// Host and device.
template <class T>
VTL_INLINE constexpr T min(T a, T b) {
  return b < a ? b : a;
}
template <class T>
VTL_INLINE constexpr T max(T a, T b) {
  return a < b ? b : a;
}

}  // namespace vtl::kernels::VTL_GPU
