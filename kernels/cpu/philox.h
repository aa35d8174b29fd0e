// Philox in vectors: the numbers of core/rng.h, 4 * kLanes at a time.
#pragma once

#include "vtl/core/rng.h"
#include "vtl/kernels/cpu/vec.h"

namespace vtl::kernels::VTL_CPU {

typedef uint64_t vwide __attribute__((vector_size(kLanes * 4)));  // half as many lanes, twice as wide

// The products of the even 32-bit lanes, in 64 bits.
VTL_INLINE vwide multiply_even(vwide a, uint32_t constant) {
#if defined(__AVX512F__)
  return (vwide)_mm512_maskz_mul_epu32(0xff, (__m512i)a, (__m512i)(vuint{} + constant));
#else
  return (a & 0xffffffffu) * (uint64_t{constant} + vwide{});
#endif
}

// The 64-bit products of a constant and each 32-bit lane, in two halves.
VTL_INLINE void multiply_wide(vuint a, uint32_t constant, vuint& high, vuint& low) {
  const vwide even = multiply_even((vwide)a, constant), odd = multiply_even((vwide)a >> 32, constant);
  low = (vuint)((even & 0xffffffffu) | (odd << 32));
  high = (vuint)((even >> 32) | (odd & ~uint64_t{0xffffffffu}));
}

// a[0], b[0], a[1], b[1], ... : the first kLanes of them, and the others.
VTL_INLINE void interleave(vuint a, vuint b, vuint& low, vuint& high) {
  vuint first;
  for (int lane = 0; lane < kLanes; ++lane) first[lane] = static_cast<uint32_t>(lane / 2 + lane % 2 * kLanes);
  low = __builtin_shuffle(a, b, first);
  high = __builtin_shuffle(a, b, first + kLanes / 2);
}

inline constexpr int kPhiloxBlock = 4 * kLanes;

// numbers[j] = word j % 4 of philox(counter, first + j / 4, key) as a uniform in [0, 1), for j in [0, kPhiloxBlock).
VTL_INLINE void philox_block(uint64_t counter, uint64_t first, uint64_t key, float* numbers) {
  vuint lane_numbers;
  for (int lane = 0; lane < kLanes; ++lane) lane_numbers[lane] = static_cast<uint32_t>(lane);
  const uint32_t first_low = static_cast<uint32_t>(first);
  vuint c0 = lane_numbers + first_low, c1 = vuint{} + static_cast<uint32_t>(first >> 32);
  c1 -= (vuint)(c0 < first_low);  // the carry: true is -1
  vuint c2 = vuint{} + static_cast<uint32_t>(counter), c3 = vuint{} + static_cast<uint32_t>(counter >> 32);
  uint32_t k0 = static_cast<uint32_t>(key), k1 = static_cast<uint32_t>(key >> 32);
  for (int round = 0; round < 10; ++round) {
    vuint high0, low0, high1, low1;
    multiply_wide(c0, 0xD2511F53u, high0, low0);
    multiply_wide(c2, 0xCD9E8D57u, high1, low1);
    c0 = high1 ^ c1 ^ k0;
    c1 = low1;
    c2 = high0 ^ c3 ^ k1;
    c3 = low0;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  vuint even_low, even_high, odd_low, odd_high, words[4];
  interleave(c0, c2, even_low, even_high);
  interleave(c1, c3, odd_low, odd_high);
  interleave(even_low, odd_low, words[0], words[1]);
  interleave(even_high, odd_high, words[2], words[3]);
  for (int w = 0; w < 4; ++w)
    store(numbers + w * kLanes, __builtin_convertvector((vint)(words[w] >> 8), vfloat) * 0x1p-24f);
}

}  // namespace vtl::kernels::VTL_CPU
