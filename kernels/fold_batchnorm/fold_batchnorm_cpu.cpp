#include "vtl/core/parallel.h"
#include "vtl/kernels/cpu/vec.h"
#include "vtl/kernels/fold_batchnorm/fold_batchnorm.h"

namespace vtl::kernels::VTL_CPU {

void fold_batchnorm(Stream&, DType dtype, const void* w, const float* w_bias, FoldedStatistics statistics, void* folded,
                    float* folded_bias, FoldDims dims) {
  visit_float(dtype, [&]<class T>() {
    const auto* from = static_cast<const T*>(w);
    auto* to = static_cast<T*>(folded);
    parallel_for(dims.rows, 64, [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) {
        const float scale = statistics.weight[r] / __builtin_sqrtf(statistics.variance[r] + dims.eps);
        folded_bias[r] = ((w_bias ? w_bias[r] : 0.0f) - statistics.mean[r]) * scale + statistics.bias[r];
        for_lanes(dims.columns, [&](int64_t c, auto lanes) {
          store_n(to + r * dims.columns + c, load_n(from + r * dims.columns + c, lanes) * scale, lanes);
        });
      }
    });
  });
}

}  // namespace vtl::kernels::VTL_CPU
