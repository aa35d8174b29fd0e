// Vectors run over channels, which lie side by side in NHWC; a tile of neighbouring outputs of one row shares its
// loads. Work is cut into pieces of so few channels that the rows a tile reads stay in L1 from row to row. i, j: output
// row and column; h, w: input row and column; p, q: tap; c: channel.
#include "vtl/kernels/conv2d/depthwise.h"

#include "vtl/core/parallel.h"
#include "vtl/kernels/cpu/activate.h"

namespace vtl::kernels::VTL_CPU {
namespace {

constexpr int kTile = 7;  // outputs of one row that are computed together: widths of 224 / 2^n are multiples of 7
constexpr int64_t kBandRows = 16;     // rows of one piece
constexpr int64_t kPieceBytes = 256;  // channels of one piece
constexpr int64_t kMaxPartials = 16;  // partial sums of weight gradients

constexpr int64_t min(int64_t a, int64_t b) { return a < b ? a : b; }
constexpr int64_t max(int64_t a, int64_t b) { return a > b ? a : b; }

enum class Taps { as_given, flipped };

// The filters as f32 [kernel_h * kernel_w][channels], the taps in their order or turned by half a turn.
template <class T>
void transpose_filters(const T* w, int64_t channels, int64_t taps, Taps order, float* to) {
  for (int64_t c = 0; c < channels; ++c)
    for (int64_t t = 0; t < taps; ++t)
      to[(order == Taps::flipped ? taps - 1 - t : t) * channels + c] = to_float(w[c * taps + t]);
}

struct Range {
  int64_t first, last;
};

// The taps that meet the input when the first one lies at `start`.
Range taps_inside(int64_t start, int64_t kernel, int64_t extent) {
  return {max(0, -start), min(kernel, extent - start)};
}

// What one chunk computes: channels of a band of rows of one image.
struct Piece {
  int64_t image;
  Range rows, channels;
};

// Calls f(piece) for all pieces of the channels [0, channels), on all threads. row_work: operations for one row and
// channel.
template <class T, class F>
VTL_INLINE void for_each_piece(int64_t batch, int64_t rows, int64_t row_work, int64_t channels, F&& f) {
  constexpr int64_t kChannels = kPieceBytes / static_cast<int64_t>(sizeof(T));
  const int64_t bands = (rows + kBandRows - 1) / kBandRows, pieces = (channels + kChannels - 1) / kChannels;
  const int64_t work = min(rows, kBandRows) * row_work * kChannels;
  parallel_for(batch * bands * pieces, max(1, 65536 / (work + 1)), [&](int64_t begin, int64_t end) {
    for (int64_t chunk = begin; chunk < end; ++chunk) {
      const int64_t band = chunk / pieces % bands * kBandRows, first = chunk % pieces * kChannels;
      f(Piece{chunk / pieces / bands, {band, min(rows, band + kBandRows)}, {first, min(channels, first + kChannels)}});
    }
  });
}

// Calls f.template operator()<K, S>() for the square kernels and strides that have code of their own; false for others.
template <class F>
VTL_INLINE bool visit_kernel(const Conv2dDims& d, F&& f) {
  if (d.kernel_h != d.kernel_w || d.stride_h != d.stride_w || d.dilation_h != 1 || d.dilation_w != 1) return false;
  const int64_t kernel = d.kernel_h, stride = d.stride_h;
  if (kernel == 3 && stride == 1) return f.template operator()<3, 1>(), true;
  if (kernel == 3 && stride == 2) return f.template operator()<3, 2>(), true;
  if (kernel == 5 && stride == 1) return f.template operator()<5, 1>(), true;
  if (kernel == 5 && stride == 2) return f.template operator()<5, 2>(), true;
  return false;
}

// Channels that fill vectors. Those after them take the general path, which loads parts of vectors.
int64_t full_channels(const Conv2dDims& d) { return d.in_channels / kLanes * kLanes; }

// ---- forward ----

enum class Writes { sum, epilogue };

// Outputs j .. j + count - 1 of one row. column[p * kColumns + k] points at input column j * S - pad_left + k of tap
// row p, or at zeros. What the next output row reads and this one does not is fetched ahead, because the pieces are too
// short for the processor to guess it.
template <int K, int S, Writes writes, class TIn, class TOut>
VTL_INLINE void forward_tile(const TIn* const* column, Range taps, int64_t row_size, const float* filters,
                             int64_t channels, Range piece, TOut* y, int64_t offset, int64_t count,
                             const Epilogue& epilogue) {
  constexpr int kColumns = (kTile - 1) * S + K;
  for (int64_t c = piece.first; c < piece.last; c += kLanes) {
    for (int r = 1; r <= S; ++r)
#pragma GCC unroll 16
      for (int k = kColumns - kTile * S; k < kColumns; ++k)
        __builtin_prefetch(column[(K - 1) * kColumns + k] + r * row_size + c);
    vfloat sums[kTile] = {};
    for (int64_t p = taps.first; p < taps.last; ++p) {
      const float* filter = filters + p * K * channels + c;
      vfloat x[kColumns];
#pragma GCC unroll 32
      for (int k = 0; k < kColumns; ++k) x[k] = load(column[p * kColumns + k] + c);
#pragma GCC unroll 8
      for (int q = 0; q < K; ++q) {
        const vfloat weight = load(filter + q * channels);
#pragma GCC unroll 8
        for (int t = 0; t < kTile; ++t) sums[t] += x[t * S + q] * weight;
      }
    }
#pragma GCC unroll 8
    for (int t = 0; t < kTile; ++t) {
      if (t >= count) continue;
      if constexpr (writes == Writes::sum)
        store(y + offset + t * channels + c, sums[t]);
      else
        write_epilogue(epilogue, sums[t], y, offset + t * channels + c, c, AllLanes{});
    }
  }
}

template <int K, int S, Writes writes, class TIn, class TOut>
void forward_tiles(const Conv2dDims& d, const TIn* x, const float* filters, const TIn* zeros, TOut* y,
                   const Epilogue& epilogue) {
  constexpr int kColumns = (kTile - 1) * S + K;
  const int64_t out_h = d.out_h(), out_w = d.out_w(), channels = d.in_channels, row_size = d.in_w * channels;
  for_each_piece<TIn>(d.batch, out_h, out_w * K * K, full_channels(d), [&](const Piece& piece) {
    for (int64_t i = piece.rows.first; i < piece.rows.last; ++i) {
      const int64_t top = i * S - d.pad_top;
      const Range taps = taps_inside(top, K, d.in_h);
      for (int64_t j = 0; j < out_w; j += kTile) {
        const TIn* column[K * kColumns];
        for (int k = 0; k < kColumns; ++k) {
          const int64_t w = j * S - d.pad_left + k;
          const bool inside = w >= 0 && w < d.in_w;
          for (int p = 0; p < K; ++p)
            column[p * kColumns + k] = inside ? x + (piece.image * d.in_h + top + p) * row_size + w * channels : zeros;
        }
        forward_tile<K, S, writes>(column, taps, row_size, filters, channels, piece.channels, y,
                                   ((piece.image * out_h + i) * out_w + j) * channels, min(kTile, out_w - j), epilogue);
      }
    }
  });
}

// Any kernel, stride and dilation, for the channels from `first` on.
template <class TIn, class TOut>
void forward_any(const Conv2dDims& d, int64_t first, const TIn* x, const float* filters, TOut* y,
                 const Epilogue& epilogue) {
  const int64_t out_h = d.out_h(), out_w = d.out_w(), channels = d.in_channels;
  parallel_for(d.batch * out_h, 1, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row)
      for (int64_t j = 0; j < out_w; ++j)
        for_lanes(channels - first, [&](int64_t n, auto lanes) {
          const int64_t c = first + n;
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

// The filters of one call, and as many zeros as there are channels.
class Filters {
 public:
  template <class T>
  Filters(Stream& stream, const Conv2dDims& d, const T* w, Taps order)
      : taps_(d.kernel_h * d.kernel_w),
        channels_(d.in_channels),
        scratch_(stream.scratch(static_cast<size_t>((taps_ + 1) * channels_) * 4)) {
    transpose_filters(w, channels_, taps_, order, scratch_.f32());
    __builtin_memset(scratch_.f32() + taps_ * channels_, 0, static_cast<size_t>(channels_) * 4);
  }

  const float* data() const { return scratch_.f32(); }
  template <class T>
  const T* zeros() const {
    return reinterpret_cast<const T*>(scratch_.f32() + taps_ * channels_);
  }

 private:
  int64_t taps_, channels_;
  Scratch scratch_;
};

template <class TIn, class TOut>
void forward(Stream& stream, const Conv2dDims& d, const TIn* x, const TIn* w, Taps order, TOut* y,
             const Epilogue& epilogue) {
  const Filters filters(stream, d, w, order);
  const bool plain = !epilogue.scale && !epilogue.bias && !epilogue.residual && !epilogue.preactivation &&
                     epilogue.activation == Activation::none;
  const bool tiled = visit_kernel(d, [&]<int K, int S>() {
    if (plain)
      forward_tiles<K, S, Writes::sum>(d, x, filters.data(), filters.zeros<TIn>(), y, epilogue);
    else
      forward_tiles<K, S, Writes::epilogue>(d, x, filters.data(), filters.zeros<TIn>(), y, epilogue);
  });
  const int64_t done = tiled ? full_channels(d) : 0;
  if (done < d.in_channels) forward_any(d, done, x, filters.data(), y, epilogue);
}

// ---- backward data ----

// Stride 2. With h + pad_top = 2 u + a (a = 0, 1) only taps p = 2 m + a meet row h, with dy row u - m; columns
// likewise. One tile is 2 kTile columns of dx from an even w + pad_left on.
template <int K, class TIn, class TOut>
void backward_data_stride2(const Conv2dDims& d, const TIn* dy, const float* filters, const TIn* zeros, TOut* dx,
                           const TOut* addend) {
  constexpr int kReach = (K - 1) / 2, kColumns = kTile + kReach;  // dy columns v - kReach .. v + kTile - 1
  const int64_t out_h = d.out_h(), out_w = d.out_w(), channels = d.in_channels;
  for_each_piece<TIn>(d.batch, d.in_h, d.in_w * K * K / 4, full_channels(d), [&](const Piece& piece) {
    const TIn* dy_image = dy + piece.image * out_h * out_w * channels;
    for (int64_t row = piece.rows.first; row < piece.rows.last; ++row) {
      const int64_t h = row + d.pad_top, parity = h % 2;
      // Tap rows p = 2 m + parity with dy row h / 2 - m inside.
      const Range taps{max(0, h / 2 - out_h + 1), min((K - parity + 1) / 2, h / 2 + 1)};
      for (int64_t w0 = -(d.pad_left % 2); w0 < d.in_w; w0 += 2 * kTile) {
        const int64_t v = (w0 + d.pad_left) / 2;
        const TIn* column[((K + 1) / 2) * kColumns];
        for (int64_t m = taps.first; m < taps.last; ++m)
          for (int k = 0; k < kColumns; ++k) {
            const int64_t j = v - kReach + k;
            column[m * kColumns + k] = j >= 0 && j < out_w ? dy_image + ((h / 2 - m) * out_w + j) * channels : zeros;
          }
        for (int64_t c = piece.channels.first; c < piece.channels.last; c += kLanes) {
          vfloat sums[2 * kTile] = {};
          for (int64_t m = taps.first; m < taps.last; ++m) {
            const float* filter = filters + (2 * m + parity) * K * channels + c;
            vfloat g[kColumns];
#pragma GCC unroll 16
            for (int k = 0; k < kColumns; ++k) g[k] = load(column[m * kColumns + k] + c);
#pragma GCC unroll 8
            for (int q = 0; q < K; ++q) {
              const vfloat weight = load(filter + q * channels);
#pragma GCC unroll 8
              for (int t = 0; t < kTile; ++t) sums[2 * t + q % 2] += g[kReach + t - q / 2] * weight;
            }
          }
          const int64_t offset = ((piece.image * d.in_h + row) * d.in_w + w0) * channels + c;
#pragma GCC unroll 16
          for (int t = 0; t < 2 * kTile; ++t) {
            if (w0 + t < 0 || w0 + t >= d.in_w) continue;
            const int64_t at = offset + t * channels;
            store(dx + at, addend ? sums[t] + load(addend + at) : sums[t]);
          }
        }
      }
    }
  });
}

// Any kernel, stride and dilation, for the channels from `first` on.
template <class TIn, class TOut>
void backward_data_any(const Conv2dDims& d, int64_t first, const TIn* dy, const float* filters, TOut* dx,
                       const TOut* addend) {
  const int64_t out_h = d.out_h(), out_w = d.out_w(), channels = d.in_channels;
  parallel_for(d.batch * d.in_h, 1, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row)
      for (int64_t w = 0; w < d.in_w; ++w)
        for_lanes(channels - first, [&](int64_t n, auto lanes) {
          const int64_t c = first + n, at = (row * d.in_w + w) * channels + c;
          vfloat sum = addend ? load_n(addend + at, lanes) : vfloat{};
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
          store_n(dx + at, sum, lanes);
        });
  });
}

template <class TIn, class TOut>
void backward_data(Stream& stream, const Conv2dDims& d, const TIn* dy, const TIn* w, TOut* dx, const TOut* addend) {
  if (d.stride_h == 1 && d.stride_w == 1) {
    // A convolution of dy with the filters turned by half a turn. Padding may come out negative, which forward does not
    // mind.
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
  const Filters filters(stream, d, w, Taps::as_given);
  const bool tiled = d.stride_h == 2 && visit_kernel(d, [&]<int K, int S>() {
                       if constexpr (S == 2)
                         backward_data_stride2<K>(d, dy, filters.data(), filters.zeros<TIn>(), dx, addend);
                     });
  const int64_t done = tiled ? full_channels(d) : 0;
  if (done < d.in_channels) backward_data_any(d, done, dy, filters.data(), dx, addend);
}

// ---- backward weight ----

// sums[p][q][c] += over the outputs of row i of one image. The sums of tap row p stay in registers along the row.
template <int K, int S, class T>
void backward_weight_row(const Conv2dDims& d, const T* x_image, const T* dy_row, int64_t i, Range piece, float* sums) {
  const int64_t out_w = d.out_w(), channels = d.in_channels, row_size = d.in_w * channels, top = i * S - d.pad_top;
  const Range taps = taps_inside(top, K, d.in_h);
  // Outputs whose taps all lie inside.
  const int64_t inner_begin = min(out_w, (max(0, d.pad_left) + S - 1) / S), last_left = d.in_w + d.pad_left - K;
  const int64_t inner_end = max(inner_begin, last_left < 0 ? 0 : min(out_w, last_left / S + 1));
  for (int64_t p = taps.first; p < taps.last; ++p) {
    const T* x_row = x_image + (top + p) * row_size - d.pad_left * channels;
    float* sums_row = sums + p * K * channels;
    for (int64_t c = piece.first; c < piece.last; c += kLanes) {
      vfloat sum[K];
#pragma GCC unroll 8
      for (int q = 0; q < K; ++q) sum[q] = load(sums_row + q * channels + c);
      const auto outer = [&](int64_t begin, int64_t end) {
        for (int64_t j = begin; j < end; ++j) {
          const vfloat g = load(dy_row + j * channels + c);
          const int64_t left = j * S - d.pad_left;
#pragma GCC unroll 8
          for (int q = 0; q < K; ++q)
            if (left + q >= 0 && left + q < d.in_w) sum[q] += g * load(x_row + (j * S + q) * channels + c);
        }
      };
      outer(0, inner_begin);
      int64_t j = inner_begin;
      constexpr int kOutputs = 4, kColumns = (kOutputs - 1) * S + K;
      for (; j + kOutputs <= inner_end; j += kOutputs) {
        const T* from = x_row + j * S * channels + c;
        vfloat x[kColumns];
#pragma GCC unroll 32
        for (int k = 0; k < kColumns; ++k) x[k] = load(from + k * channels);
#pragma GCC unroll 8
        for (int t = 0; t < kOutputs; ++t) {
          const vfloat g = load(dy_row + (j + t) * channels + c);
#pragma GCC unroll 8
          for (int q = 0; q < K; ++q) sum[q] += g * x[t * S + q];
        }
      }
      outer(j, out_w);
#pragma GCC unroll 8
      for (int q = 0; q < K; ++q) store(sums_row + q * channels + c, sum[q]);
    }
  }
}

// The same for any kernel, stride and dilation.
template <class T>
void backward_weight_row_any(const Conv2dDims& d, const T* x_image, const T* dy_row, int64_t i, Range piece,
                             float* sums) {
  const int64_t channels = d.in_channels;
  for (int64_t p = 0; p < d.kernel_h; ++p) {
    const int64_t h = i * d.stride_h + p * d.dilation_h - d.pad_top;
    if (h < 0 || h >= d.in_h) continue;
    for (int64_t q = 0; q < d.kernel_w; ++q)
      for (int64_t j = 0; j < d.out_w(); ++j) {
        const int64_t w = j * d.stride_w + q * d.dilation_w - d.pad_left;
        if (w < 0 || w >= d.in_w) continue;
        float* to = sums + (p * d.kernel_w + q) * channels + piece.first;
        const T *g = dy_row + j * channels + piece.first, *x = x_image + (h * d.in_w + w) * channels + piece.first;
        for_lanes(piece.last - piece.first, [&](int64_t c, auto lanes) {
          store_n(to + c, load_n(to + c, lanes) + load_n(g + c, lanes) * load_n(x + c, lanes), lanes);
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
  __builtin_memset(partials, 0, static_cast<size_t>(chunks * size) * 4);

  constexpr int64_t kChannels = kPieceBytes / static_cast<int64_t>(sizeof(T));
  const int64_t pieces = (channels + kChannels - 1) / kChannels;
  parallel_chunks(chunks * pieces, [&](int64_t chunk) {
    const int64_t first = chunk % pieces * kChannels, last = min(channels, first + kChannels);
    const int64_t begin = chunk / pieces * grain, end = min(rows, begin + grain);
    float* sums = partials + chunk / pieces * size;
    for (int64_t row = begin; row < end; ++row) {
      const T* x_image = x + row / out_h * d.in_h * d.in_w * channels;
      const T* dy_row = dy + row * d.out_w() * channels;
      const int64_t full = first + (last - first) / kLanes * kLanes;
      const bool tiled = visit_kernel(d, [&]<int K, int S>() {
        backward_weight_row<K, S>(d, x_image, dy_row, row % out_h, {first, full}, sums);
      });
      const int64_t done = tiled ? full : first;
      if (done < last) backward_weight_row_any(d, x_image, dy_row, row % out_h, {done, last}, sums);
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

void depthwise_forward(Stream& stream, const Conv2dDims& dims, DType dtype, const void* x, const void* w, void* y,
                       DType y_dtype, const Epilogue& epilogue) {
  visit_float(dtype, [&]<class TIn>() {
    const auto run = [&]<class TOut>() {
      forward(stream, dims, static_cast<const TIn*>(x), static_cast<const TIn*>(w), Taps::as_given,
              static_cast<TOut*>(y), epilogue);
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

}  // namespace vtl::kernels::VTL_CPU
