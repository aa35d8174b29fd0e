#include "vtl/kernels/batchnorm/batchnorm.h"
#include "vtl/kernels/device/activate.h"
#include "vtl/kernels/device/reduce_rows.h"

namespace vtl::kernels::VTL_GPU {
namespace {

// ---- what goes with the columns -------------------------------------------------------------------------------------

// z = (x - mean) * scale + bias + residual, scale = weight * rstd.
template <int N>
struct PerChannel {
  Floats<N> mean, scale, bias;
};
template <int N>
VTL_DEVICE PerChannel<N> per_channel(const BatchNormScale& s, int64_t c) {
  PerChannel<N> columns{load_floats<N>(s.mean + c), load_floats<N>(s.rstd + c), load_floats_or_zero<N>(s.bias, c)};
  if (!s.weight) return columns;
  const Floats<N> weight = load_floats<N>(s.weight + c);
  VTL_UNROLL
  for (int k = 0; k < N; ++k) columns.scale[k] *= weight[k];
  return columns;
}

constexpr int kLanes = 4;  // channels of a thread: their f32 constants move in 16 bytes

bool aligned(const BatchNormScale& s) {
  return aligned_to<kLanes>(s.mean) && aligned_to<kLanes>(s.rstd) && aligned_to<kLanes>(s.weight) &&
         aligned_to<kLanes>(s.bias);
}

// ---- element by element ---------------------------------------------------------------------------------------------

// Several rows are read before the first of them is worked on: 40 KiB are under way on a multiprocessor. A body has
//   kRows         how many
//   kept<N>(c)    what goes with channels c, c + 1, ...
//   load<N>(i)    what it reads at element i; at<N>(i, kept, loaded) does the work, and may overwrite it
// Block: row_block. Grid: (channels, rows or less).
template <int N, class Body>
__global__ void __launch_bounds__(kRowThreads, 3) each_batch_of_rows(Body body, BatchNormDims d) {
  const int64_t c = (static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) * N;
  if (c >= d.channels) return;
  const auto kept = body.template kept<N>(c);
  const auto y = static_cast<int>(blockDim.y), at_once = y * Body::kRows;
  for (int64_t first = static_cast<int64_t>(blockIdx.y) * at_once; first < d.rows;
       first += static_cast<int64_t>(gridDim.y) * at_once) {
    const int left = static_cast<int>(min<int64_t>(d.rows - first, at_once)) - static_cast<int>(threadIdx.y);
    const int64_t at = (first + threadIdx.y) * d.channels + c, step = y * d.channels;
    decltype(body.template load<N>(0)) loaded[Body::kRows];
    VTL_UNROLL
    for (int i = 0; i < Body::kRows; ++i)
      if (i * y < left) loaded[i] = body.template load<N>(at + i * step);
    VTL_UNROLL
    for (int i = 0; i < Body::kRows; ++i)
      if (i * y < left) body.template at<N>(at + i * step, kept, loaded[i]);
  }
}

// `name` is that of the kernel, for errors and counts: a literal.
template <class Body>
void for_each_batch_of_rows(Stream& stream, const char* name, const Body& body, BatchNormDims d) {
  if (d.rows == 0 || d.channels == 0) return;
  const auto go = [&]<int N>() {
    const dim3 block = row_block<N>({1, d.rows, d.channels});
    const int64_t columns = blocks_for(d.channels, static_cast<int64_t>(block.x) * N);
    const int64_t batches = (d.rows + block.y * Body::kRows - 1) / (block.y * Body::kRows);
    // What goes with the channels is read once for four batches, where that leaves blocks enough.
    const int64_t rows = min(batches, max((batches + 3) / 4, (kEnoughBlocks + columns - 1) / columns));
    const dim3 grid(static_cast<unsigned>(columns), static_cast<unsigned>(min(rows, kMostGridYZ)));
    launch(stream, {name, grid, dim3(block)}, each_batch_of_rows<N, Body>, body, d);
  };
  if (d.channels % kLanes == 0 && body.aligned())
    go.template operator()<kLanes>();
  else
    go.template operator()<1>();
}

// ---- sums over rows -------------------------------------------------------------------------------------------------

// Rows are cut into parts; a block sums one part of some columns. Block: x along the columns, at most 32, N for each
// thread, y along the rows. Grid: (columns, parts). Two blocks of 384 threads with 80 registers fit a multiprocessor:
// so many blocks that they make one wave on an H200, and 384 rows or more for each, which keeps what they find small
// beside the rows.
constexpr int kThreads = 384, kBlocksAtOnce = 2;
constexpr int64_t kMostBlocks = 264, kMostParts = 256, kRowsPerPart = 384;

struct Parts {
  int64_t channels, rows, count, rows_each;

  VTL_DEVICE int64_t begin(int64_t part) const { return part * rows_each; }
  VTL_DEVICE int64_t end(int64_t part) const { return min(rows, (part + 1) * rows_each); }
};

template <int N>
unsigned part_lanes(const BatchNormDims& d) {
  const int64_t lanes = (d.channels + N - 1) / N, pieces = (lanes + kWarpLanes - 1) / kWarpLanes;
  return static_cast<unsigned>(pieces == 1 ? lanes : ((lanes + pieces - 1) / pieces + 7) / 8 * 8);
}
template <int N>
unsigned column_blocks(const BatchNormDims& d) {
  return blocks_for(d.channels, static_cast<int64_t>(part_lanes<N>(d)) * N);
}
template <int N>
Parts cut(const BatchNormDims& d) {
  if (d.rows == 0) return {d.channels, 0, 0, 1};
  const int64_t most = max<int64_t>(1, min(kMostParts, kMostBlocks / column_blocks<N>(d)));
  const int64_t count = min((d.rows + kRowsPerPart - 1) / kRowsPerPart, most);
  const int64_t rows_each = (d.rows + count - 1) / count;
  return {d.channels, d.rows, (d.rows + rows_each - 1) / rows_each, rows_each};
}
size_t bytes_for(const Parts& parts, int64_t values) {
  return static_cast<size_t>(parts.count * values * parts.channels) * sizeof(float);
}

template <int N>
VTL_DEVICE void add(Floats<N>& to, const Floats<N>& values) {
  VTL_UNROLL
  for (int k = 0; k < N; ++k) to[k] += values[k];
}

// The sums over threadIdx.y of two numbers for each column, to out[0][columns] and out[1][columns].
template <int N>
VTL_DEVICE void store_sums(const Floats<N>& first, const Floats<N>& second, float* out, int64_t channels) {
  VTL_SHARED(float, sums, [2 * kThreads * N]);
  const unsigned here = threadIdx.y * blockDim.x + threadIdx.x;
  store_floats(sums + here * N, first);
  store_floats(sums + (kThreads + here) * N, second);
  __syncthreads();
  const unsigned width = blockDim.x * N, which = here / width, column = here % width;
  const int64_t channel = static_cast<int64_t>(blockIdx.x) * width + column;
  if (which > 1 || channel >= channels) return;
  float total = 0;
  for (unsigned t = 0; t < blockDim.y; ++t) total += sums[which * kThreads * N + t * width + column];
  store(out + which * channels + channel, total);
}

// Merging parts: x along 8 channels, whole sectors of f32, y along 32 slices of the parts. In fp64, where long sums
// lose nothing.
constexpr int kMergeChannels = 8, kSlices = 32, kMergeThreads = kMergeChannels * kSlices;
constexpr int kPartsOfSlice = kMostParts / kSlices;

VTL_DEVICE double sum_over_slices(double mine, double (&sums)[kSlices][kMergeChannels]) {
  sums[threadIdx.y][threadIdx.x] = mine;
  __syncthreads();
  double total = 0;
  VTL_UNROLL_BY(8)
  for (int s = 0; s < kSlices; ++s) total += sums[s][threadIdx.x];
  __syncthreads();
  return total;
}

// ---- forward --------------------------------------------------------------------------------------------------------

// out[part][3][channels]: the sums of x - shift and of its square over one part, and shift, which is the mean of some
// of the part's rows: what cancels in the variance is then no larger than the spread of the data, however large its
// mean. A thread takes some rows at a time: sums stay short, and loads are under way.
constexpr int kMomentValues = 3;
template <int N, class T>
__global__ void __launch_bounds__(kThreads, kBlocksAtOnce) part_moments(const T* x, Parts parts, float* out) {
  constexpr int kRows = 16 / sizeof(T);
  VTL_SHARED(float, shifts, [kWarpLanes * N]);
  const int64_t c = (static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) * N;
  const bool inside = c < parts.channels;
  const int64_t end = parts.end(blockIdx.y), step = blockDim.y;
  float* const found = out + static_cast<int64_t>(blockIdx.y) * kMomentValues * parts.channels;

  int64_t row = parts.begin(blockIdx.y) + threadIdx.y;
  Packed<N, T> loaded[kRows];
  const auto load_rows = [&] {
    VTL_UNROLL
    for (int i = 0; i < kRows; ++i)
      if (inside && row + i * step < end) loaded[i] = load_packed<N>(x, (row + i * step) * parts.channels + c);
  };
  load_rows();
  if (threadIdx.y == 0 && inside) {
    Floats<N> mean{};
    int rows = 0;
    VTL_UNROLL
    for (int i = 0; i < kRows; ++i)
      if (row + i * step < end) {
        add(mean, loaded[i].floats());
        ++rows;
      }
    VTL_UNROLL
    for (int k = 0; k < N; ++k) mean[k] /= static_cast<float>(rows);
    store_floats(shifts + threadIdx.x * N, mean);
    store_floats(found + 2 * parts.channels + c, mean);
  }
  __syncthreads();

  Floats<N> sum{}, squares{};
  if (inside) {
    const Floats<N> shift = load_floats<N>(shifts + threadIdx.x * N);
    for (; row < end; load_rows()) {
      Floats<N> short_sum{}, short_squares{};
      VTL_UNROLL
      for (int i = 0; i < kRows; ++i) {
        if (row + i * step >= end) continue;
        const Floats<N> values = loaded[i].floats();
        VTL_UNROLL
        for (int k = 0; k < N; ++k) {
          const float centred = values[k] - shift[k];
          short_sum[k] += centred;
          short_squares[k] += centred * centred;
        }
      }
      add(sum, short_sum);
      add(squares, short_squares);
      row += kRows * step;
    }
  }
  store_sums(sum, squares, found, parts.channels);
}

// Moments of all rows, from those of the parts (Chan, Golub, LeVeque 1979): the parts' own squared deviations, and
// those of their means from the common one. Grid: channels / 8.
__global__ void __launch_bounds__(kMergeThreads) merge_moments(const float* found, Parts parts, float* moments) {
  VTL_SHARED(double, sums, [kSlices][kMergeChannels]);
  const int64_t c = static_cast<int64_t>(blockIdx.x) * kMergeChannels + threadIdx.x;
  double means[kPartsOfSlice]{}, rows[kPartsOfSlice]{}, mean_sum = 0, m2 = 0;
  VTL_UNROLL
  for (int i = 0; i < kPartsOfSlice; ++i) {
    const int64_t part = threadIdx.y + i * kSlices;
    if (part >= parts.count || c >= parts.channels) continue;
    const float* const from = found + part * kMomentValues * parts.channels + c;
    const double sum = load(from), squares = load(from + parts.channels), shift = load(from + 2 * parts.channels);
    rows[i] = static_cast<double>(parts.end(part) - parts.begin(part));
    means[i] = shift + sum / rows[i];
    m2 += squares - sum * sum / rows[i];
    mean_sum += rows[i] * means[i];
  }
  const double all_rows = parts.rows > 0 ? static_cast<double>(parts.rows) : 1.0;
  const double mean = sum_over_slices(mean_sum, sums) / all_rows;
  VTL_UNROLL
  for (int i = 0; i < kPartsOfSlice; ++i) m2 += rows[i] * (means[i] - mean) * (means[i] - mean);
  m2 = sum_over_slices(m2, sums);
  if (threadIdx.y != 0 || c >= parts.channels) return;
  store(moments + c, static_cast<float>(mean));
  store(moments + parts.channels + c, m2 < 0 ? 0.0f : static_cast<float>(m2));  // NaN stays NaN
  if (c == 0) store(moments + 2 * parts.channels, static_cast<float>(parts.rows));
}

constexpr int kChannelThreads = 64;

// Grid: channels / 64.
__global__ void __launch_bounds__(kChannelThreads)
    finish(const float* moments, float* mean, float* rstd, float* running_mean, float* running_var,
           int64_t* num_batches_tracked, BatchNormFinish f) {
  const int64_t c = static_cast<int64_t>(blockIdx.x) * kChannelThreads + threadIdx.x;
  if (c >= f.channels) return;
  const int64_t size = batchnorm_moments_size(f.channels);
  double rows = 0, middle = 0, m2 = 0;
  for (int64_t part = 0; part < f.parts; ++part) {
    const float* from = moments + part * size;
    const double more = load(from + 2 * f.channels);
    if (more == 0) continue;
    const double apart = load(from + c) - middle, share = more / (rows + more);
    middle += apart * share;
    m2 += load(from + f.channels + c) + apart * apart * rows * share;
    rows += more;
  }
  const double variance = rows > 0 ? m2 / rows : 0;
  store(mean + c, static_cast<float>(middle));
  store(rstd + c, static_cast<float>(1.0 / sqrt(variance + static_cast<double>(f.eps))));
  if (rows == 0) return;
  const double take = static_cast<double>(f.momentum), keep = 1.0 - take;
  const double unbiased = m2 / (rows > 1 ? rows - 1 : 1);
  if (running_mean) store(running_mean + c, static_cast<float>(keep * load(running_mean + c) + take * middle));
  if (running_var) store(running_var + c, static_cast<float>(keep * load(running_var + c) + take * unbiased));
  if (num_batches_tracked && c == 0) store(num_batches_tracked, load(num_batches_tracked) + 1);
}

// Grid: channels / 64.
__global__ void __launch_bounds__(kChannelThreads)
    running_rstd(const float* running_var, float* rstd, int64_t channels, float eps) {
  const int64_t c = static_cast<int64_t>(blockIdx.x) * kChannelThreads + threadIdx.x;
  if (c < channels) store(rstd + c, 1.0f / sqrtf(load(running_var + c) + eps));
}

// y = activation(z)
template <class T>
struct Apply {
  static constexpr int kRows = 16 / sizeof(T);
  const T *x, *residual;
  T* y;
  BatchNormScale scale;
  Activation activation;

  template <int N>
  struct Loaded {
    Packed<N, T> x, residual;
  };

  bool aligned() const {
    return aligned_to<kLanes>(x) && aligned_to<kLanes>(residual) && aligned_to<kLanes>(y) && VTL_GPU::aligned(scale);
  }
  template <int N>
  VTL_DEVICE PerChannel<N> kept(int64_t c) const {
    return per_channel<N>(scale, c);
  }
  template <int N>
  VTL_DEVICE Loaded<N> load(int64_t i) const {
    return {load_packed<N>(x, i), load_packed<N>(residual, i)};
  }
  template <int N>
  VTL_DEVICE void at(int64_t i, const PerChannel<N>& columns, const Loaded<N>& loaded) const {
    const Floats<N> value = loaded.x.floats();
    Floats<N> z = loaded.residual.floats();
    VTL_UNROLL
    for (int k = 0; k < N; ++k) z[k] += (value[k] - columns.mean[k]) * columns.scale[k] + columns.bias[k];
    activate(activation, z);
    store_floats(y + i, z);
  }
};

// ---- backward -------------------------------------------------------------------------------------------------------

// g = dy * activation'(z). x null: x - mean counts as 0. `kept`: y or the residual, where the derivative needs it.
template <class T>
struct Upstream {
  const T *dy, *x, *kept;
  bool from_output;
  BatchNormScale scale;
  Activation activation;

  template <int N>
  struct Loaded {
    Packed<N, T> dy, x, kept;
  };
  template <int N>
  struct Centred {
    Floats<N> g, x;  // x - mean
  };

  bool aligned() const {
    return aligned_to<kLanes>(dy) && aligned_to<kLanes>(x) && aligned_to<kLanes>(kept) && VTL_GPU::aligned(scale);
  }
  template <int N>
  VTL_DEVICE Loaded<N> load(int64_t i) const {
    return {load_packed<N>(dy, i), load_packed<N>(x, i), load_packed<N>(kept, i)};
  }
  template <int N>
  VTL_DEVICE Centred<N> differentiate(const PerChannel<N>& columns, const Loaded<N>& loaded) const {
    Centred<N> result{loaded.dy.floats(), loaded.x.floats()};
    VTL_UNROLL
    for (int k = 0; k < N; ++k) result.x[k] = x ? result.x[k] - columns.mean[k] : 0.0f;
    if (activation == Activation::none) return result;
    Floats<N> z = loaded.kept.floats();
    if (from_output) {
      activate_backward_from_output(activation, result.g, z);
      return result;
    }
    VTL_UNROLL
    for (int k = 0; k < N; ++k) z[k] += result.x[k] * columns.scale[k] + columns.bias[k];
    activate_backward(activation, result.g, z);
    return result;
  }
};

// As many as the registers hold.
template <class T>
constexpr int kGradientRows = sizeof(T) == 4 ? 2 : 3;

enum class WantsX { always, for_activation };

template <class T>
Upstream<T> upstream(const void* dy, const BatchNormSaved& saved, BatchNormScale scale, Activation activation,
                     WantsX wants) {
  const bool active = activation != Activation::none, from_output = active && saved.y;
  const bool reads_x = wants == WantsX::always || (active && !from_output);
  const void* kept = from_output ? saved.y : active ? saved.residual : nullptr;
  return {static_cast<const T*>(dy),
          static_cast<const T*>(reads_x ? saved.x : nullptr),
          static_cast<const T*>(kept),
          from_output,
          scale,
          activation};
}

// What may be written on the way: g, and with constant statistics dx = g * scale.
template <class T>
struct Written {
  T* g;
  const T* g_addend;
  T* dx;
  const T* dx_addend;

  bool aligned() const {
    return aligned_to<kLanes>(g) && aligned_to<kLanes>(g_addend) && aligned_to<kLanes>(dx) &&
           aligned_to<kLanes>(dx_addend);
  }
};

template <int N, class T>
VTL_DEVICE void store_sum(T* out, const T* addend, int64_t i, const Floats<N>& value) {
  Floats<N> sum = load_floats_or_zero<N>(addend, i);
  add(sum, value);
  store_floats(out + i, sum);
}

// out[part][2][channels]: the sums of g and of g * (x - mean) over one part.
constexpr int kSumValues = 2;
template <int N, class T>
__global__ void __launch_bounds__(kThreads, kBlocksAtOnce)
    part_sums(Upstream<T> upstream, Written<T> written, Parts parts, float* out) {
  constexpr int kRows = kGradientRows<T>;
  const int64_t c = (static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) * N;
  const int64_t end = parts.end(blockIdx.y), step = blockDim.y;
  Floats<N> g_sum{}, product_sum{};
  if (c < parts.channels) {
    const PerChannel<N> columns = per_channel<N>(upstream.scale, c);
    for (int64_t row = parts.begin(blockIdx.y) + threadIdx.y; row < end; row += kRows * step) {
      typename Upstream<T>::template Loaded<N> loaded[kRows];
      VTL_UNROLL
      for (int i = 0; i < kRows; ++i)
        if (row + i * step < end) loaded[i] = upstream.template load<N>((row + i * step) * parts.channels + c);
      Floats<N> short_g{}, short_product{};
      VTL_UNROLL
      for (int i = 0; i < kRows; ++i) {
        if (row + i * step >= end) continue;
        const auto [g, centred] = upstream.differentiate(columns, loaded[i]);
        VTL_UNROLL
        for (int k = 0; k < N; ++k) {
          short_g[k] += g[k];
          short_product[k] += g[k] * centred[k];
        }
        const int64_t at = (row + i * step) * parts.channels + c;
        if (written.g) store_sum(written.g, written.g_addend, at, g);
        if (!written.dx) continue;
        Floats<N> dx;
        VTL_UNROLL
        for (int k = 0; k < N; ++k) dx[k] = g[k] * columns.scale[k];
        store_sum(written.dx, written.dx_addend, at, dx);
      }
      add(g_sum, short_g);
      add(product_sum, short_product);
    }
  }
  store_sums(g_sum, product_sum, out + static_cast<int64_t>(blockIdx.y) * kSumValues * parts.channels, parts.channels);
}

VTL_DEVICE void write_parameter(const Dest& dest, int64_t c, float value) {
  if (!dest.wanted()) return;
  const auto* addend = static_cast<const float*>(dest.addend);
  store(static_cast<float*>(dest.out) + c, addend ? load(addend + c) + value : value);
}

// The sums over all parts; that of g * (x - mean) becomes that of g * xhat. sums may be null. Grid: channels / 8.
__global__ void __launch_bounds__(kMergeThreads)
    merge_sums(const float* found, Parts parts, const float* rstd, float* out, Dest dweight, Dest dbias) {
  VTL_SHARED(double, sums, [kSlices][kMergeChannels]);
  const int64_t c = static_cast<int64_t>(blockIdx.x) * kMergeChannels + threadIdx.x;
  double g_sum = 0, product_sum = 0;
  VTL_UNROLL
  for (int i = 0; i < kPartsOfSlice; ++i) {
    const int64_t part = threadIdx.y + i * kSlices;
    if (part >= parts.count || c >= parts.channels) continue;
    const float* const from = found + part * kSumValues * parts.channels + c;
    g_sum += static_cast<double>(load(from));
    product_sum += static_cast<double>(load(from + parts.channels));
  }
  g_sum = sum_over_slices(g_sum, sums);
  product_sum = sum_over_slices(product_sum, sums);
  if (threadIdx.y != 0 || c >= parts.channels) return;
  const auto bias_gradient = static_cast<float>(g_sum);
  const auto weight_gradient = static_cast<float>(product_sum * static_cast<double>(load(rstd + c)));
  if (out) {
    store(out + c, bias_gradient);
    store(out + parts.channels + c, weight_gradient);
  }
  write_parameter(dbias, c, bias_gradient);
  write_parameter(dweight, c, weight_gradient);
}

template <class T>
void reduce(Stream& stream, const Upstream<T>& upstream, const Written<T>& written, float* sums, Dest dweight,
            Dest dbias, BatchNormDims d) {
  if (d.channels == 0) return;
  const auto go = [&]<int N>() {
    const Parts parts = cut<N>(d);
    const Scratch found = stream.scratch(bytes_for(parts, kSumValues));
    const unsigned lanes = part_lanes<N>(d);
    const dim3 grid(column_blocks<N>(d), static_cast<unsigned>(parts.count));
    if (parts.count > 0)
      launch(stream, {"batchnorm part_sums", grid, dim3(lanes, kThreads / lanes)}, part_sums<N, T>, upstream, written,
             parts, found.f32());
    launch(stream, {"batchnorm merge_sums", blocks_for(d.channels, kMergeChannels), dim3(kMergeChannels, kSlices)},
           merge_sums, found.f32(), parts, upstream.scale.rstd, sums, dweight, dbias);
  };
  if (d.channels % kLanes == 0 && upstream.aligned() && written.aligned())
    go.template operator()<kLanes>();
  else
    go.template operator()<1>();
}

// dx = g * scale - offset - (x - mean) * slope, dresidual = g.
template <class T>
struct BackwardApply {
  static constexpr int kRows = kGradientRows<T>;
  Upstream<T> upstream;
  Written<T> written;
  const float* sums;  // null: statistics are constants
  int64_t channels;
  float inverse_rows;

  template <int N>
  struct Kept {
    PerChannel<N> columns;
    Floats<N> offset, slope;
  };

  bool aligned() const { return upstream.aligned() && written.aligned() && aligned_to<kLanes>(sums); }
  template <int N>
  VTL_DEVICE Kept<N> kept(int64_t c) const {
    Kept<N> kept{per_channel<N>(upstream.scale, c), {}, {}};
    if (!sums) return kept;
    const Floats<N> rstd = load_floats<N>(upstream.scale.rstd + c);
    kept.offset = load_floats<N>(sums + c);
    kept.slope = load_floats<N>(sums + channels + c);
    VTL_UNROLL
    for (int k = 0; k < N; ++k) {
      const float share = kept.columns.scale[k] * inverse_rows;
      kept.offset[k] *= share;
      kept.slope[k] *= share * rstd[k];
    }
    return kept;
  }
  template <int N>
  VTL_DEVICE auto load(int64_t i) const {
    return upstream.template load<N>(i);
  }
  template <int N, class Loaded>
  VTL_DEVICE void at(int64_t i, const Kept<N>& kept, const Loaded& loaded) const {
    const auto [g, centred] = upstream.differentiate(kept.columns, loaded);
    if (written.g) store_sum(written.g, written.g_addend, i, g);
    if (!written.dx) return;
    Floats<N> dx;
    VTL_UNROLL
    for (int k = 0; k < N; ++k) dx[k] = g[k] * kept.columns.scale[k] - kept.offset[k] - centred[k] * kept.slope[k];
    store_sum(written.dx, written.dx_addend, i, dx);
  }
};

template <class T>
Written<T> written(const Dest& g, const Dest& dx) {
  return {static_cast<T*>(g.out), static_cast<const T*>(g.addend), static_cast<T*>(dx.out),
          static_cast<const T*>(dx.addend)};
}

}  // namespace

void batchnorm_statistics(Stream& stream, DType dtype, const void* x, float* moments, BatchNormDims dims) {
  if (dims.channels == 0) return;
  visit_float(dtype, [&]<class T>() {
    const auto* from = static_cast<const T*>(x);
    const auto go = [&]<int N>() {
      const Parts parts = cut<N>(dims);
      const Scratch found = stream.scratch(bytes_for(parts, kMomentValues));
      const unsigned lanes = part_lanes<N>(dims);
      const dim3 grid(column_blocks<N>(dims), static_cast<unsigned>(parts.count));
      if (parts.count > 0)
        launch(stream, {"batchnorm part_moments", grid, dim3(lanes, kThreads / lanes)}, part_moments<N, T>, from, parts,
               found.f32());
      launch(stream,
             {"batchnorm merge_moments", blocks_for(dims.channels, kMergeChannels), dim3(kMergeChannels, kSlices)},
             merge_moments, found.f32(), parts, moments);
    };
    if (dims.channels % kLanes == 0 && aligned_to<kLanes>(from))
      go.template operator()<kLanes>();
    else
      go.template operator()<1>();
  });
}

void batchnorm_finish(Stream& stream, const float* moments, float* mean, float* rstd, float* running_mean,
                      float* running_var, int64_t* num_batches_tracked, BatchNormFinish f) {
  if (f.channels == 0) return;
  launch(stream, {"batchnorm finish", blocks_for(f.channels, kChannelThreads), kChannelThreads}, finish, moments, mean,
         rstd, running_mean, running_var, num_batches_tracked, f);
}

void batchnorm_running_rstd(Stream& stream, const float* running_var, float* rstd, int64_t channels, float eps) {
  if (channels == 0) return;
  launch(stream, {"batchnorm running_rstd", blocks_for(channels, kChannelThreads), kChannelThreads}, running_rstd,
         running_var, rstd, channels, eps);
}

void batchnorm_apply(Stream& stream, DType dtype, const void* x, BatchNormScale scale, const void* residual,
                     Activation activation, void* y, BatchNormDims dims) {
  visit_float(dtype, [&]<class T>() {
    const Apply<T> body{static_cast<const T*>(x), static_cast<const T*>(residual), static_cast<T*>(y), scale,
                        activation};
    for_each_batch_of_rows(stream, "batchnorm apply", body, dims);
  });
}

void batchnorm_backward_reduce(Stream& stream, DType dtype, const void* dy, BatchNormSaved saved, BatchNormScale scale,
                               Activation activation, float* sums, Dest dweight, Dest dbias, void* g,
                               BatchNormDims dims) {
  visit_float(dtype, [&]<class T>() {
    reduce(stream, upstream<T>(dy, saved, scale, activation, WantsX::always), written<T>({g, nullptr}, {}), sums,
           dweight, dbias, dims);
  });
}

void batchnorm_backward_apply(Stream& stream, DType dtype, const void* dy, BatchNormSaved saved, BatchNormScale scale,
                              Activation activation, const float* sums, int64_t total_rows, Dest dx, Dest dresidual,
                              BatchNormDims dims) {
  if (!dx.wanted() && !dresidual.wanted()) return;
  visit_float(dtype, [&]<class T>() {
    const bool centred = sums && dx.wanted();
    const BackwardApply<T> body{
        upstream<T>(dy, saved, scale, activation, centred ? WantsX::always : WantsX::for_activation),
        written<T>(dresidual, dx), sums, dims.channels,
        total_rows ? static_cast<float>(1.0 / static_cast<double>(total_rows)) : 0.0f};
    for_each_batch_of_rows(stream, "batchnorm backward_apply", body, dims);
  });
}

void batchnorm_frozen_backward(Stream& stream, DType dtype, const void* dy, BatchNormSaved saved, BatchNormScale scale,
                               Activation activation, Dest dx, Dest dresidual, Dest dweight, Dest dbias,
                               BatchNormDims dims) {
  if (!dweight.wanted() && !dbias.wanted())
    return VTL_GPU::batchnorm_backward_apply(stream, dtype, dy, saved, scale, activation, nullptr, dims.rows, dx,
                                             dresidual, dims);
  // All in one pass: nothing waits for the sums.
  visit_float(dtype, [&]<class T>() {
    const WantsX wants = dweight.wanted() ? WantsX::always : WantsX::for_activation;
    reduce(stream, upstream<T>(dy, saved, scale, activation, wants), written<T>(dresidual, dx), nullptr, dweight, dbias,
           dims);
  });
}

}  // namespace vtl::kernels::VTL_GPU
