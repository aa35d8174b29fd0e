#include "vtl/kernels/device/floats.h"
#include "vtl/kernels/device/launch.h"
#include "vtl/kernels/fold_batchnorm/fold_batchnorm.h"

namespace vtl::kernels::VTL_GPU {
namespace {

constexpr int kThreads = 256;

// Grid: rows, one block for each. columns is a multiple of N, to which pointers are aligned.
template <int N, class T>
__global__ void __launch_bounds__(kThreads)
    fold(const T* w, const float* w_bias, FoldedStatistics statistics, T* folded, float* folded_bias, FoldDims d) {
  const int64_t r = blockIdx.x;
  const float scale = load(statistics.weight + r) / sqrtf(load(statistics.variance + r) + d.eps);
  for (int64_t c = static_cast<int64_t>(threadIdx.x) * N; c < d.columns; c += kThreads * N) {
    Floats<N> value = load_floats<N>(w + r * d.columns + c);
    VTL_UNROLL
    for (int k = 0; k < N; ++k) value[k] *= scale;
    store_floats(folded + r * d.columns + c, value);
  }
  if (threadIdx.x != 0) return;
  const float bias = w_bias ? load(w_bias + r) : 0.0f;
  store(folded_bias + r, (bias - load(statistics.mean + r)) * scale + load(statistics.bias + r));
}

}  // namespace

void fold_batchnorm(Stream& stream, DType dtype, const void* w, const float* w_bias, FoldedStatistics statistics,
                    void* folded, float* folded_bias, FoldDims dims) {
  if (dims.rows == 0) return;
  visit_float(dtype, [&]<class T>() {
    constexpr int N = kVecLanes<T>;
    const auto* from = static_cast<const T*>(w);
    auto* to = static_cast<T*>(folded);
    const auto go = [&](auto* kernel) {
      launch(stream, {"fold_batchnorm", static_cast<unsigned>(dims.rows), kThreads}, kernel, from, w_bias, statistics,
             to, folded_bias, dims);
    };
    if (dims.columns % N == 0 && aligned_to<N>(from) && aligned_to<N>(to))
      go(fold<N, T>);
    else
      go(fold<1, T>);
  });
}

}  // namespace vtl::kernels::VTL_GPU
