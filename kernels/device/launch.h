// Queues a kernel on a stream: the project's <<<...>>>.
#pragma once

#include "vtl/core/error.h"
#include "vtl/core/stream.h"
#include "vtl/kernels/device/portable.h"

#if !defined(__CUDACC__)
#include <tuple>

#include "vtl/kernels/simt/queue.h"
#endif

namespace vtl::kernels::VTL_GPU {

#if defined(__CUDACC__)
struct LaunchShape {
  const char* kernel;  // its name, for errors
  dim3 grid, block;
  size_t shared_bytes = 0;  // dynamic
};
#else
using ::vtl::emulator::LaunchShape;
#endif

// kernel(arguments...) for each thread of the grid, arguments converted to the kernel's parameters. Throws a device
// error that names the kernel. A grid without blocks is an error: return early.
template <class... Parameters, class... Arguments>
void launch(Stream& stream, const LaunchShape& shape, void (*kernel)(Parameters...), const Arguments&... arguments) {
  static_assert(sizeof...(Parameters) == sizeof...(Arguments));
#if defined(__CUDACC__)
  constexpr size_t kWithoutAsking = size_t{48} << 10;
  cudaError_t status = cudaSuccess;
  if (shape.shared_bytes > kWithoutAsking)
    status = cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel), cudaFuncAttributeMaxDynamicSharedMemorySize,
                                  static_cast<int>(shape.shared_bytes));
  if (status == cudaSuccess) {
    cudaLaunchConfig_t config{};
    config.gridDim = shape.grid;
    config.blockDim = shape.block;
    config.dynamicSmemBytes = shape.shared_bytes;
    config.stream = static_cast<cudaStream_t>(stream.native());
    status = cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(arguments)...);
  }
  if (status != cudaSuccess) fail(ErrorKind::device, shape.kernel, ": ", cudaGetErrorString(status));
#else
  ::vtl::emulator::launch(stream.native(), shape,
                          [kernel, values = std::tuple<Parameters...>(static_cast<Parameters>(arguments)...)] {
                            std::apply(kernel, values);
                          });
#endif
}

// ceil(count / size) blocks.
inline unsigned blocks_for(int64_t count, int64_t size) { return static_cast<unsigned>((count + size - 1) / size); }

}  // namespace vtl::kernels::VTL_GPU
