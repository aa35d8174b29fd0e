// How an operation finds its implementation: one explicit table of function pointers, null for a backend not in this build.
#pragma once

#include "vtl/core/cpu.h"
#include "vtl/core/device.h"
#include "vtl/core/error.h"

namespace vtl::kernels {

template <class Fn>
struct Backends {
  Fn* cpu;
  Fn* cuda;
  Fn* simt;

  Fn* on(const Device& device, const char* op) const {
    Fn* found = device.kind == DeviceKind::cpu ? cpu : device.kind == DeviceKind::cuda ? cuda : simt;
    if (!found)
      fail(ErrorKind::unsupported, op, ": this build has no ", device.kind == DeviceKind::cuda ? "CUDA" : to_string(device),
           " kernel for it; run it on the cpu",
           device.kind == DeviceKind::cuda ? " or configure with -DVTL_CUDA=ON" : "");
    return found;
  }
};

// The CPU entry of the level in use. A level without a copy of its own takes the next lower one.
template <class Fn>
Fn* cpu_entry(Fn* plain, Fn* avx2, Fn* avx512, Fn* avx512bf16) {
  switch (cpu_level()) {
    case CpuLevel::avx512bf16:
      if (avx512bf16) return avx512bf16;
      [[fallthrough]];
    case CpuLevel::avx512:
      if (avx512) return avx512;
      [[fallthrough]];
    case CpuLevel::avx2:
      if (avx2) return avx2;
      [[fallthrough]];
    case CpuLevel::plain: break;
  }
  return plain;
}

}  // namespace vtl::kernels

// The build says which files a room holds: VTL_ROOM_CPU_LEVELS (1: plain only, 3: also avx2 and avx512, 4: also
// avx512bf16) and VTL_ROOM_HAS_CUDA.
#if VTL_ROOM_CPU_LEVELS >= 3
#define VTL_IF_AVX(...) __VA_ARGS__
#else
#define VTL_IF_AVX(...)
#endif
#if VTL_ROOM_CPU_LEVELS >= 4
#define VTL_IF_AVX512BF16(...) __VA_ARGS__
#else
#define VTL_IF_AVX512BF16(...)
#endif
#if VTL_ROOM_HAS_CUDA
#define VTL_IF_CUDA(...) __VA_ARGS__
#else
#define VTL_IF_CUDA(...)
#endif

// At namespace scope of <op>.cpp, in vtl::kernels, after the declaration of `op`: declares the backends' functions of the
// same name and type. simt is a weak reference that only the tests' object library fills.
#define VTL_DECLARE_BACKENDS(op)                                        \
  namespace cpu_plain { extern decltype(kernels::op) op; }              \
  VTL_IF_AVX(namespace cpu_avx2 { extern decltype(kernels::op) op; }    \
             namespace cpu_avx512 { extern decltype(kernels::op) op; }) \
  VTL_IF_AVX512BF16(namespace cpu_avx512bf16 { extern decltype(kernels::op) op; }) \
  VTL_IF_CUDA(namespace cuda { extern decltype(kernels::op) op; })      \
  namespace simt { extern decltype(kernels::op) op __attribute__((weak)); }

// VTL_DISPATCH(layernorm_forward, stream)(stream, ...) calls the backend for the stream's device.
#define VTL_DISPATCH(op, stream)                                                                                     \
  ::vtl::kernels::Backends<decltype(kernels::op)>{                                                                   \
      ::vtl::kernels::cpu_entry<decltype(kernels::op)>(&cpu_plain::op, VTL_POINTER(VTL_IF_AVX(&cpu_avx2::op)),       \
                                                       VTL_POINTER(VTL_IF_AVX(&cpu_avx512::op)),                     \
                                                       VTL_POINTER(VTL_IF_AVX512BF16(&cpu_avx512bf16::op))),         \
      VTL_POINTER(VTL_IF_CUDA(&cuda::op)), &simt::op}                                                                \
      .on((stream).device(), #op)
// The argument, or nullptr when it is empty.
#define VTL_POINTER(...) VTL_POINTER_FIRST(__VA_ARGS__ __VA_OPT__(, ) nullptr, )
#define VTL_POINTER_FIRST(first, ...) first
