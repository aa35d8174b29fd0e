#include "vtl/kernels/device/block.h"
#include "vtl/kernels/device/floats.h"
#include "vtl/kernels/device/launch.h"
#include "vtl/kernels/device/math.h"
#include "vtl/kernels/layernorm/layernorm.h"

namespace vtl::kernels::VTL_GPU {
namespace {

// One warp for each row. Rows of up to 32 * 4 * Pieces values, a multiple of 4, live in its registers: piece p of lane
// l holds columns 4 (32 p + l) and the next three. Other rows are read once for each pass.
constexpr int kWarps = 8, kThreads = 32 * kWarps, kLanes = 4;
// Partial sums of the parameters' gradients: two blocks for each multiprocessor of an H200, and 64 rows or more for
// each block, so that they are few beside the rows. The order of the sum depends on rows only.
constexpr int64_t kMostPartials = 264, kRowsPerPartial = 64;

int64_t partial_count(int64_t rows) { return min((rows + kRowsPerPartial - 1) / kRowsPerPartial, kMostPartials); }

VTL_DEVICE int64_t first_row() { return static_cast<int64_t>(blockIdx.x) * kWarps + warp_index(); }
VTL_DEVICE int64_t row_step() { return static_cast<int64_t>(gridDim.x) * kWarps; }
VTL_DEVICE int column_of(int piece) { return (piece * 32 + static_cast<int>(lane_index())) * kLanes; }

template <class T>
VTL_DEVICE Floats<kLanes> load_or(const T* from, int64_t at, float otherwise, Site site = VTL_HERE) {
  Floats<kLanes> values;
  VTL_UNROLL
  for (int i = 0; i < kLanes; ++i) values[i] = otherwise;
  return from ? load_floats<kLanes>(from + at, site) : values;
}
VTL_DEVICE float load_or_scalar(const float* from, int64_t at, float otherwise, Site site = VTL_HERE) {
  return from ? load(from + at, site) : otherwise;
}
VTL_DEVICE void keep_statistics(float* mean, float* rstd, int64_t r, float mu, float scale) {
  if (lane_index() != 0) return;
  if (mean) store(mean + r, mu);
  if (rstd) store(rstd + r, scale);
}

// ---- forward --------------------------------------------------------------------------------------------------------

// Grid: rows / 8.
template <int Pieces, class T>
__global__ void __launch_bounds__(kThreads) normalize_rows(const T* x, const float* weight, const float* bias, T* y,
                                                           float* mean, float* rstd, LayerNormDims d) {
  const int64_t r = first_row();
  if (r >= d.rows) return;
  const int cols = static_cast<int>(d.cols);
  const float inverse = 1.0f / static_cast<float>(cols);
  Floats<kLanes> value[Pieces];
  float sum = 0;
  VTL_UNROLL
  for (int p = 0; p < Pieces; ++p) {
    value[p] = load_or(column_of(p) < cols ? x : nullptr, r * d.cols + column_of(p), 0);
    VTL_UNROLL
    for (int i = 0; i < kLanes; ++i) sum += value[p][i];
  }
  const float mu = warp_sum(sum) * inverse;
  // From the registers a second pass is free, and E[x^2] - mean^2 would lose everything when the mean is large.
  float squares = 0;
  VTL_UNROLL
  for (int p = 0; p < Pieces; ++p)
    if (column_of(p) < cols) {
      VTL_UNROLL
      for (int i = 0; i < kLanes; ++i) squares += (value[p][i] - mu) * (value[p][i] - mu);
    }
  const float scale = reciprocal_sqrt(warp_sum(squares) * inverse + d.eps);
  keep_statistics(mean, rstd, r, mu, scale);
  VTL_UNROLL
  for (int p = 0; p < Pieces; ++p)
    if (column_of(p) < cols) {
      const Floats<kLanes> w = load_or(weight, column_of(p), 1), b = load_or(bias, column_of(p), 0);
      VTL_UNROLL
      for (int i = 0; i < kLanes; ++i) value[p][i] = (value[p][i] - mu) * scale * w[i] + b[i];
      store_floats(y + r * d.cols + column_of(p), value[p]);
    }
}

// Any number of columns, any alignment. Grid: rows / 8.
template <class T>
__global__ void __launch_bounds__(kThreads) normalize_any_rows(const T* x, const float* weight, const float* bias, T* y,
                                                               float* mean, float* rstd, LayerNormDims d) {
  const int64_t r = first_row();
  if (r >= d.rows) return;
  const float inverse = 1.0f / static_cast<float>(d.cols);
  const T* row = x + r * d.cols;
  float sum = 0;
  for (int64_t c = lane_index(); c < d.cols; c += kWarpLanes) sum += to_float(load(row + c));
  const float mu = warp_sum(sum) * inverse;
  float squares = 0;
  for (int64_t c = lane_index(); c < d.cols; c += kWarpLanes) {
    const float centred = to_float(load(row + c)) - mu;
    squares += centred * centred;
  }
  const float scale = reciprocal_sqrt(warp_sum(squares) * inverse + d.eps);
  keep_statistics(mean, rstd, r, mu, scale);
  for (int64_t c = lane_index(); c < d.cols; c += kWarpLanes) {
    const float value = (to_float(load(row + c)) - mu) * scale;
    store(y + r * d.cols + c, from_float<T>(value * load_or_scalar(weight, c, 1) + load_or_scalar(bias, c, 0)));
  }
}

// ---- backward -------------------------------------------------------------------------------------------------------

// What a backward kernel reads, and where dx goes. partials: [gridDim.x][2][cols], dweight and dbias of the block's
// rows.
template <class T>
struct Gradients {
  const T *dy, *x;
  const float *weight, *mean, *rstd;
  T* dx;
  const T* dx_addend;
  float* partials;
};

// The sum over the block's warps, in their order, into `out`. `sums` holds a value for each column.
template <int Pieces>
VTL_DEVICE void sum_over_warps(const Floats<kLanes> (&mine)[Pieces], float* sums, float* out, int cols) {
  for (int w = 0; w < kWarps; ++w) {
    if (w == static_cast<int>(warp_index())) {
      VTL_UNROLL
      for (int p = 0; p < Pieces; ++p)
        if (column_of(p) < cols) {
          Floats<kLanes> sum = load_or(w > 0 ? sums : nullptr, column_of(p), 0);
          VTL_UNROLL
          for (int i = 0; i < kLanes; ++i) sum[i] += mine[p][i];
          store_floats((w == kWarps - 1 ? out : sums) + column_of(p), sum);
        }
    }
    __syncthreads();
  }
}

// Blocks for each multiprocessor, as many as the registers allow.
constexpr int blocks_at_once(int pieces, bool parameters) { return parameters || pieces > 6 ? 1 : pieces > 4 ? 2 : 3; }

// dx of rows first_row(), + row_step(), ..., and with Parameters the block's partial sums. Grid: partials, or rows / 8.
template <int Pieces, class T, bool Parameters>
__global__ void __launch_bounds__(kThreads, blocks_at_once(Pieces, Parameters))
    row_gradients(Gradients<T> g, LayerNormDims d) {
  const int cols = static_cast<int>(d.cols);
  const float inverse = 1.0f / static_cast<float>(cols);
  Floats<kLanes> weight_sum[Parameters ? Pieces : 1]{}, bias_sum[Parameters ? Pieces : 1]{};
  for (int64_t r = first_row(); r < d.rows; r += row_step()) {
    const float mu = load(g.mean + r), scale = load(g.rstd + r);
    Floats<kLanes> xhat[Pieces], grad[Pieces];
    float grad_sum = 0, product_sum = 0;
    VTL_UNROLL
    for (int p = 0; p < Pieces; ++p) {
      const bool inside = column_of(p) < cols;
      xhat[p] = load_or(inside ? g.x : nullptr, r * d.cols + column_of(p), mu);
      grad[p] = load_or(inside ? g.dy : nullptr, r * d.cols + column_of(p), 0);
    }
    VTL_UNROLL
    for (int p = 0; p < Pieces; ++p) {
      const Floats<kLanes> w = load_or(column_of(p) < cols ? g.weight : nullptr, column_of(p), 1);
      VTL_UNROLL
      for (int i = 0; i < kLanes; ++i) {
        xhat[p][i] = (xhat[p][i] - mu) * scale;
        if constexpr (Parameters) {
          weight_sum[p][i] += grad[p][i] * xhat[p][i];
          bias_sum[p][i] += grad[p][i];
        }
        grad[p][i] *= w[i];
        grad_sum += grad[p][i];
        product_sum += grad[p][i] * xhat[p][i];
      }
    }
    if (!g.dx) continue;
    const float grad_mean = warp_sum(grad_sum) * inverse, product_mean = warp_sum(product_sum) * inverse;
    VTL_UNROLL
    for (int p = 0; p < Pieces; ++p)
      if (column_of(p) < cols) {
        Floats<kLanes> value = load_or(g.dx_addend, r * d.cols + column_of(p), 0);
        VTL_UNROLL
        for (int i = 0; i < kLanes; ++i) value[i] += scale * (grad[p][i] - grad_mean - xhat[p][i] * product_mean);
        store_floats(g.dx + r * d.cols + column_of(p), value);
      }
  }
  if constexpr (Parameters) {
    VTL_SHARED(float, sums, [Pieces * 32 * kLanes]);
    float* const partial = g.partials + static_cast<int64_t>(blockIdx.x) * 2 * d.cols;
    sum_over_warps(weight_sum, sums, partial, cols);
    sum_over_warps(bias_sum, sums, partial + d.cols, cols);
  }
}

// dx for any number of columns and any alignment. Grid: rows / 8.
template <class T>
__global__ void __launch_bounds__(kThreads) any_row_gradients(Gradients<T> g, LayerNormDims d) {
  const int64_t r = first_row();
  if (r >= d.rows) return;
  const float inverse = 1.0f / static_cast<float>(d.cols), mu = load(g.mean + r), scale = load(g.rstd + r);
  float grad_sum = 0, product_sum = 0;
  for (int64_t c = lane_index(); c < d.cols; c += kWarpLanes) {
    const int64_t at = r * d.cols + c;
    const float grad = to_float(load(g.dy + at)) * load_or_scalar(g.weight, c, 1);
    grad_sum += grad;
    product_sum += grad * (to_float(load(g.x + at)) - mu) * scale;
  }
  const float grad_mean = warp_sum(grad_sum) * inverse, product_mean = warp_sum(product_sum) * inverse;
  for (int64_t c = lane_index(); c < d.cols; c += kWarpLanes) {
    const int64_t at = r * d.cols + c;
    const float grad = to_float(load(g.dy + at)) * load_or_scalar(g.weight, c, 1);
    const float xhat = (to_float(load(g.x + at)) - mu) * scale;
    const float before = g.dx_addend ? to_float(load(g.dx_addend + at)) : 0.0f;
    store(g.dx + at, from_float<T>(before + scale * (grad - grad_mean - xhat * product_mean)));
  }
}

// The sum of `value` over the block's warps, in their order; what the first warp gets is it.
VTL_DEVICE float sum_over_warps(float value, float (&sums)[kWarps][kWarpLanes]) {
  sums[warp_index()][lane_index()] = value;
  __syncthreads();
  float total = 0;
  if (warp_index() == 0) {
    VTL_UNROLL
    for (int w = 0; w < kWarps; ++w) total += sums[w][lane_index()];
  }
  __syncthreads();
  return total;
}

// Partial sums for any number of columns and any alignment. Grid: (partials, columns / 32); a warp takes every eighth
// row.
template <class T>
__global__ void __launch_bounds__(kThreads) any_column_partials(Gradients<T> g, LayerNormDims d) {
  VTL_SHARED(float, sums, [kWarps][kWarpLanes]);
  const int64_t c = static_cast<int64_t>(blockIdx.y) * kWarpLanes + lane_index();
  float weight_sum = 0, bias_sum = 0;
  if (c < d.cols)
    for (int64_t r = first_row(); r < d.rows; r += row_step()) {
      const float upstream = to_float(load(g.dy + r * d.cols + c));
      weight_sum += upstream * (to_float(load(g.x + r * d.cols + c)) - load(g.mean + r)) * load(g.rstd + r);
      bias_sum += upstream;
    }
  weight_sum = sum_over_warps(weight_sum, sums);
  bias_sum = sum_over_warps(bias_sum, sums);
  if (warp_index() != 0 || c >= d.cols) return;
  float* const partial = g.partials + static_cast<int64_t>(blockIdx.x) * 2 * d.cols;
  store(partial + c, weight_sum);
  store(partial + d.cols + c, bias_sum);
}

// out[c] = (addend ? addend[c] : 0) + sum_k partials[k][which][c] for `which` = 0 (dweight) and 1 (dbias), as far as
// wanted. Grid: (columns / 32, 2); a warp takes every eighth partial.
__global__ void __launch_bounds__(kThreads)
    sum_partials(const float* partials, int64_t count, Dest dweight, Dest dbias, int64_t cols) {
  VTL_SHARED(float, sums, [kWarps][kWarpLanes]);
  const Dest dest = blockIdx.y == 0 ? dweight : dbias;
  if (!dest.wanted()) return;  // the whole block
  const int64_t c = static_cast<int64_t>(blockIdx.x) * kWarpLanes + lane_index();
  float sum = 0;
  if (c < cols)
    for (int64_t k = warp_index(); k < count; k += kWarps) sum += load(partials + (2 * k + blockIdx.y) * cols + c);
  sum = sum_over_warps(sum, sums);
  if (warp_index() != 0 || c >= cols) return;
  store(static_cast<float*>(dest.out) + c, load_or_scalar(static_cast<const float*>(dest.addend), c, 0) + sum);
}

// ---- launchers ------------------------------------------------------------------------------------------------------

// f.operator()<Pieces>() for the smallest register kernel that holds a row; false where none does.
constexpr int64_t kMostColumns = 1536,
                  kMostColumnsSummed = 1024;  // the latter: with sums for parameters beside the row
template <class F>
bool with_pieces(int64_t cols, F&& f) {
  if (cols % kLanes != 0 || cols > kMostColumns) return false;
  if (cols <= 256)
    f.template operator()<2>();
  else if (cols <= 512)
    f.template operator()<4>();
  else if (cols <= 768)
    f.template operator()<6>();
  else if (cols <= 1024)
    f.template operator()<8>();
  else
    f.template operator()<12>();
  return true;
}

template <class T>
void forward(Stream& stream, const T* x, const float* weight, const float* bias, T* y, float* mean, float* rstd,
             LayerNormDims d) {
  const unsigned blocks = blocks_for(d.rows, kWarps);
  const bool aligned =
      aligned_to<kLanes>(x) && aligned_to<kLanes>(y) && aligned_to<kLanes>(weight) && aligned_to<kLanes>(bias);
  const auto in_registers = [&]<int Pieces>() {
    launch(stream, {"layernorm normalize_rows", blocks, kThreads}, normalize_rows<Pieces, T>, x, weight, bias, y, mean,
           rstd, d);
  };
  if (aligned && with_pieces(d.cols, in_registers)) return;
  launch(stream, {"layernorm normalize_any_rows", blocks, kThreads}, normalize_any_rows<T>, x, weight, bias, y, mean,
         rstd, d);
}

template <class T>
void backward(Stream& stream, Gradients<T> g, bool parameters, int64_t partials, LayerNormDims d) {
  const unsigned row_blocks = blocks_for(d.rows, kWarps), partial_blocks = static_cast<unsigned>(partials);
  const bool aligned = aligned_to<kLanes>(g.x) && aligned_to<kLanes>(g.dy) && aligned_to<kLanes>(g.dx) &&
                       aligned_to<kLanes>(g.dx_addend) && aligned_to<kLanes>(g.weight);
  const auto all_at_once = [&]<int Pieces>() {
    if constexpr (Pieces * 32 * kLanes <= kMostColumnsSummed)
      launch(stream, {"layernorm row_gradients", partial_blocks, kThreads}, row_gradients<Pieces, T, true>, g, d);
  };
  if (parameters && aligned && d.cols <= kMostColumnsSummed && with_pieces(d.cols, all_at_once)) return;
  if (parameters)
    launch(stream, {"layernorm any_column_partials", dim3(partial_blocks, blocks_for(d.cols, kWarpLanes)), kThreads},
           any_column_partials<T>, g, d);
  if (!g.dx) return;
  const auto rows_only = [&]<int Pieces>() {
    launch(stream, {"layernorm row_gradients", row_blocks, kThreads}, row_gradients<Pieces, T, false>, g, d);
  };
  if (aligned && with_pieces(d.cols, rows_only)) return;
  launch(stream, {"layernorm any_row_gradients", row_blocks, kThreads}, any_row_gradients<T>, g, d);
}

}  // namespace

void layernorm_forward(Stream& stream, DType dtype, const void* x, const float* weight, const float* bias, void* y,
                       float* mean, float* rstd, LayerNormDims dims) {
  if (dims.rows == 0 || dims.cols == 0) return;
  visit_float(dtype, [&]<class T>() {
    forward(stream, static_cast<const T*>(x), weight, bias, static_cast<T*>(y), mean, rstd, dims);
  });
}

void layernorm_backward(Stream& stream, DType dtype, const void* dy, const void* x, const float* weight,
                        const float* mean, const float* rstd, Dest dx, Dest dweight, Dest dbias, LayerNormDims dims) {
  if (dims.cols == 0) return;
  const bool parameters = dweight.wanted() || dbias.wanted();
  const int64_t partials = parameters ? partial_count(dims.rows) : 0;
  const Scratch scratch = stream.scratch(static_cast<size_t>(partials * 2 * dims.cols) * sizeof(float));
  if (dims.rows > 0 && (parameters || dx.wanted()))
    visit_float(dtype, [&]<class T>() {
      backward<T>(stream,
                  {static_cast<const T*>(dy), static_cast<const T*>(x), weight, mean, rstd, static_cast<T*>(dx.out),
                   static_cast<const T*>(dx.addend), scratch.f32()},
                  parameters, partials, dims);
    });
  if (parameters)
    launch(stream, {"layernorm sum_partials", dim3(blocks_for(dims.cols, kWarpLanes), 2), kThreads}, sum_partials,
           scratch.f32(), partials, dweight, dbias, dims.cols);
}

}  // namespace vtl::kernels::VTL_GPU
