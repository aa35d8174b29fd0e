// Random numbers keyed by meaning: Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011).
// The same numbers on every device, for any grid, thread or worker count.
#pragma once

#include <cstdint>

#include "vtl/core/macros.h"

namespace vtl {

struct Philox4 {
  uint32_t v[4];
};

// counter: what the number is for (stream, step or epoch, sample or element / 4); key: the seed.
VTL_INLINE Philox4 philox(uint64_t counter_high, uint64_t counter_low, uint64_t key) {
  uint32_t c0 = static_cast<uint32_t>(counter_low), c1 = static_cast<uint32_t>(counter_low >> 32);
  uint32_t c2 = static_cast<uint32_t>(counter_high), c3 = static_cast<uint32_t>(counter_high >> 32);
  uint32_t k0 = static_cast<uint32_t>(key), k1 = static_cast<uint32_t>(key >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = uint64_t{0xD2511F53u} * c0, p1 = uint64_t{0xCD9E8D57u} * c2;
    const uint32_t n0 = static_cast<uint32_t>(p1 >> 32) ^ c1 ^ k0, n2 = static_cast<uint32_t>(p0 >> 32) ^ c3 ^ k1;
    c1 = static_cast<uint32_t>(p1);
    c3 = static_cast<uint32_t>(p0);
    c0 = n0;
    c2 = n2;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return {{c0, c1, c2, c3}};
}

// Uniform in [0, 1), 24 bits.
VTL_INLINE float uniform(uint32_t bits) { return static_cast<float>(bits >> 8) * 0x1p-24f; }

// What a stream of random numbers is for. Numbers are part of the promise of reproducible runs: never reuse or renumber.
enum class RandomStream : uint32_t { init = 1, shuffle = 2, augment = 3, dropout = 4, drop_path = 5, split = 6, demo = 7, mix = 8 };

// The counter's upper half for `stream` with a sub-stream (a layer's id, an epoch) beside it.
VTL_INLINE uint64_t random_counter(RandomStream stream, uint32_t substream) {
  return (static_cast<uint64_t>(stream) << 32) | substream;
}

// Host-side sequence over one counter: seed, stream, sub-stream and index fix all its numbers.
class RandomSequence {
 public:
  RandomSequence(uint64_t seed, RandomStream stream, uint32_t substream, uint32_t index)
      : seed_(seed), high_(random_counter(stream, substream)), low_(static_cast<uint64_t>(index) << 32) {}

  uint32_t bits() {
    if (next_ == 4) {
      block_ = philox(high_, low_++, seed_);
      next_ = 0;
    }
    return block_.v[next_++];
  }
  // Uniform in [0, 1).
  float uniform() { return vtl::uniform(bits()); }
  float uniform(float low, float high) { return low + (high - low) * uniform(); }
  // Uniform in {0, ..., count - 1}; count below 2^32.
  uint32_t below(uint32_t count) { return static_cast<uint32_t>((static_cast<uint64_t>(bits()) * count) >> 32); }
  // Standard normal (Box-Muller).
  float normal();

 private:
  uint64_t seed_, high_, low_;
  Philox4 block_{};
  int next_ = 4;
};

}  // namespace vtl
