// Reductions over a block of one dimension.
#pragma once

#include "vtl/kernels/device/warp.h"

namespace vtl::kernels::VTL_GPU {

// The sum over all `Threads` of the block, in a fixed order; every thread gets it. Holds two barriers.
template <int Threads>
VTL_DEVICE float block_sum(float value, Site site = VTL_HERE) {
  static_assert(Threads % kWarpLanes == 0);
  constexpr unsigned kWarps = Threads / kWarpLanes;
  VTL_SHARED(float, sums, [kWarps]);
  value = warp_sum(value, site);
  if (lane_index() == 0) sums[warp_index()] = value;
  __syncthreads();
  float total = 0;
  VTL_UNROLL
  for (unsigned w = 0; w < kWarps; ++w) total += sums[w];
  __syncthreads();  // the next call writes sums again
  return total;
}

}  // namespace vtl::kernels::VTL_GPU
