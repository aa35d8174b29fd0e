#include "vtl/core/parallel.h"
#include "vtl/kernels/cpu/vec.h"
#include "vtl/kernels/layernorm/layernorm.h"

namespace vtl::kernels::VTL_CPU {
namespace {

// Rows that one chunk of the parallel loop takes; parameter gradients have one partial sum for each chunk.
int64_t rows_per_chunk(int64_t rows) { return (rows + 63) / 64; }

template <class T>
void forward(const T* x, const float* weight, const float* bias, T* y, float* mean, float* rstd, LayerNormDims d) {
  const float inverse = 1.0f / static_cast<float>(d.cols);
  parallel_for(d.rows, rows_per_chunk(d.rows), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const T* row = x + r * d.cols;
      vfloat sum{};
      for_lanes(d.cols, [&](int64_t c, auto lanes) { sum += load_n(row + c, lanes); });
      const float mu = sum_lanes(sum) * inverse;
      // Two passes: E[x^2] - mean^2 loses everything when the mean is large.
      vfloat squares{};
      int64_t c0 = 0;
      for (; c0 + kLanes <= d.cols; c0 += kLanes) {
        const vfloat centred = load(row + c0) - mu;
        squares += centred * centred;
      }
      float variance = sum_lanes(squares);
      for (; c0 < d.cols; ++c0) {
        const float centred = to_float(row[c0]) - mu;
        variance += centred * centred;
      }
      const float inverse_deviation = 1.0f / __builtin_sqrtf(variance * inverse + d.eps);
      if (mean) mean[r] = mu;
      if (rstd) rstd[r] = inverse_deviation;
      T* out = y + r * d.cols;
      for_lanes(d.cols, [&](int64_t c, auto lanes) {
        vfloat value = (load_n(row + c, lanes) - mu) * inverse_deviation;
        if (weight) value *= load_n(weight + c, lanes);
        if (bias) value += load_n(bias + c, lanes);
        store_n(out + c, value, lanes);
      });
    }
  });
}

template <class T>
void backward(Stream& stream, const T* dy, const T* x, const float* weight, const float* mean, const float* rstd, Dest dx,
              Dest dweight, Dest dbias, LayerNormDims d) {
  const int64_t grain = rows_per_chunk(d.rows), chunks = d.rows ? (d.rows + grain - 1) / grain : 0;
  const bool parameters = dweight.wanted() || dbias.wanted();
  const Scratch scratch = stream.scratch(parameters ? static_cast<size_t>(chunks * 2 * d.cols) * 4 : 0);
  float* const partials = scratch.f32();  // [chunks][2][cols]
  const float inverse = 1.0f / static_cast<float>(d.cols);
  auto* dx_out = static_cast<T*>(dx.out);
  const auto* dx_addend = static_cast<const T*>(dx.addend);

  parallel_for(d.rows, grain, [&](int64_t begin, int64_t end) {
    float* weight_sum = partials + begin / grain * 2 * d.cols;
    float* bias_sum = weight_sum + d.cols;
    if (parameters) __builtin_memset(weight_sum, 0, static_cast<size_t>(2 * d.cols) * 4);
    for (int64_t r = begin; r < end; ++r) {
      const T *dy_row = dy + r * d.cols, *x_row = x + r * d.cols;
      const float mu = mean[r], scale = rstd[r];
      vfloat g_sum{}, gx_sum{};
      for_lanes(d.cols, [&](int64_t c, auto lanes) {
        const vfloat upstream = load_n(dy_row + c, lanes);
        const vfloat xhat = (load_n(x_row + c, lanes) - mu) * scale;
        const vfloat g = weight ? upstream * load_n(weight + c, lanes) : upstream;
        g_sum += g;
        gx_sum += g * xhat;
        if (parameters) {
          store_n(weight_sum + c, load_n(weight_sum + c, lanes) + upstream * xhat, lanes);
          store_n(bias_sum + c, load_n(bias_sum + c, lanes) + upstream, lanes);
        }
      });
      if (!dx_out) continue;
      const float g_mean = sum_lanes(g_sum) * inverse, gx_mean = sum_lanes(gx_sum) * inverse;
      for_lanes(d.cols, [&](int64_t c, auto lanes) {
        const vfloat upstream = load_n(dy_row + c, lanes);
        const vfloat xhat = (load_n(x_row + c, lanes) - mu) * scale;
        const vfloat g = weight ? upstream * load_n(weight + c, lanes) : upstream;
        vfloat value = scale * (g - g_mean - xhat * gx_mean);
        if (dx_addend) value += load_n(dx_addend + r * d.cols + c, lanes);
        store_n(dx_out + r * d.cols + c, value, lanes);
      });
    }
  });
  if (!parameters) return;

  const auto finish = [&](Dest dest, int64_t which) {
    if (!dest.wanted()) return;
    auto* out = static_cast<float*>(dest.out);
    const auto* addend = static_cast<const float*>(dest.addend);
    for_lanes(d.cols, [&](int64_t c, auto lanes) {
      vfloat sum{};
      for (int64_t chunk = 0; chunk < chunks; ++chunk) sum += load_n(partials + (chunk * 2 + which) * d.cols + c, lanes);
      if (addend) sum += load_n(addend + c, lanes);
      store_n(out + c, sum, lanes);
    });
  };
  finish(dweight, 0);
  finish(dbias, 1);
}

}  // namespace

void layernorm_forward(Stream&, DType dtype, const void* x, const float* weight, const float* bias, void* y, float* mean,
                       float* rstd, LayerNormDims dims) {
  visit_float(dtype, [&]<class T>() {
    forward(static_cast<const T*>(x), weight, bias, static_cast<T*>(y), mean, rstd, dims);
  });
}

void layernorm_backward(Stream& stream, DType dtype, const void* dy, const void* x, const float* weight, const float* mean,
                        const float* rstd, Dest dx, Dest dweight, Dest dbias, LayerNormDims dims) {
  visit_float(dtype, [&]<class T>() {
    backward(stream, static_cast<const T*>(dy), static_cast<const T*>(x), weight, mean, rstd, dx, dweight, dbias, dims);
  });
}

}  // namespace vtl::kernels::VTL_CPU
