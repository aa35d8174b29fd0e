// Reductions over a block of one dimension.
#pragma once

#include "vtl/kernels/device/warp.h"

namespace vtl::kernels::VTL_GPU {

// The sum over all `Threads` of the block, in a fixed order; every thread gets it. Holds two barriers.
template <int Threads, class T>
VTL_DEVICE T block_sum(T value, Site site = VTL_HERE) {
  static_assert(Threads % kWarpLanes == 0);
  constexpr unsigned kWarps = Threads / kWarpLanes;
  VTL_SHARED(T, sums, [kWarps]);
  value = warp_sum(value, site);
  if (lane_index() == 0) sums[warp_index()] = value;
  __syncthreads();
  T total = 0;
  VTL_UNROLL
  for (unsigned w = 0; w < kWarps; ++w) total += sums[w];
  __syncthreads();  // the next call writes sums again
  return total;
}

// The same for the largest value.
template <int Threads>
VTL_DEVICE float block_max(float value, Site site = VTL_HERE) {
  static_assert(Threads % kWarpLanes == 0);
  constexpr unsigned kWarps = Threads / kWarpLanes;
  VTL_SHARED(float, maxima, [kWarps]);
  value = warp_max(value, site);
  if (lane_index() == 0) maxima[warp_index()] = value;
  __syncthreads();
  float most = maxima[0];
  VTL_UNROLL
  for (unsigned w = 1; w < kWarps; ++w) most = fmaxf(most, maxima[w]);
  __syncthreads();  // the next call writes maxima again
  return most;
}

}  // namespace vtl::kernels::VTL_GPU
