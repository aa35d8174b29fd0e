// What a kernel may ask of the device it runs on.
#pragma once

#include "vtl/core/stream.h"
#include "vtl/kernels/device/portable.h"

#if !defined(__CUDACC__)
#include "vtl/kernels/simt/settings.h"
#endif

namespace vtl::kernels::VTL_GPU {

// The most shared memory of one block, static and dynamic: 99, 163 or 227 KiB.
inline size_t most_shared_bytes([[maybe_unused]] const Stream& stream) {
#if defined(__CUDACC__)
  int bytes = 0;
  if (cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, stream.device().index) != cudaSuccess)
    return size_t{48} << 10;
  return static_cast<size_t>(bytes);
#else
  return ::vtl::emulator::settings().shared_limit;
#endif
}

}  // namespace vtl::kernels::VTL_GPU
