// The words of CUDA for a compiler that does not know them. Only emulated kernels include this.
#pragma once

#if defined(__CUDACC__)
#error "this header stands in for CUDA; nvcc needs none"
#endif

#include "vtl/kernels/simt/block.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)

#define threadIdx (::vtl::emulator::current->index)
#define blockIdx (::vtl::emulator::current->block->index())
#define blockDim (::vtl::emulator::current->block->shape().block)
#define gridDim (::vtl::emulator::current->block->shape().grid)

inline void __syncthreads(::vtl::emulator::Site site = VTL_SIMT_HERE) { ::vtl::emulator::sync_block(site); }
inline void __syncwarp(unsigned mask = ~0u, ::vtl::emulator::Site site = VTL_SIMT_HERE) {
  ::vtl::emulator::sync_warp(mask, site);
}
