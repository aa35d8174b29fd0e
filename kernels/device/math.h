// Fast functions of f32. The emulator computes them exactly rounded or nearly so: results differ in the last bits.
#pragma once

#include "vtl/kernels/device/portable.h"

namespace vtl::kernels::VTL_GPU {

// 2^x within 2 ulp; denormal numbers become zero.
VTL_DEVICE float fast_exp2(float x) {
#if defined(__CUDACC__)
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#else
  return exp2f(x);
#endif
}
// e^x within 2 + |1.16 x| ulp.
VTL_DEVICE float fast_exp(float x) { return fast_exp2(x * 1.44269504088896341f); }

// 1 / sqrt(x) within 2 ulp.
VTL_DEVICE float reciprocal_sqrt(float x) {
#if defined(__CUDACC__)
  return rsqrtf(x);
#else
  return 1.0f / sqrtf(x);
#endif
}
// 1 / x within 1 ulp; denormal numbers are zeros.
VTL_DEVICE float reciprocal(float x) {
#if defined(__CUDACC__)
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#else
  return 1.0f / x;
#endif
}

}  // namespace vtl::kernels::VTL_GPU
