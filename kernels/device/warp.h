// Shuffles, votes and reductions of a warp. They order no memory. All lanes of the mask call from the same place.
#pragma once

#include "vtl/kernels/device/portable.h"

#if !defined(__CUDACC__)
#include "vtl/kernels/simt/warp.h"
#endif

namespace vtl::kernels::VTL_GPU {

// The value of lane `source`, which must be in the mask and running.
template <class T>
VTL_DEVICE T shuffle(T value, unsigned source, uint32_t mask = kAllLanes, [[maybe_unused]] Site site = VTL_HERE) {
  static_assert(sizeof(T) <= 8);
#if defined(__CUDACC__)
  return __shfl_sync(mask, value, source);
#else
  uint64_t bits = 0;
  __builtin_memcpy(&bits, &value, sizeof value);
  bits = ::vtl::emulator::shuffle(mask, bits, source % kWarpLanes, site);
  __builtin_memcpy(&value, &bits, sizeof value);
  return value;
#endif
}
template <class T>
VTL_DEVICE T shuffle_xor(T value, unsigned bits, uint32_t mask = kAllLanes, [[maybe_unused]] Site site = VTL_HERE) {
#if defined(__CUDACC__)
  return __shfl_xor_sync(mask, value, bits);
#else
  return shuffle(value, lane_index() ^ bits, mask, site);
#endif
}
// Lanes that have no such neighbour keep their value.
template <class T>
VTL_DEVICE T shuffle_down(T value, unsigned by, uint32_t mask = kAllLanes, [[maybe_unused]] Site site = VTL_HERE) {
#if defined(__CUDACC__)
  return __shfl_down_sync(mask, value, by);
#else
  return shuffle(value, lane_index() + by < kWarpLanes ? lane_index() + by : lane_index(), mask, site);
#endif
}
template <class T>
VTL_DEVICE T shuffle_up(T value, unsigned by, uint32_t mask = kAllLanes, [[maybe_unused]] Site site = VTL_HERE) {
#if defined(__CUDACC__)
  return __shfl_up_sync(mask, value, by);
#else
  return shuffle(value, lane_index() >= by ? lane_index() - by : lane_index(), mask, site);
#endif
}

// Bit i: the predicate of lane i.
VTL_DEVICE uint32_t ballot(bool predicate, uint32_t mask = kAllLanes, [[maybe_unused]] Site site = VTL_HERE) {
#if defined(__CUDACC__)
  return __ballot_sync(mask, predicate);
#else
  return ::vtl::emulator::ballot(mask, predicate, site);
#endif
}
VTL_DEVICE bool any_of_warp(bool predicate, uint32_t mask = kAllLanes, Site site = VTL_HERE) {
  return ballot(predicate, mask, site) != 0;
}
VTL_DEVICE bool all_of_warp(bool predicate, uint32_t mask = kAllLanes, Site site = VTL_HERE) {
  return ballot(!predicate, mask, site) == 0;
}

VTL_DEVICE unsigned count_bits(uint32_t lanes) {
#if defined(__CUDACC__)
  return static_cast<unsigned>(__popc(lanes));
#else
  return static_cast<unsigned>(__builtin_popcount(lanes));
#endif
}

// Over groups of `Lanes` (a power of two) neighbouring lanes, in a fixed order; every lane gets the result.
template <unsigned Lanes = kWarpLanes, class T>
VTL_DEVICE T warp_sum(T value, Site site = VTL_HERE) {
  VTL_UNROLL
  for (unsigned bits = Lanes / 2; bits > 0; bits /= 2) value += shuffle_xor(value, bits, kAllLanes, site);
  return value;
}
template <unsigned Lanes = kWarpLanes>
VTL_DEVICE float warp_max(float value, Site site = VTL_HERE) {
  VTL_UNROLL
  for (unsigned bits = Lanes / 2; bits > 0; bits /= 2) value = fmaxf(value, shuffle_xor(value, bits, kAllLanes, site));
  return value;
}

}  // namespace vtl::kernels::VTL_GPU
