// Philox in vectors: the numbers of core/rng.h, 4 * kLanes at a time.
#pragma once

#include "vtl/core/rng.h"
#include "vtl/core/step_state.h"
#include "vtl/kernels/cpu/vec.h"

namespace vtl::kernels::VTL_CPU {

// The key of one layer's numbers in one micro-batch: the first two words of philox(counter, step << 32 | micro_batch, seed).
VTL_INLINE uint64_t step_key(const StepState& state, uint64_t counter) {
  const uint64_t when = static_cast<uint64_t>(state.step) << 32 | (static_cast<uint64_t>(state.micro_batch) & 0xffffffffu);
  const Philox4 words = philox(counter, when, state.seed);
  return static_cast<uint64_t>(words.v[1]) << 32 | words.v[0];
}

typedef uint64_t vwide __attribute__((vector_size(kLanes * 4)));  // half as many lanes, twice as wide

// The 64-bit products of a constant and each 32-bit lane, in two halves.
VTL_INLINE void multiply_wide(vuint a, uint32_t constant, vuint& high, vuint& low) {
  const vwide even = ((vwide)a & 0xffffffffu) * (uint64_t{constant} + (vwide){});
  const vwide odd = ((vwide)a >> 32) * (uint64_t{constant} + (vwide){});
  low = (vuint)((even & 0xffffffffu) | (odd << 32));
  high = (vuint)((even >> 32) | (odd & ~uint64_t{0xffffffffu}));
}

inline constexpr int kPhiloxBlock = 4 * kLanes;

// numbers[j] = word j % 4 of philox(counter, first + j / 4, key) as a uniform in [0, 1), for j in [0, kPhiloxBlock).
VTL_INLINE void philox_block(uint64_t counter, uint64_t first, uint64_t key, float* numbers) {
  vuint c0, c1;
  for (int lane = 0; lane < kLanes; ++lane) {
    c0[lane] = static_cast<uint32_t>(first + static_cast<uint64_t>(lane));
    c1[lane] = static_cast<uint32_t>((first + static_cast<uint64_t>(lane)) >> 32);
  }
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
  const vuint words[4] = {c0, c1, c2, c3};
  for (int w = 0; w < 4; ++w) {
    const vfloat uniforms = __builtin_convertvector((vint)(words[w] >> 8), vfloat) * 0x1p-24f;
    for (int lane = 0; lane < kLanes; ++lane) numbers[4 * lane + w] = uniforms[lane];
  }
}

}  // namespace vtl::kernels::VTL_CPU
