// f32, bf16 and tf32. All roundings are to nearest; ties go to even, tf32's away from zero.
#pragma once

#include "vtl/kernels/device/portable.h"

namespace vtl::kernels::VTL_GPU {

VTL_DEVICE float to_float(float x) { return x; }
VTL_DEVICE float to_float(bf16 x) { return static_cast<float>(x); }
VTL_DEVICE float to_float(uint8_t x) { return static_cast<float>(x); }

template <class T>
VTL_DEVICE T from_float(float x);
template <>
VTL_DEVICE float from_float<float>(float x) {
  return x;
}
template <>
VTL_DEVICE bf16 from_float<bf16>(float x) {
#if defined(__CUDACC__)
  bf16 y;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(y.bits) : "f"(x));
  return y;
#else
  return bf16(x);
#endif
}

// Two bf16 in a register, the first in the lower half: as mma takes them.
VTL_DEVICE uint32_t pack_bf16(float low, float high) {
#if defined(__CUDACC__)
  uint32_t pair;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
#else
  return bf16(low).bits | static_cast<uint32_t>(bf16(high).bits) << 16;
#endif
}

// The bits of x with 10 bits of mantissa.
VTL_DEVICE uint32_t to_tf32(float x) {
  uint32_t bits;
#if defined(__CUDACC__)
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(x));
#else
  __builtin_memcpy(&bits, &x, sizeof bits);
  if ((bits & 0x7f800000u) != 0x7f800000u) bits = (bits + 0x1000u) & 0xffffe000u;
#endif
  return bits;
}

}  // namespace vtl::kernels::VTL_GPU
