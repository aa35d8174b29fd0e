// Convolutions with one filter for each channel. All of them are bound by memory: a thread takes 16 bytes of
// neighbouring channels and a strip of neighbouring columns, so that it loads what its columns share once; what
// neighbouring rows share comes from the L1 cache, as a block's rows lie under each other.
#include "vtl/kernels/conv2d/depthwise.h"

#include "vtl/core/error.h"
#include "vtl/kernels/device/divide.h"
#include "vtl/kernels/device/epilogue.h"
#include "vtl/kernels/device/reduce_rows.h"

namespace vtl::kernels::VTL_GPU {
namespace {

constexpr int kThreads = 256;
constexpr int kMostLanes = 8;  // threads side by side along the channels: a line of 128 bytes
constexpr int64_t kMostInt = (int64_t{1} << 31) - (1 << 16);  // threads count a little beyond the end

// One convolution in numbers of a register each. Work is cut into items: a strip of columns of one row.
struct Geometry {
  int in_h, in_w, out_h, out_w, channels, pad_top, pad_left;
  Divisor strips, rows;  // of one image
  int items;
};
struct Item {
  int image, row, strip;
};

VTL_DEVICE Item item_at(const Geometry& g, int index) {
  const int line = index / g.strips, image = line / g.rows;
  return {image, remainder(line, image, g.rows), remainder(index, line, g.strips)};
}

// The kernels count in 32 bits.
int small(int64_t value) {
  if (value > kMostInt)
    fail(ErrorKind::unsupported, "depthwise convolution: ", value, " positions or values in a row, at most ", kMostInt,
         " on this device; use smaller batches");
  return static_cast<int>(value);
}

// `strips` of a row and `rows` of an image are the items.
Geometry geometry_of(const Conv2dDims& d, int64_t rows, int64_t strips) {
  small(d.batch * max(d.in_h * d.in_w, d.out_h() * d.out_w()));
  small((max(d.in_w, d.out_w()) + d.kernel_w * d.dilation_w) * d.in_channels);
  return {small(d.in_h),    small(d.in_w),     small(d.out_h()), small(d.out_w()), small(d.in_channels),
          small(d.pad_top), small(d.pad_left), Divisor(strips),  Divisor(rows),    small(d.batch * rows * strips)};
}

// values[k] = column left + k of a row of `width` columns that begins at row[at], zeros outside.
template <int Count, int N, class T>
VTL_DEVICE void load_columns(const T* row, int64_t at, int left, int width, int channels, Floats<N> (&values)[Count]) {
  VTL_UNROLL
  for (int k = 0; k < Count; ++k) {
    const bool inside = static_cast<unsigned>(left + k) < static_cast<unsigned>(width);
    values[k] = load_floats_or_zero<N>(inside ? row : nullptr, at + static_cast<int64_t>(left + k) * channels);
  }
}

// f<K, S>() for the kernels and strides that have code of their own; false where they have none.
template <class F>
bool visit_tiles(const Conv2dDims& d, F&& f) {
  if (d.kernel_h != d.kernel_w || d.stride_h != d.stride_w || d.dilation_h != 1 || d.dilation_w != 1) return false;
  const auto is = [&](int64_t kernel, int64_t stride) { return d.kernel_h == kernel && d.stride_h == stride; };
  if (is(3, 1)) return f.template operator()<3, 1>(), true;
  if (is(5, 1)) return f.template operator()<5, 1>(), true;
  if (is(7, 1)) return f.template operator()<7, 1>(), true;
  if (is(3, 2)) return f.template operator()<3, 2>(), true;
  if (is(5, 2)) return f.template operator()<5, 2>(), true;
  return false;
}

// How the channels are cut into slabs of at most `most` vectors, all of about as many.
struct Slabs {
  unsigned lanes, count;
};
Slabs slabs_of(int64_t channels, int64_t width, int64_t most = kMostLanes) {
  const int64_t vectors = channels / width, count = (vectors + most - 1) / most;
  return {static_cast<unsigned>((vectors + count - 1) / count), static_cast<unsigned>(count)};
}

// ---- forward, and the gradient of the input where the stride is 1 --------------------------------------------------

enum class Taps { as_given, flipped };

// The filters of a slab in shared memory: a row of `lanes` vectors of 16 bytes for each tap. Rows are 16 bytes apart:
// of neighbours in memory, which are taps, then no more than 4 meet in one bank.
VTL_INLINE constexpr int row_pieces(int lanes) { return lanes + 1; }

template <int K, class T>
VTL_DEVICE void load_filters(const T* w, int channels, Taps taps, T* filters) {
  constexpr int kTaps = K * K, N = kVecLanes<T>;
  const int lanes = static_cast<int>(blockDim.x), slab = static_cast<int>(blockIdx.y) * lanes * N;
  const int count = min(lanes * N, channels - slab) * kTaps, threads = lanes * static_cast<int>(blockDim.y);
  for (int i = static_cast<int>(threadIdx.y) * lanes + static_cast<int>(threadIdx.x); i < count; i += threads) {
    const int channel = i / kTaps, tap = taps == Taps::flipped ? kTaps - 1 - i % kTaps : i % kTaps;
    store(filters + tap * row_pieces(lanes) * N + channel, load(w + static_cast<int64_t>(slab) * kTaps + i));
  }
  __syncthreads();
}
template <int N, class T>
VTL_DEVICE Floats<N> filter_at(const T* filters, int tap) {
  return load_floats<N>(filters + (tap * row_pieces(static_cast<int>(blockDim.x)) + static_cast<int>(threadIdx.x)) * N);
}

// As many columns, and rows of taps under way at once, as the registers hold.
template <int K, int S>
constexpr int kStripOf = S == 1 && K <= 5 ? 4 : 2;
template <int K>
constexpr int kRowsAtOnce = K <= 5 ? K : 1;

// Block: x along a slab of the channels, y along the items, of which a thread takes `turns`. Grid: (items, slabs).
// channels is a multiple of N = 16 bytes, pointers are aligned to 16 bytes.
template <int K, int S, class T>
__global__ void __launch_bounds__(kThreads, 2)
    depthwise_tiles(Geometry g, int turns, const T* x, const T* w, Taps taps, T* y, Epilogue epilogue) {
  constexpr int N = kVecLanes<T>, kStrip = kStripOf<K, S>, kColumns = (kStrip - 1) * S + K;
  VTL_DYNAMIC_SHARED(T, filters);
  const int c = static_cast<int>(blockIdx.y * blockDim.x + threadIdx.x) * N;
  load_filters<K>(w, g.channels, taps, filters);
  if (c >= g.channels) return;
  int index = static_cast<int>(blockIdx.x * blockDim.y) * turns + static_cast<int>(threadIdx.y);
  for (int turn = 0; turn < turns && index < g.items; ++turn, index += static_cast<int>(blockDim.y)) {
    const Item item = item_at(g, index);
    const int top = item.row * S - g.pad_top, first = item.strip * kStrip, left = first * S - g.pad_left;
    Floats<N> sums[kStrip]{};
    VTL_UNROLL_BY(kRowsAtOnce<K>)
    for (int p = 0; p < K; ++p) {
      const int h = top + p;
      const bool inside = static_cast<unsigned>(h) < static_cast<unsigned>(g.in_h);
      Floats<N> values[kColumns];
      load_columns(x, static_cast<int64_t>(item.image * g.in_h + h) * (g.in_w * g.channels) + c, left,
                   inside ? g.in_w : 0, g.channels, values);
      VTL_UNROLL
      for (int q = 0; q < K; ++q) {
        const Floats<N> filter = filter_at<N>(filters, p * K + q);
        VTL_UNROLL
        for (int t = 0; t < kStrip; ++t) {
          VTL_UNROLL
          for (int n = 0; n < N; ++n) sums[t][n] += values[t * S + q][n] * filter[n];
        }
      }
    }
    const int64_t row = static_cast<int64_t>(item.image * g.out_h + item.row) * (g.out_w * g.channels);
    const auto terms = load_channel_terms<N>(epilogue, c);
    VTL_UNROLL
    for (int t = 0; t < kStrip; ++t)
      if (first + t < g.out_w) write_epilogue(epilogue, terms, sums[t], y, row + (first + t) * g.channels + c);
  }
}

// Items that each thread takes: more, once there are blocks enough for the whole device (eight for each multiprocessor
// of an H200), so that filters are loaded more rarely and more of what rows share stays in the L1 cache.
int turns_of(int64_t items, unsigned rows, unsigned slabs) {
  return static_cast<int>(min(max(items * slabs / (static_cast<int64_t>(rows) * 1056), int64_t{1}), int64_t{8}));
}

// Launches `kernel` for tiles: grid, block, filters in shared memory.
template <int K, class T, class... Parameters, class... Arguments>
void launch_tiles(Stream& stream, const char* name, void (*kernel)(Geometry, int, Parameters...), const Geometry& g,
                  const Arguments&... arguments) {
  const Slabs slabs = slabs_of(g.channels, kVecLanes<T>);
  const dim3 block(slabs.lanes, kThreads / slabs.lanes);
  const int turns = turns_of(g.items, block.y, slabs.count);
  const dim3 grid(blocks_for(g.items, static_cast<int64_t>(block.y) * turns), slabs.count);
  launch(stream, {name, grid, block, static_cast<size_t>(K * K * row_pieces(static_cast<int>(slabs.lanes)) * 16)},
         kernel, g, turns, arguments...);
}

template <class T>
bool try_tiles(Stream& stream, const Conv2dDims& d, const T* x, const T* w, Taps taps, T* y, const Epilogue& epilogue) {
  constexpr int N = kVecLanes<T>;
  if (d.in_channels % N != 0 || !aligned_to<N>(x) || !aligned_to<N>(epilogue, y)) return false;
  return visit_tiles(d, [&]<int K, int S>() {
    const Geometry g = geometry_of(d, d.out_h(), (d.out_w() + kStripOf<K, S> - 1) / kStripOf<K, S>);
    launch_tiles<K, T>(stream, "depthwise", depthwise_tiles<K, S, T>, g, x, w, taps, y, epilogue);
  });
}

// ---- the gradient of the input where the stride is 2 ---------------------------------------------------------------

constexpr int kGradientStrip = 4;

template <int N, class T>
VTL_DEVICE void write_gradient(const T* addend, Floats<N> sum, T* dx, int64_t at) {
  const Floats<N> before = load_floats_or_zero<N>(addend, at);
  VTL_UNROLL
  for (int n = 0; n < N; ++n) sum[n] += before[n];
  store_floats(dx + at, sum);
}

// A row of dx meets the taps p of its own parity, a column those q of its own: with u = w + pad_left the product of
// tap q is dy at column (u - q) / 2. Strips begin at u = 0, 4, ...: then the parities of a strip's columns are known.
// Block, grid and assumptions as above; items are strips of dx.
template <int K, class T>
__global__ void __launch_bounds__(kThreads, 2)
    depthwise_gradient_tiles(Geometry g, int turns, const T* dy, const T* w, T* dx, const T* addend) {
  constexpr int N = kVecLanes<T>, kReach = K / 2, kColumns = kReach + kGradientStrip / 2;
  VTL_DYNAMIC_SHARED(T, filters);
  const int c = static_cast<int>(blockIdx.y * blockDim.x + threadIdx.x) * N;
  load_filters<K>(w, g.channels, Taps::as_given, filters);
  if (c >= g.channels) return;
  int index = static_cast<int>(blockIdx.x * blockDim.y) * turns + static_cast<int>(threadIdx.y);
  for (int turn = 0; turn < turns && index < g.items; ++turn, index += static_cast<int>(blockDim.y)) {
    const Item item = item_at(g, index);
    const int v = item.row + g.pad_top, u = item.strip * kGradientStrip;
    Floats<N> sums[kGradientStrip]{};
    VTL_UNROLL
    for (int a = 0; a <= kReach; ++a) {
      const int p = v % 2 + 2 * a, i = v / 2 - a;
      const bool inside = p < K && static_cast<unsigned>(i) < static_cast<unsigned>(g.out_h);
      Floats<N> values[kColumns];  // of columns u / 2 - kReach ...
      load_columns(dy, static_cast<int64_t>(item.image * g.out_h + i) * (g.out_w * g.channels) + c, u / 2 - kReach,
                   inside ? g.out_w : 0, g.channels, values);
      VTL_UNROLL
      for (int q = 0; q < K; ++q) {
        const Floats<N> filter = filter_at<N>(filters, (inside ? p : 0) * K + q);
        VTL_UNROLL
        for (int t = q % 2; t < kGradientStrip; t += 2) {
          VTL_UNROLL
          for (int n = 0; n < N; ++n) sums[t][n] += values[t / 2 - q / 2 + kReach][n] * filter[n];
        }
      }
    }
    const int64_t row = static_cast<int64_t>(item.image * g.in_h + item.row) * (g.in_w * g.channels);
    VTL_UNROLL
    for (int t = 0; t < kGradientStrip; ++t) {
      const int column = u + t - g.pad_left;
      if (static_cast<unsigned>(column) < static_cast<unsigned>(g.in_w))
        write_gradient(addend, sums[t], dx, row + column * g.channels + c);
    }
  }
}

template <class T>
bool try_gradient_tiles(Stream& stream, const Conv2dDims& d, const T* dy, const T* w, T* dx, const T* addend) {
  constexpr int N = kVecLanes<T>;
  if (d.in_channels % N != 0 || !aligned_to<N>(dy) || !aligned_to<N>(dx) || !aligned_to<N>(addend)) return false;
  bool done = false;
  visit_tiles(d, [&]<int K, int S>() {
    if constexpr (S == 2) {
      const Geometry g = geometry_of(d, d.in_h, (d.in_w + d.pad_left + kGradientStrip - 1) / kGradientStrip);
      launch_tiles<K, T>(stream, "depthwise gradient", depthwise_gradient_tiles<K, T>, g, dy, w, dx, addend);
      done = true;
    }
  });
  return done;
}

// ---- any kernel, stride, dilation, number of channels and alignment ------------------------------------------------

struct AnyKernel {
  int height, width, stride_h, stride_w, dilation_h, dilation_w;
};
AnyKernel kernel_of(const Conv2dDims& d) {
  return {small(d.kernel_h), small(d.kernel_w),   small(d.stride_h),
          small(d.stride_w), small(d.dilation_h), small(d.dilation_w)};
}

template <int N, class T>
VTL_DEVICE void add_product(Floats<N>& sum, const Floats<N>& values, const T* w, int64_t c, int taps, int tap) {
  VTL_UNROLL
  for (int n = 0; n < N; ++n) sum[n] += values[n] * to_float(load(w + (c + n) * taps + tap));
}

// Items are single positions of y. Block: x along the channels, N for each thread, y along the items. Grid: (items,
// channels).
template <int N, class TIn, class TOut>
__global__ void __launch_bounds__(kThreads)
    depthwise_any(Geometry g, AnyKernel k, const TIn* x, const TIn* w, TOut* y, Epilogue epilogue) {
  const int64_t c = static_cast<int64_t>(blockIdx.y * blockDim.x + threadIdx.x) * N;
  const int index = static_cast<int>(blockIdx.x * blockDim.y + threadIdx.y);
  if (c >= g.channels || index >= g.items) return;
  const Item at = item_at(g, index);
  const int top = at.row * k.stride_h - g.pad_top, left = at.strip * k.stride_w - g.pad_left;
  Floats<N> sum{};
  for (int p = 0; p < k.height; ++p) {
    const int h = top + p * k.dilation_h;
    if (h < 0 || h >= g.in_h) continue;
    for (int q = 0; q < k.width; ++q) {
      const int column = left + q * k.dilation_w;
      if (column < 0 || column >= g.in_w) continue;
      const int64_t pixel = (at.image * g.in_h + h) * g.in_w + column;
      add_product(sum, load_floats<N>(x + pixel * g.channels + c), w, c, k.height * k.width, p * k.width + q);
    }
  }
  write_epilogue(epilogue, load_channel_terms<N>(epilogue, c), sum, y, static_cast<int64_t>(index) * g.channels + c);
}

// The same for dx.
template <int N, class TIn, class TOut>
__global__ void __launch_bounds__(kThreads)
    depthwise_gradient_any(Geometry g, AnyKernel k, const TIn* dy, const TIn* w, TOut* dx, const TOut* addend) {
  const int64_t c = static_cast<int64_t>(blockIdx.y * blockDim.x + threadIdx.x) * N;
  const int index = static_cast<int>(blockIdx.x * blockDim.y + threadIdx.y);
  if (c >= g.channels || index >= g.items) return;
  const Item at = item_at(g, index);
  Floats<N> sum{};
  for (int p = 0; p < k.height; ++p) {
    const int down = at.row + g.pad_top - p * k.dilation_h, i = down / k.stride_h;
    if (down < 0 || i * k.stride_h != down || i >= g.out_h) continue;
    for (int q = 0; q < k.width; ++q) {
      const int right = at.strip + g.pad_left - q * k.dilation_w, j = right / k.stride_w;
      if (right < 0 || j * k.stride_w != right || j >= g.out_w) continue;
      const int64_t pixel = (at.image * g.out_h + i) * g.out_w + j;
      add_product(sum, load_floats<N>(dy + pixel * g.channels + c), w, c, k.height * k.width, p * k.width + q);
    }
  }
  write_gradient(addend, sum, dx, static_cast<int64_t>(index) * g.channels + c);
}

// Launches `kernel`, which takes N channels at once.
template <int N, class... Parameters, class... Arguments>
void launch_any(Stream& stream, const char* name, void (*kernel)(Geometry, AnyKernel, Parameters...),
                const Conv2dDims& d, int64_t rows, int64_t columns, const Arguments&... arguments) {
  const Slabs slabs = slabs_of(d.in_channels, N, N == 1 ? kWarpLanes : kMostLanes);
  const Geometry g = geometry_of(d, rows, columns);
  const dim3 block(slabs.lanes, kThreads / slabs.lanes), grid(blocks_for(g.items, block.y), slabs.count);
  launch(stream, {name, grid, block}, kernel, g, kernel_of(d), arguments...);
}

template <class TIn, class TOut>
void forward(Stream& stream, const Conv2dDims& d, const TIn* x, const TIn* w, TOut* y, const Epilogue& epilogue) {
  if constexpr (sizeof(TIn) == sizeof(TOut)) {
    if (try_tiles(stream, d, x, w, Taps::as_given, y, epilogue)) return;
  }
  constexpr int N = min(kVecLanes<TIn>, kVecLanes<TOut>);
  if (d.in_channels % N == 0 && aligned_to<N>(x) && aligned_to<N>(epilogue, y))
    launch_any<N>(stream, "depthwise any", depthwise_any<N, TIn, TOut>, d, d.out_h(), d.out_w(), x, w, y, epilogue);
  else
    launch_any<1>(stream, "depthwise any", depthwise_any<1, TIn, TOut>, d, d.out_h(), d.out_w(), x, w, y, epilogue);
}

template <class TIn, class TOut>
void backward_data(Stream& stream, const Conv2dDims& d, const TIn* dy, const TIn* w, TOut* dx, const TOut* addend) {
  if constexpr (sizeof(TIn) == sizeof(TOut)) {
    if (d.stride_h == 1 && d.stride_w == 1) {
      // A convolution of dy with the filters turned by half a turn. Padding may come out negative, which nobody minds.
      Conv2dDims turned = d;
      turned.in_h = d.out_h();
      turned.in_w = d.out_w();
      turned.pad_top = d.kernel_h - 1 - d.pad_top;
      turned.pad_bottom = d.kernel_h - 1 - d.pad_bottom;
      turned.pad_left = d.kernel_w - 1 - d.pad_left;
      turned.pad_right = d.kernel_w - 1 - d.pad_right;
      Epilogue epilogue;
      epilogue.residual = addend;
      if (try_tiles(stream, turned, dy, w, Taps::flipped, dx, epilogue)) return;
    }
    if (try_gradient_tiles(stream, d, dy, w, dx, addend)) return;
  }
  constexpr int N = min(kVecLanes<TIn>, kVecLanes<TOut>);
  if (d.in_channels % N == 0 && aligned_to<N>(dy) && aligned_to<N>(dx) && aligned_to<N>(addend))
    launch_any<N>(stream, "depthwise gradient any", depthwise_gradient_any<N, TIn, TOut>, d, d.in_h, d.in_w, dy, w, dx,
                  addend);
  else
    launch_any<1>(stream, "depthwise gradient any", depthwise_gradient_any<1, TIn, TOut>, d, d.in_h, d.in_w, dy, w, dx,
                  addend);
}

// ---- the gradient of the filters -----------------------------------------------------------------------------------

constexpr int kSumLanes = 4;  // channels of a thread: sums of f32 move in 16 bytes
constexpr int kSumStrip = 4;

// Partial sums over `per` items for each block. A thread keeps those of one row of taps, p, for its channels: it meets
// dy K times, which the L1 cache serves, but needs K times fewer registers than all taps do.
// Block: x = (p, channels), y along the items. Grid: (partials, slabs). partials: [gridDim.x][channels][K][K].
// channels is a multiple of 4, pointers are aligned to 4 values.
template <int K, int S, class T>
__global__ void __launch_bounds__(kThreads, 2)
    depthwise_filter_sums(Geometry g, int per, const T* x, const T* dy, float* partials) {
  constexpr int N = kSumLanes, kColumns = (kSumStrip - 1) * S + K;
  const int lanes = static_cast<int>(blockDim.x) / K, lane = static_cast<int>(threadIdx.x) % lanes;
  const int p = static_cast<int>(threadIdx.x) / lanes, slab = static_cast<int>(blockIdx.y) * lanes * N;
  const int c = slab + lane * N;
  Floats<N> sums[K]{};
  const int begin = static_cast<int>(blockIdx.x) * per, end = min(begin + per, g.items);
  for (int index = begin + static_cast<int>(threadIdx.y); index < end && c < g.channels;
       index += static_cast<int>(blockDim.y)) {
    const Item item = item_at(g, index);
    const int h = item.row * S + p - g.pad_top, first = item.strip * kSumStrip;
    if (static_cast<unsigned>(h) >= static_cast<unsigned>(g.in_h)) continue;
    Floats<N> upstream[kSumStrip], values[kColumns];
    load_columns(dy, static_cast<int64_t>(item.image * g.out_h + item.row) * (g.out_w * g.channels) + c, first, g.out_w,
                 g.channels, upstream);
    load_columns(x, static_cast<int64_t>(item.image * g.in_h + h) * (g.in_w * g.channels) + c, first * S - g.pad_left,
                 g.in_w, g.channels, values);
    VTL_UNROLL
    for (int q = 0; q < K; ++q) {
      VTL_UNROLL
      for (int t = 0; t < kSumStrip; ++t) {
        VTL_UNROLL
        for (int n = 0; n < N; ++n) sums[q][n] += upstream[t][n] * values[t * S + q][n];
      }
    }
  }
  VTL_SHARED(float, exchange, [kThreads * N]);
  VTL_SHARED(float, filters, [kMostLanes * N * K * K]);  // the block's partial sums as they lie in memory
  VTL_UNROLL
  for (int q = 0; q < K; ++q) {
    const Floats<N> sum = fold_over_y<Sum>(sums[q], exchange);
    if (threadIdx.y == 0) {
      VTL_UNROLL
      for (int n = 0; n < N; ++n) filters[((lane * N + n) * K + p) * K + q] = sum[n];
    }
  }
  __syncthreads();
  float* const partial = partials + (static_cast<int64_t>(blockIdx.x) * g.channels + slab) * (K * K);
  const int count = min(lanes * N, g.channels - slab) * (K * K), threads = static_cast<int>(blockDim.x * blockDim.y);
  for (int i = static_cast<int>(threadIdx.y * blockDim.x + threadIdx.x); i < count; i += threads)
    store(partial + i, filters[i]);
}

// The same for anything, one tap at a time; items are single positions. Block: 32 channels, 8 of the `per` items. Grid:
// (partials, channels, taps).
template <class T>
__global__ void __launch_bounds__(kThreads)
    depthwise_filter_sums_any(Geometry g, AnyKernel k, int per, const T* x, const T* dy, float* partials) {
  const int64_t c = blockIdx.y * blockDim.x + threadIdx.x;
  const int begin = static_cast<int>(blockIdx.x) * per, end = min(begin + per, g.items), taps = k.height * k.width;
  VTL_SHARED(float, exchange, [kThreads]);
  for (int tap = static_cast<int>(blockIdx.z); tap < taps; tap += static_cast<int>(gridDim.z)) {
    Floats<1> sum{};
    for (int index = begin + static_cast<int>(threadIdx.y); index < end && c < g.channels;
         index += static_cast<int>(blockDim.y)) {
      const Item at = item_at(g, index);
      const int h = at.row * k.stride_h + tap / k.width * k.dilation_h - g.pad_top;
      const int column = at.strip * k.stride_w + tap % k.width * k.dilation_w - g.pad_left;
      if (h < 0 || h >= g.in_h || column < 0 || column >= g.in_w) continue;
      const int64_t pixel = (at.image * g.in_h + h) * g.in_w + column;
      sum[0] += to_float(load(x + pixel * g.channels + c)) *
                to_float(load(dy + static_cast<int64_t>(index) * g.channels + c));
    }
    sum = fold_over_y<Sum>(sum, exchange);
    const int64_t filter = static_cast<int64_t>(blockIdx.x) * g.channels + c;
    if (threadIdx.y == 0 && c < g.channels) store(partials + filter * taps + tap, sum[0]);
  }
}

// How many partial sums: enough blocks for the whole device where there is work for them, but so few that the sums, of
// 8 bytes written and read for each tap and channel, stay small beside the 4 bytes or more of each position.
int64_t partial_count(const Conv2dDims& d, int64_t slabs) {
  constexpr int64_t kMultiprocessors = 132;
  const int64_t positions = d.batch * d.out_h() * d.out_w(), taps = d.kernel_h * d.kernel_w;
  const auto blocks_each = [&](int64_t blocks) { return (blocks * kMultiprocessors + slabs - 1) / slabs; };
  const int64_t cheap = positions / (64 * taps), needed = min(positions / 256, blocks_each(2));
  return max(min(max(cheap, needed), blocks_each(4)), int64_t{1});
}

template <class T>
void backward_weight(Stream& stream, const Conv2dDims& d, const T* x, const T* dy, Dest dweight) {
  constexpr int N = kSumLanes;
  const int64_t filters = d.in_channels * d.kernel_h * d.kernel_w;
  const bool vectors = d.in_channels % N == 0 && aligned_to<N>(x) && aligned_to<N>(dy);
  const Slabs slabs = slabs_of(vectors ? d.in_channels : d.in_channels + N - 1, N);
  int64_t count = partial_count(d, slabs.count);
  const Scratch scratch = stream.scratch(static_cast<size_t>(count * filters) * sizeof(float));
  const bool done =
      vectors && visit_tiles(d, [&]<int K, int S>() {
        const Geometry g = geometry_of(d, d.out_h(), (d.out_w() + kSumStrip - 1) / kSumStrip);
        const auto per = static_cast<int>((g.items + count - 1) / count);
        count = (g.items + per - 1) / per;
        const dim3 grid(static_cast<unsigned>(count), slabs.count);
        launch(stream, {"depthwise filter_sums", grid, dim3(slabs.lanes * K, kThreads / (slabs.lanes * K))},
               depthwise_filter_sums<K, S, T>, g, per, x, dy, scratch.f32());
      });
  if (!done) {
    const Geometry g = geometry_of(d, d.out_h(), d.out_w());
    const auto per = static_cast<int>((g.items + count - 1) / count);
    count = (g.items + per - 1) / per;
    const dim3 grid(static_cast<unsigned>(count), blocks_for(d.in_channels, kWarpLanes),
                    static_cast<unsigned>(min(d.kernel_h * d.kernel_w, int64_t{1024})));
    launch(stream, {"depthwise filter_sums_any", grid, dim3(kWarpLanes, kThreads / kWarpLanes)},
           depthwise_filter_sums_any<T>, g, kernel_of(d), per, x, dy, scratch.f32());
  }
  sum_partials<float>(stream, scratch.f32(), count, dweight, {1, count, filters});
}

}  // namespace

void depthwise_forward(Stream& stream, const Conv2dDims& dims, DType dtype, const void* x, const void* w, void* y,
                       DType y_dtype, const Epilogue& epilogue) {
  visit_float(dtype, [&]<class TIn>() {
    const auto run = [&]<class TOut>() {
      forward(stream, dims, static_cast<const TIn*>(x), static_cast<const TIn*>(w), static_cast<TOut*>(y), epilogue);
    };
    if constexpr (sizeof(TIn) == 4)
      run.template operator()<float>();
    else
      visit_float(y_dtype, run);
  });
}

void depthwise_backward_data(Stream& stream, const Conv2dDims& dims, DType dtype, const void* dy, const void* w,
                             Dest dx, DType dx_dtype) {
  visit_float(dtype, [&]<class TIn>() {
    const auto run = [&]<class TOut>() {
      backward_data(stream, dims, static_cast<const TIn*>(dy), static_cast<const TIn*>(w), static_cast<TOut*>(dx.out),
                    static_cast<const TOut*>(dx.addend));
    };
    if constexpr (sizeof(TIn) == 4)
      run.template operator()<float>();
    else
      visit_float(dx_dtype, run);
  });
}

void depthwise_backward_weight(Stream& stream, const Conv2dDims& dims, DType dtype, const void* x, const void* dy,
                               Dest dweight) {
  visit_float(dtype, [&]<class T>() {
    backward_weight(stream, dims, static_cast<const T*>(x), static_cast<const T*>(dy), dweight);
  });
}

}  // namespace vtl::kernels::VTL_GPU
