// What dropout and drop path share on all devices: the key of their random numbers, and the comparison with p.
#pragma once

#include "vtl/core/rng.h"

namespace vtl::kernels {

// The key of one layer's numbers in one micro-batch: the first two words of philox(counter, step << 32 | micro_batch,
// seed).
VTL_INLINE uint64_t step_key(uint64_t seed, int64_t step, int64_t micro_batch, uint64_t counter) {
  const uint64_t when = static_cast<uint64_t>(step) << 32 | (static_cast<uint64_t>(micro_batch) & 0xffffffffu);
  const Philox4 words = philox(counter, when, seed);
  return static_cast<uint64_t>(words.v[1]) << 32 | words.v[0];
}

// Without an index that only the run knows: it would put the words into memory.
VTL_INLINE uint32_t word(const Philox4& words, uint64_t which) {
  const uint32_t low = which & 1 ? words.v[1] : words.v[0], high = which & 1 ? words.v[3] : words.v[2];
  return which & 2 ? high : low;
}

// bits >= kept_from(p) is uniform(bits) >= p, for p in [0, 1): uniform counts in steps of 2^-24.
VTL_INLINE uint32_t kept_from(float p) {
  const float steps = p * 0x1p24f;
  const auto whole = static_cast<uint32_t>(steps);
  return (whole + (static_cast<float>(whole) < steps ? 1u : 0u)) << 8;
}

}  // namespace vtl::kernels
