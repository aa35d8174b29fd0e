// Vectors of floats for the CPU kernels, through the compiler's vector extensions. This file is compiled once for each
// instruction set into that level's namespace, and every function in it is inlined: no copy is shared between levels.
// Multiplications and additions contract to FMA where the level has it.
#pragma once

#include <cstdint>
#include <type_traits>

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

#include "vtl/core/dtype.h"

namespace vtl::kernels::VTL_CPU {

#if defined(__AVX512F__)
inline constexpr int kLanes = 16;
#elif defined(__AVX2__)
inline constexpr int kLanes = 8;
#else
inline constexpr int kLanes = 4;
#endif

typedef float vfloat __attribute__((vector_size(kLanes * 4)));
typedef int32_t vint __attribute__((vector_size(kLanes * 4)));
typedef uint32_t vuint __attribute__((vector_size(kLanes * 4)));
typedef uint16_t vhalf __attribute__((vector_size(kLanes * 2)));

VTL_INLINE vfloat broadcast(float value) { return vfloat{} + value; }
VTL_INLINE vint as_int(vfloat x) { return (vint)x; }
VTL_INLINE vfloat as_float(vint x) { return (vfloat)x; }

// Unaligned, of f32 or bf16 (widened to f32; narrowed by rounding to nearest even, NaN stays NaN).
VTL_INLINE vfloat load(const float* from) {
  vfloat x;
  __builtin_memcpy(&x, from, sizeof x);
  return x;
}
VTL_INLINE vfloat widen(vhalf h) {
#if defined(__AVX512F__)
  // In one instruction and a shift; for __builtin_convertvector the compiler works on halves.
  return (vfloat)((vuint)_mm512_maskz_cvtepu16_epi32(0xffff, (__m256i)h) << 16);
#else
  return (vfloat)(__builtin_convertvector(h, vuint) << 16);
#endif
}
VTL_INLINE vfloat load(const bf16* from) {
  vhalf h;
  __builtin_memcpy(&h, from, sizeof h);
  return widen(h);
}
VTL_INLINE void store(float* to, vfloat x) { __builtin_memcpy(to, &x, sizeof x); }
VTL_INLINE vhalf narrow(vfloat x) {
#if defined(__AVX512BF16__)
  return (vhalf)_mm512_cvtneps_pbh((__m512)x);  // the same, but denormal numbers become zero
#else
  const vuint u = (vuint)x;
  const vuint rounded = u + 0x7fffu + ((u >> 16) & 1u);
  const vuint quiet = u | 0x400000u;
  const vuint bits = (u & 0x7fffffffu) > 0x7f800000u ? quiet : rounded;
  return __builtin_convertvector(bits >> 16, vhalf);
#endif
}
VTL_INLINE void store(bf16* to, vfloat x) {
  const vhalf h = narrow(x);
  __builtin_memcpy(to, &h, sizeof h);
}

// The first `count` lanes (0 < count < kLanes); the others are zero, or left alone in memory.
#if defined(__AVX512F__)
VTL_INLINE uint16_t first_lanes(int64_t count) { return static_cast<uint16_t>((1u << count) - 1); }
VTL_INLINE vfloat load_part(const float* from, int64_t count) {
  return (vfloat)_mm512_maskz_loadu_ps(first_lanes(count), from);
}
VTL_INLINE vfloat load_part(const bf16* from, int64_t count) {
  const vhalf h = (vhalf)_mm256_maskz_loadu_epi16(first_lanes(count), from);
  return widen(h);
}
VTL_INLINE void store_part(float* to, vfloat x, int64_t count) {
  _mm512_mask_storeu_ps(to, first_lanes(count), (__m512)x);
}
VTL_INLINE void store_part(bf16* to, vfloat x, int64_t count) {
  _mm256_mask_storeu_epi16(to, first_lanes(count), (__m256i)narrow(x));
}
#else
template <class T>
VTL_INLINE vfloat load_part(const T* from, int64_t count) {
  T lanes[kLanes] = {};
  for (int64_t i = 0; i < count; ++i) lanes[i] = from[i];
  return load(lanes);
}
template <class T>
VTL_INLINE void store_part(T* to, vfloat x, int64_t count) {
  T lanes[kLanes];
  store(lanes, x);
  for (int64_t i = 0; i < count; ++i) to[i] = lanes[i];
}
#endif

VTL_INLINE float to_float(float x) { return x; }
VTL_INLINE float to_float(bf16 x) { return static_cast<float>(x); }
template <class T>
VTL_INLINE T from_float(float x) {
  return static_cast<T>(x);
}

// a > b ? a : b and a < b ? a : b, lane by lane: the second where one is not a number.
#if defined(__AVX512F__)
VTL_INLINE vfloat vmax(vfloat a, vfloat b) { return (vfloat)_mm512_maskz_max_ps(0xffff, (__m512)a, (__m512)b); }
VTL_INLINE vfloat vmin(vfloat a, vfloat b) { return (vfloat)_mm512_maskz_min_ps(0xffff, (__m512)a, (__m512)b); }
#else
VTL_INLINE vfloat vmax(vfloat a, vfloat b) { return a > b ? a : b; }
VTL_INLINE vfloat vmin(vfloat a, vfloat b) { return a < b ? a : b; }
#endif
VTL_INLINE vfloat clamp(vfloat x, float low, float high) { return vmin(vmax(x, broadcast(low)), broadcast(high)); }

// Sum and maximum over the lanes, in a fixed order (halves).
VTL_INLINE float sum_lanes(vfloat x) {
  float lanes[kLanes];
  store(lanes, x);
  for (int half = kLanes / 2; half > 0; half /= 2)
    for (int i = 0; i < half; ++i) lanes[i] += lanes[i + half];
  return lanes[0];
}
VTL_INLINE float max_lanes(vfloat x) {
  float lanes[kLanes];
  store(lanes, x);
  for (int half = kLanes / 2; half > 0; half /= 2)
    for (int i = 0; i < half; ++i) lanes[i] = lanes[i] > lanes[i + half] ? lanes[i] : lanes[i + half];
  return lanes[0];
}

// e^x within 2 ulp for x in [-87.3, 88.7]; below, 0 is approached; above, +inf is not reached (clamped). NaN gives NaN.
// Range reduction x = n ln 2 + r with |r| <= ln 2 / 2, then a minimax polynomial (Cephes' expf coefficients).
VTL_INLINE vfloat vexp(vfloat x) {
  const vfloat c = clamp(x, -87.33654f, 88.37626f);
  const vfloat shifted = c * 1.44269504088896341f + 12582912.0f;  // 1.5 * 2^23: rounds to an integer in the low bits
  const vfloat n = shifted - 12582912.0f;
  const vfloat r = (c - n * 0.693359375f) - n * -2.12194440e-4f;
  vfloat p = broadcast(1.9875691500e-4f);
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  const vfloat result = as_float(as_int(p) + (as_int(shifted) << 23));
  return x == x ? result : x;
}

// 1 / x within 1 ulp, for finite x >= 1. A division takes three times as long as an estimate and a Newton step.
VTL_INLINE vfloat reciprocal(vfloat x) {
#if defined(__AVX512F__)
  const vfloat estimate = (vfloat)_mm512_maskz_rcp14_ps(0xffff, (__m512)x);
  return estimate + estimate * (1.0f - x * estimate);
#else
  return 1.0f / x;
#endif
}

// tanh and the logistic function through vexp; absolute error below 2e-7.
VTL_INLINE vfloat vsigmoid(vfloat x) { return reciprocal(1.0f + vexp(-x)); }
VTL_INLINE vfloat vtanh(vfloat x) { return 1.0f - 2.0f * reciprocal(vexp(2.0f * x) + 1.0f); }

// erf within 6e-7 absolute (Abramowitz and Stegun, 7.1.26), with exp_minus_square = e^(-x^2), which callers have
// anyway.
VTL_INLINE vfloat verf(vfloat x, vfloat exp_minus_square) {
  const vfloat magnitude = as_float(as_int(x) & 0x7fffffff);
  const vfloat t = reciprocal(1.0f + 0.3275911f * vmin(magnitude, broadcast(10.0f)));  // erf(10) is 1
  vfloat p = broadcast(1.061405429f);
  p = p * t - 1.453152027f;
  p = p * t + 1.421413741f;
  p = p * t - 0.284496736f;
  p = p * t + 0.254829592f;
  const vfloat y = 1.0f - p * t * exp_minus_square;
  return as_float(as_int(y) | (as_int(x) & (int32_t)0x80000000));
}

// f(i, lanes) for i = 0, kLanes, ... over [0, count): lanes is kLanes, or less in the last call. Loads and stores go
// through load_n and store_n, which turn into plain vector moves where lanes is the compile-time constant.
struct AllLanes {
  VTL_INLINE constexpr operator int64_t() const { return kLanes; }
};
template <class T>
VTL_INLINE vfloat load_n(const T* from, AllLanes) { return load(from); }
template <class T>
VTL_INLINE vfloat load_n(const T* from, int64_t lanes) { return load_part(from, lanes); }
template <class T>
VTL_INLINE void store_n(T* to, vfloat x, AllLanes) { store(to, x); }
template <class T>
VTL_INLINE void store_n(T* to, vfloat x, int64_t lanes) { store_part(to, x, lanes); }
template <class F>
VTL_INLINE void for_lanes(int64_t count, F&& f) {
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) f(i, AllLanes{});
  if (i < count) f(i, count - i);
}

}  // namespace vtl::kernels::VTL_CPU
