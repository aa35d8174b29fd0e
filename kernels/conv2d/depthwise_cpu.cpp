// Vectors run over channels, which lie side by side in NHWC; a tile of neighbouring outputs of one row shares its loads.
// i, j: output row and column; p, q: tap; c: channel.
#include "vtl/kernels/conv2d/depthwise.h"

#include "vtl/core/parallel.h"
#include "vtl/kernels/cpu/activate.h"

namespace vtl::kernels::VTL_CPU {
namespace {

constexpr int kTile = 4;        // outputs of one row that are computed together
constexpr int kMaxKernel = 7;   // larger or dilated kernels take the general path
constexpr int64_t kMaxPartials = 16;

constexpr int64_t min(int64_t a, int64_t b) { return a < b ? a : b; }
constexpr int64_t max(int64_t a, int64_t b) { return a > b ? a : b; }

enum class Taps { as_given, flipped };

// The filters as f32 [kernel_h * kernel_w][channels], the taps in their order or rotated by half a turn.
template <class T>
void transpose_filters(const T* w, int64_t channels, int64_t taps, Taps order, float* to) {
  for (int64_t c = 0; c < channels; ++c)
    for (int64_t t = 0; t < taps; ++t)
      to[(order == Taps::flipped ? taps - 1 - t : t) * channels + c] = to_float(w[c * taps + t]);
}

// The rows of one image that an output row reads: taps first .. last-1 exist.
struct TapRange {
  int64_t first, last;
};
TapRange taps_inside(int64_t start, int64_t kernel, int64_t extent) {
  return {max(0, -start), min(kernel, extent - start)};
}

// ---- forward, stride S, square kernel K ------------------------------------------------------------------------------

// Outputs j .. j + count - 1 of one row, all channels. column[p * Columns + k] points at input column j * S - pad_left + k of
// tap row p, or at zeros.
template <int K, int S, class TIn, class TOut>
VTL_INLINE void forward_tile(const TIn* const* column, TapRange rows, const float* filters, int64_t channels, TOut* y,
                             int64_t offset, int64_t count, const Epilogue& epilogue) {
  constexpr int kColumns = (kTile - 1) * S + K;
  for_lanes(channels, [&](int64_t c, auto lanes) {
    vfloat sums[kTile] = {};
    for (int64_t p = rows.first; p < rows.last; ++p) {
      const TIn* const* from = column + p * kColumns;
      const float* filter = filters + p * K * channels + c;
      vfloat x[kColumns];
#pragma GCC unroll 32
      for (int k = 0; k < kColumns; ++k) x[k] = load_n(from[k] + c, lanes);
#pragma GCC unroll 8
      for (int q = 0; q < K; ++q) {
        const vfloat weight = load_n(filter + q * channels, lanes);
#pragma GCC unroll 8
        for (int t = 0; t < kTile; ++t) sums[t] += x[t * S + q] * weight;
      }
    }
    for (int64_t t = 0; t < count; ++t) {
      vfloat sum = sums[0];
#pragma GCC unroll 8
      for (int u = 1; u < kTile; ++u) sum = t == u ? sums[u] : sum;
      write_epilogue(epilogue, sum, y, offset + t * channels + c, c, lanes);
    }
  });
}

// The same where all columns and kTile outputs exist: `x` points at tap row 0, column j * S - pad_left.
template <int K, int S, class TIn, class TOut>
VTL_INLINE void forward_inner_tile(const TIn* x, int64_t row_size, TapRange rows, const float* filters, int64_t channels, TOut* y,
                                   int64_t offset, const Epilogue& epilogue) {
  constexpr int kColumns = (kTile - 1) * S + K;
  for_lanes(channels, [&](int64_t c, auto lanes) {
    vfloat sums[kTile] = {};
    for (int64_t p = rows.first; p < rows.last; ++p) {
      const TIn* from = x + p * row_size + c;
      const float* filter = filters + p * K * channels + c;
      vfloat in[kColumns];
#pragma GCC unroll 32
      for (int k = 0; k < kColumns; ++k) in[k] = load_n(from + k * channels, lanes);
#pragma GCC unroll 8
      for (int q = 0; q < K; ++q) {
        const vfloat weight = load_n(filter + q * channels, lanes);
#pragma GCC unroll 8
        for (int t = 0; t < kTile; ++t) sums[t] += in[t * S + q] * weight;
      }
    }
#pragma GCC unroll 8
    for (int t = 0; t < kTile; ++t) write_epilogue(epilogue, sums[t], y, offset + t * channels + c, c, lanes);
  });
}

template <int K, int S, class TIn, class TOut>
void forward_rows(const Conv2dDims& d, const TIn* x, const float* filters, const TIn* zeros, TOut* y, const Epilogue& epilogue) {
  constexpr int kColumns = (kTile - 1) * S + K;
  const int64_t out_h = d.out_h(), out_w = d.out_w(), channels = d.in_channels, row_size = d.in_w * channels;
  parallel_for(d.batch * out_h, max(1, min(out_h, 16384 / (out_w * channels) + 1)), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const int64_t image = row / out_h, i = row % out_h, top = i * S - d.pad_top;
      const TapRange rows = taps_inside(top, K, d.in_h);
      const TIn* first = x + (image * d.in_h + top) * row_size;  // tap row 0: outside when top < 0, and then never read
      for (int64_t j = 0; j < out_w; j += kTile) {
        const int64_t left = j * S - d.pad_left, offset = (row * out_w + j) * channels;
        if (left >= 0 && left + kColumns <= d.in_w && j + kTile <= out_w) {
          forward_inner_tile<K, S>(first + left * channels, row_size, rows, filters, channels, y, offset, epilogue);
          continue;
        }
        const TIn* column[K * kColumns];
        for (int p = 0; p < K; ++p)
          for (int k = 0; k < kColumns; ++k)
            column[p * kColumns + k] = left + k >= 0 && left + k < d.in_w ? first + p * row_size + (left + k) * channels : zeros;
        forward_tile<K, S>(column, rows, filters, channels, y, offset, min(kTile, out_w - j), epilogue);
      }
    }
  });
}

// Any kernel, stride and dilation.
template <class TIn, class TOut>
void forward_any(const Conv2dDims& d, const TIn* x, const float* filters, TOut* y, const Epilogue& epilogue) {
  const int64_t out_h = d.out_h(), out_w = d.out_w(), channels = d.in_channels;
  parallel_for(d.batch * out_h, 1, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row)
      for (int64_t j = 0; j < out_w; ++j)
        for_lanes(channels, [&](int64_t c, auto lanes) {
          vfloat sum{};
          for (int64_t p = 0; p < d.kernel_h; ++p) {
            const int64_t h = row % out_h * d.stride_h + p * d.dilation_h - d.pad_top;
            if (h < 0 || h >= d.in_h) continue;
            for (int64_t q = 0; q < d.kernel_w; ++q) {
              const int64_t w = j * d.stride_w + q * d.dilation_w - d.pad_left;
              if (w < 0 || w >= d.in_w) continue;
              sum += load_n(x + ((row / out_h * d.in_h + h) * d.in_w + w) * channels + c, lanes) *
                     load_n(filters + (p * d.kernel_w + q) * channels + c, lanes);
            }
          }
          write_epilogue(epilogue, sum, y, (row * out_w + j) * channels + c, c, lanes);
        });
  });
}

// Calls f.template operator()<K, S>() for the kernels that have code of their own; false for others.
template <class F>
VTL_INLINE bool visit_kernel(const Conv2dDims& d, F&& f) {
  if (d.kernel_h != d.kernel_w || d.stride_h != d.stride_w || d.dilation_h != 1 || d.dilation_w != 1) return false;
  const int64_t kernel = d.kernel_h, stride = d.stride_h;
  if (kernel == 3 && stride == 1) return f.template operator()<3, 1>(), true;
  if (kernel == 3 && stride == 2) return f.template operator()<3, 2>(), true;
  if (kernel == 5 && stride == 1) return f.template operator()<5, 1>(), true;
  if (kernel == 5 && stride == 2) return f.template operator()<5, 2>(), true;
  if (kernel == kMaxKernel && stride == 1) return f.template operator()<kMaxKernel, 1>(), true;
  return false;
}

template <class TIn, class TOut>
void forward(Stream& stream, const Conv2dDims& d, const TIn* x, const TIn* w, Taps order, TOut* y, const Epilogue& epilogue) {
  const int64_t taps = d.kernel_h * d.kernel_w;
  const Scratch scratch = stream.scratch(static_cast<size_t>((taps + 1) * d.in_channels) * 4);
  float* const filters = scratch.f32();
  float* const zeros = filters + taps * d.in_channels;
  transpose_filters(w, d.in_channels, taps, order, filters);
  __builtin_memset(zeros, 0, static_cast<size_t>(d.in_channels) * 4);
  if (!visit_kernel(d, [&]<int K, int S>() {
        forward_rows<K, S>(d, x, filters, reinterpret_cast<const TIn*>(zeros), y, epilogue);
      }))
    forward_any(d, x, filters, y, epilogue);
}

// ---- backward data ------------------------------------------------------------------------------------------------------

// Stride 2. With h + pad_top = 2 u + a (a = 0, 1) only taps p = 2 m + a meet row h, with dy row u - m; columns likewise. One
// tile is 2 kTile columns w of dx from an even w + pad_left on.
template <int K, class TIn, class TOut>
void backward_data_stride2(const Conv2dDims& d, const TIn* dy, const float* filters, const TIn* zeros, TOut* dx, const TOut* addend) {
  constexpr int kReach = (K - 1) / 2, kColumns = kTile + kReach;  // dy columns v - kReach .. v + kTile - 1
  const int64_t out_h = d.out_h(), out_w = d.out_w(), channels = d.in_channels;
  Epilogue epilogue;
  epilogue.residual = addend;
  parallel_for(d.batch * d.in_h, max(1, min(d.in_h, 16384 / (d.in_w * channels) + 1)), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const int64_t image = row / d.in_h, h = row % d.in_h + d.pad_top, parity = h % 2;
      // Tap rows p = 2 m + parity with dy row h / 2 - m inside.
      const int64_t m_first = max(0, h / 2 - out_h + 1), m_last = min((K - parity + 1) / 2, h / 2 + 1);
      const TIn* dy_image = dy + image * out_h * out_w * channels;
      for (int64_t w0 = -(d.pad_left % 2); w0 < d.in_w; w0 += 2 * kTile) {
        const int64_t v = (w0 + d.pad_left) / 2;
        const TIn* column[((K + 1) / 2) * kColumns];
        for (int64_t m = m_first; m < m_last; ++m)
          for (int k = 0; k < kColumns; ++k) {
            const int64_t j = v - kReach + k;
            column[m * kColumns + k] = j >= 0 && j < out_w ? dy_image + ((h / 2 - m) * out_w + j) * channels : zeros;
          }
        for_lanes(channels, [&](int64_t c, auto lanes) {
          vfloat sums[2 * kTile] = {};
          for (int64_t m = m_first; m < m_last; ++m) {
            const float* filter = filters + (2 * m + parity) * K * channels + c;
            vfloat g[kColumns];
#pragma GCC unroll 16
            for (int k = 0; k < kColumns; ++k) g[k] = load_n(column[m * kColumns + k] + c, lanes);
#pragma GCC unroll 8
            for (int q = 0; q < K; ++q) {
              const vfloat weight = load_n(filter + q * channels, lanes);
#pragma GCC unroll 8
              for (int t = 0; t < kTile; ++t) sums[2 * t + q % 2] += g[kReach + t - q / 2] * weight;
            }
          }
#pragma GCC unroll 8
          for (int t = 0; t < 2 * kTile; ++t)
            if (w0 + t >= 0 && w0 + t < d.in_w)
              write_epilogue(epilogue, sums[t], dx, (row * d.in_w + w0 + t) * channels + c, c, lanes);
        });
      }
    }
  });
}

// Any kernel, stride and dilation.
template <class TIn, class TOut>
void backward_data_any(const Conv2dDims& d, const TIn* dy, const float* filters, TOut* dx, const TOut* addend) {
  const int64_t out_h = d.out_h(), out_w = d.out_w(), channels = d.in_channels;
  Epilogue epilogue;
  epilogue.residual = addend;
  parallel_for(d.batch * d.in_h, 1, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row)
      for (int64_t w = 0; w < d.in_w; ++w)
        for_lanes(channels, [&](int64_t c, auto lanes) {
          vfloat sum{};
          for (int64_t p = 0; p < d.kernel_h; ++p) {
            const int64_t down = row % d.in_h + d.pad_top - p * d.dilation_h, i = down / d.stride_h;
            if (down < 0 || down % d.stride_h != 0 || i >= out_h) continue;
            for (int64_t q = 0; q < d.kernel_w; ++q) {
              const int64_t right = w + d.pad_left - q * d.dilation_w, j = right / d.stride_w;
              if (right < 0 || right % d.stride_w != 0 || j >= out_w) continue;
              sum += load_n(dy + ((row / d.in_h * out_h + i) * out_w + j) * channels + c, lanes) *
                     load_n(filters + (p * d.kernel_w + q) * channels + c, lanes);
            }
          }
          write_epilogue(epilogue, sum, dx, (row * d.in_w + w) * channels + c, c, lanes);
        });
  });
}

template <class TIn, class TOut>
void backward_data(Stream& stream, const Conv2dDims& d, const TIn* dy, const TIn* w, TOut* dx, const TOut* addend) {
  if (d.stride_h == 1 && d.stride_w == 1) {
    // A convolution of dy with the rotated filters. Padding may turn out negative, which the kernels do not mind.
    Conv2dDims turned = d;
    turned.in_h = d.out_h();
    turned.in_w = d.out_w();
    turned.pad_top = d.dilation_h * (d.kernel_h - 1) - d.pad_top;
    turned.pad_bottom = d.dilation_h * (d.kernel_h - 1) - d.pad_bottom;
    turned.pad_left = d.dilation_w * (d.kernel_w - 1) - d.pad_left;
    turned.pad_right = d.dilation_w * (d.kernel_w - 1) - d.pad_right;
    Epilogue epilogue;
    epilogue.residual = addend;
    forward(stream, turned, dy, w, Taps::flipped, dx, epilogue);
    return;
  }
  const int64_t taps = d.kernel_h * d.kernel_w;
  const Scratch scratch = stream.scratch(static_cast<size_t>((taps + 1) * d.in_channels) * 4);
  float* const filters = scratch.f32();
  float* const zeros = filters + taps * d.in_channels;
  transpose_filters(w, d.in_channels, taps, Taps::as_given, filters);
  __builtin_memset(zeros, 0, static_cast<size_t>(d.in_channels) * 4);
  const bool own_code = visit_kernel(d, [&]<int K, int S>() {
    if constexpr (S == 2) backward_data_stride2<K>(d, dy, filters, reinterpret_cast<const TIn*>(zeros), dx, addend);
  });
  if (!own_code) backward_data_any(d, dy, filters, dx, addend);
}

// ---- backward weight ----------------------------------------------------------------------------------------------------

// sums[p][q][c] += over the outputs of one row. The sums of tap row p stay in registers along the row.
template <int K, int S, class T>
void backward_weight_row(const Conv2dDims& d, const T* x_image, const T* dy_row, int64_t i, float* sums) {
  const int64_t out_w = d.out_w(), channels = d.in_channels, row_size = d.in_w * channels, top = i * S - d.pad_top;
  const TapRange rows = taps_inside(top, K, d.in_h);
  // Outputs whose taps all lie inside.
  const int64_t inner_begin = min(out_w, (max(0, d.pad_left) + S - 1) / S), last_left = d.in_w + d.pad_left - K;
  const int64_t inner_end = max(inner_begin, last_left < 0 ? 0 : min(out_w, last_left / S + 1));
  for (int64_t p = rows.first; p < rows.last; ++p) {
    const T* x_row = x_image + (top + p) * row_size - d.pad_left * channels;
    float* sums_row = sums + p * K * channels;
    for_lanes(channels, [&](int64_t c, auto lanes) {
      vfloat sum[K];
#pragma GCC unroll 8
      for (int q = 0; q < K; ++q) sum[q] = load_n(sums_row + q * channels + c, lanes);
      const auto outer = [&](int64_t begin, int64_t end) {
        for (int64_t j = begin; j < end; ++j) {
          const vfloat g = load_n(dy_row + j * channels + c, lanes);
          const int64_t left = j * S - d.pad_left;
#pragma GCC unroll 8
          for (int q = 0; q < K; ++q)
            if (left + q >= 0 && left + q < d.in_w) sum[q] += g * load_n(x_row + (j * S + q) * channels + c, lanes);
        }
      };
      outer(0, inner_begin);
      int64_t j = inner_begin;
      for (; j + kTile <= inner_end; j += kTile) {
        constexpr int kColumns = (kTile - 1) * S + K;
        const T* from = x_row + j * S * channels + c;
        vfloat in[kColumns], g[kTile];
#pragma GCC unroll 32
        for (int k = 0; k < kColumns; ++k) in[k] = load_n(from + k * channels, lanes);
#pragma GCC unroll 8
        for (int t = 0; t < kTile; ++t) g[t] = load_n(dy_row + (j + t) * channels + c, lanes);
#pragma GCC unroll 8
        for (int t = 0; t < kTile; ++t)
#pragma GCC unroll 8
          for (int q = 0; q < K; ++q) sum[q] += g[t] * in[t * S + q];
      }
      outer(j, out_w);
#pragma GCC unroll 8
      for (int q = 0; q < K; ++q) store_n(sums_row + q * channels + c, sum[q], lanes);
    });
  }
}

// The same for any kernel, stride and dilation.
template <class T>
void backward_weight_row_any(const Conv2dDims& d, const T* x_image, const T* dy_row, int64_t i, float* sums) {
  const int64_t channels = d.in_channels;
  for (int64_t p = 0; p < d.kernel_h; ++p) {
    const int64_t h = i * d.stride_h + p * d.dilation_h - d.pad_top;
    if (h < 0 || h >= d.in_h) continue;
    for (int64_t q = 0; q < d.kernel_w; ++q)
      for (int64_t j = 0; j < d.out_w(); ++j) {
        const int64_t w = j * d.stride_w + q * d.dilation_w - d.pad_left;
        if (w < 0 || w >= d.in_w) continue;
        float* to = sums + (p * d.kernel_w + q) * channels;
        for_lanes(channels, [&](int64_t c, auto lanes) {
          store_n(to + c, load_n(to + c, lanes) + load_n(dy_row + j * channels + c, lanes) *
                                                      load_n(x_image + (h * d.in_w + w) * channels + c, lanes), lanes);
        });
      }
  }
}

template <class T>
void backward_weight(Stream& stream, const Conv2dDims& d, const T* x, const T* dy, Dest dweight) {
  const int64_t taps = d.kernel_h * d.kernel_w, channels = d.in_channels, size = taps * channels;
  const int64_t out_h = d.out_h(), rows = d.batch * out_h, grain = max(1, (rows + kMaxPartials - 1) / kMaxPartials);
  const int64_t chunks = (rows + grain - 1) / grain;
  const Scratch scratch = stream.scratch(static_cast<size_t>(chunks * size) * 4);
  float* const partials = scratch.f32();  // [chunks][taps][channels]
  parallel_for(rows, grain, [&](int64_t begin, int64_t end) {
    float* sums = partials + begin / grain * size;
    __builtin_memset(sums, 0, static_cast<size_t>(size) * 4);
    for (int64_t row = begin; row < end; ++row) {
      const T* x_image = x + row / out_h * d.in_h * d.in_w * channels;
      const T* dy_row = dy + row * d.out_w() * channels;
      if (!visit_kernel(d, [&]<int K, int S>() { backward_weight_row<K, S>(d, x_image, dy_row, row % out_h, sums); }))
        backward_weight_row_any(d, x_image, dy_row, row % out_h, sums);
    }
  });
  auto* out = static_cast<float*>(dweight.out);
  const auto* addend = static_cast<const float*>(dweight.addend);
  for (int64_t t = 0; t < taps; ++t)
    for (int64_t c = 0; c < channels; ++c) {
      float sum = addend ? addend[c * taps + t] : 0.0f;
      for (int64_t chunk = 0; chunk < chunks; ++chunk) sum += partials[chunk * size + t * channels + c];
      out[c * taps + t] = sum;
    }
}

}  // namespace

void depthwise_forward(Stream& stream, const Conv2dDims& dims, DType dtype, const void* x, const void* w, void* y, DType y_dtype,
                       const Epilogue& epilogue) {
  visit_float(dtype, [&]<class TIn>() {
    const auto run = [&]<class TOut>() {
      forward(stream, dims, static_cast<const TIn*>(x), static_cast<const TIn*>(w), Taps::as_given, static_cast<TOut*>(y), epilogue);
    };
    if constexpr (sizeof(TIn) == 4) run.template operator()<float>();
    else visit_float(y_dtype, run);
  });
}

void depthwise_backward_data(Stream& stream, const Conv2dDims& dims, DType dtype, const void* dy, const void* w, Dest dx,
                             DType dx_dtype) {
  visit_float(dtype, [&]<class TIn>() {
    const auto run = [&]<class TOut>() {
      backward_data(stream, dims, static_cast<const TIn*>(dy), static_cast<const TIn*>(w), static_cast<TOut*>(dx.out),
                    static_cast<const TOut*>(dx.addend));
    };
    if constexpr (sizeof(TIn) == 4) run.template operator()<float>();
    else visit_float(dx_dtype, run);
  });
}

void depthwise_backward_weight(Stream& stream, const Conv2dDims& dims, DType dtype, const void* x, const void* dy, Dest dweight) {
  visit_float(dtype, [&]<class T>() {
    backward_weight(stream, dims, static_cast<const T*>(x), static_cast<const T*>(dy), dweight);
  });
}

}  // namespace vtl::kernels::VTL_CPU
