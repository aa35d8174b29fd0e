#include "vtl/kernels/pool2d/pool2d.h"

#include "vtl/core/parallel.h"
#include "vtl/kernels/cpu/vec.h"

namespace vtl::kernels::VTL_CPU {
namespace {

// Elements that one chunk of the parallel loop writes, about.
constexpr int64_t kGrain = 1 << 15;
VTL_INLINE int64_t rows_at_once(int64_t row_elements) {
  return row_elements >= kGrain ? 1 : kGrain / (row_elements + 1) + 1;
}

// Positions begin .. end - 1 of one dimension.
struct Range {
  int64_t begin, end;
};

// One dimension of a pooling window: the input positions of output `o`, and the outputs whose window holds input `i`.
struct Axis {
  int64_t extent, out, kernel, stride, pad_begin, pad_end;

  VTL_INLINE Range window(int64_t o) const {
    const int64_t first = o * stride - pad_begin, last = first + kernel;
    return {first > 0 ? first : 0, last < extent ? last : extent};
  }
  VTL_INLINE Range outputs(int64_t i) const {
    const int64_t at = i + pad_begin;
    const int64_t first = at < kernel ? 0 : (at - kernel) / stride + 1, last = at / stride + 1;
    return {first, last < out ? last : out};
  }
  // How many positions count in the divisor.
  VTL_INLINE int64_t counted(int64_t o, PoolDivisor divisor) const {
    const Range in = window(o);
    if (divisor == PoolDivisor::without_padding) return in.end - in.begin;
    const int64_t last = o * stride - pad_begin + kernel, limit = extent + pad_end;
    return (last < limit ? last : limit) - (o * stride - pad_begin);
  }
};
VTL_INLINE Axis vertical(const Pool2dDims& d) {
  return {d.height, d.out_height, d.kernel_height, d.stride_height, d.pad_top, d.pad_bottom};
}
VTL_INLINE Axis horizontal(const Pool2dDims& d) {
  return {d.width, d.out_width, d.kernel_width, d.stride_width, d.pad_left, d.pad_right};
}

// The same for adaptive windows.
struct AdaptiveAxis {
  int64_t extent, out;

  VTL_INLINE Range window(int64_t o) const { return {o * extent / out, ((o + 1) * extent + out - 1) / out}; }
  VTL_INLINE Range outputs(int64_t i) const { return {i * out / extent, ((i + 1) * out + extent - 1) / extent}; }
  VTL_INLINE int64_t counted(int64_t o, PoolDivisor) const {
    const Range in = window(o);
    return in.end - in.begin;
  }
};

// Kernel positions of as many lanes as a vector of floats.
typedef uint8_t vbytes __attribute__((vector_size(kLanes)));

VTL_INLINE void store_positions(uint8_t* to, vint positions, AllLanes) {
  const vbytes bytes = __builtin_convertvector(positions, vbytes);
  __builtin_memcpy(to, &bytes, sizeof bytes);
}
VTL_INLINE void store_positions(uint8_t* to, vint positions, int64_t count) {
  for (int64_t lane = 0; lane < count; ++lane) to[lane] = static_cast<uint8_t>(positions[lane]);
}
VTL_INLINE vint load_positions(const uint8_t* from, AllLanes) {
  vbytes bytes;
  __builtin_memcpy(&bytes, from, sizeof bytes);
  return __builtin_convertvector(bytes, vint);
}
VTL_INLINE vint load_positions(const uint8_t* from, int64_t count) {
  vint positions{};
  for (int64_t lane = 0; lane < count; ++lane) positions[lane] = from[lane];
  return positions;
}

template <class T, bool keep_argmax>
void max_forward(const T* x, T* y, uint8_t* argmax, const Pool2dDims& d) {
  const Axis rows = vertical(d), cols = horizontal(d);
  parallel_for(d.batch * d.out_height, rows_at_once(d.out_width * d.channels), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const int64_t b = row / d.out_height, oh = row % d.out_height;
      const Range h = rows.window(oh);
      for (int64_t ow = 0; ow < d.out_width; ++ow) {
        const Range w = cols.window(ow);
        // Position of (0, 0) of the image within the window.
        const int64_t origin = (d.pad_top - oh * d.stride_height) * d.kernel_width + d.pad_left - ow * d.stride_width;
        const int64_t to = (row * d.out_width + ow) * d.channels;
        for_lanes(d.channels, [&](int64_t c, auto lanes) {
          vfloat best = broadcast(-__builtin_inff());
          vint winner = vint{} + static_cast<int32_t>(origin + h.begin * d.kernel_width + w.begin);
          for (int64_t ih = h.begin; ih < h.end; ++ih) {
            const T* from = x + ((b * d.height + ih) * d.width + w.begin) * d.channels + c;
            for (int64_t iw = w.begin; iw < w.end; ++iw, from += d.channels) {
              const vfloat value = load_n(from, lanes);
              const vint wins = !(value <= best);  // a NaN, too
              const vint stays = best != best;     // the first NaN remains
              const vint take = wins & ~stays;
              best = take ? value : best;
              if (keep_argmax)
                winner = take ? vint{} + static_cast<int32_t>(origin + ih * d.kernel_width + iw) : winner;
            }
          }
          store_n(y + to + c, best, lanes);
          if (keep_argmax) store_positions(argmax + to + c, winner, lanes);
        });
      }
    }
  });
}

// Gathers, for each element of x, from the outputs whose window holds it: term(b, oh, ow, c, lanes) is what each gives.
template <class T, class AxisKind, class F>
VTL_INLINE void gather(int64_t batch, int64_t channels, AxisKind rows, AxisKind cols, Dest dx, F&& term) {
  auto* out = static_cast<T*>(dx.out);
  const auto* addend = static_cast<const T*>(dx.addend);
  parallel_for(batch * rows.extent, rows_at_once(cols.extent * channels), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const int64_t b = row / rows.extent, ih = row % rows.extent;
      const Range oh = rows.outputs(ih);
      for (int64_t iw = 0; iw < cols.extent; ++iw) {
        const Range ow = cols.outputs(iw);
        const int64_t to = (row * cols.extent + iw) * channels;
        for_lanes(channels, [&](int64_t c, auto lanes) {
          vfloat sum{};
          for (int64_t i = oh.begin; i < oh.end; ++i)
            for (int64_t j = ow.begin; j < ow.end; ++j) sum += term(b, ih, iw, i, j, c, lanes);
          if (addend) sum += load_n(addend + to + c, lanes);
          store_n(out + to + c, sum, lanes);
        });
      }
    }
  });
}

template <class T>
void max_backward(const T* dy, const uint8_t* argmax, Dest dx, const Pool2dDims& d) {
  gather<T>(d.batch, d.channels, vertical(d), horizontal(d), dx,
            [&](int64_t b, int64_t ih, int64_t iw, int64_t oh, int64_t ow, int64_t c, auto lanes) {
              const int64_t from = ((b * d.out_height + oh) * d.out_width + ow) * d.channels + c;
              const int64_t kh = ih + d.pad_top - oh * d.stride_height, kw = iw + d.pad_left - ow * d.stride_width;
              const vint position = vint{} + static_cast<int32_t>(kh * d.kernel_width + kw);
              return load_positions(argmax + from, lanes) == position ? load_n(dy + from, lanes) : vfloat{};
            });
}

template <class T, class AxisKind>
VTL_INLINE void average_forward(const T* x, T* y, int64_t batch, int64_t channels, AxisKind rows, AxisKind cols,
                                PoolDivisor divisor) {
  parallel_for(batch * rows.out, rows_at_once(cols.out * channels), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const int64_t b = row / rows.out, oh = row % rows.out;
      const Range h = rows.window(oh);
      for (int64_t ow = 0; ow < cols.out; ++ow) {
        const Range w = cols.window(ow);
        const float inverse = 1.0f / static_cast<float>(rows.counted(oh, divisor) * cols.counted(ow, divisor));
        const int64_t to = (row * cols.out + ow) * channels;
        for_lanes(channels, [&](int64_t c, auto lanes) {
          vfloat sum{};
          for (int64_t ih = h.begin; ih < h.end; ++ih) {
            const T* from = x + ((b * rows.extent + ih) * cols.extent + w.begin) * channels + c;
            for (int64_t iw = w.begin; iw < w.end; ++iw, from += channels) sum += load_n(from, lanes);
          }
          store_n(y + to + c, sum * inverse, lanes);
        });
      }
    }
  });
}

template <class T, class AxisKind>
VTL_INLINE void average_backward(const T* dy, Dest dx, int64_t batch, int64_t channels, AxisKind rows, AxisKind cols,
                                 PoolDivisor divisor) {
  gather<T>(batch, channels, rows, cols, dx,
            [&](int64_t b, int64_t, int64_t, int64_t oh, int64_t ow, int64_t c, auto lanes) {
              const int64_t from = ((b * rows.out + oh) * cols.out + ow) * channels + c;
              const float inverse = 1.0f / static_cast<float>(rows.counted(oh, divisor) * cols.counted(ow, divisor));
              return load_n(dy + from, lanes) * inverse;
            });
}

VTL_INLINE AdaptiveAxis vertical(const AdaptivePool2dDims& d) { return {d.height, d.out_height}; }
VTL_INLINE AdaptiveAxis horizontal(const AdaptivePool2dDims& d) { return {d.width, d.out_width}; }

}  // namespace

void max_pool2d_forward(Stream&, DType dtype, const void* x, void* y, uint8_t* argmax, const Pool2dDims& dims) {
  visit_float(dtype, [&]<class T>() {
    if (argmax)
      max_forward<T, true>(static_cast<const T*>(x), static_cast<T*>(y), argmax, dims);
    else
      max_forward<T, false>(static_cast<const T*>(x), static_cast<T*>(y), nullptr, dims);
  });
}

void max_pool2d_backward(Stream&, DType dtype, const void* dy, const uint8_t* argmax, Dest dx, const Pool2dDims& dims) {
  if (!dx.wanted()) return;
  visit_float(dtype, [&]<class T>() { max_backward(static_cast<const T*>(dy), argmax, dx, dims); });
}

void average_pool2d_forward(Stream&, DType dtype, const void* x, void* y, PoolDivisor divisor, const Pool2dDims& dims) {
  visit_float(dtype, [&]<class T>() {
    average_forward(static_cast<const T*>(x), static_cast<T*>(y), dims.batch, dims.channels, vertical(dims),
                    horizontal(dims), divisor);
  });
}

void average_pool2d_backward(Stream&, DType dtype, const void* dy, Dest dx, PoolDivisor divisor,
                             const Pool2dDims& dims) {
  if (!dx.wanted()) return;
  visit_float(dtype, [&]<class T>() {
    average_backward(static_cast<const T*>(dy), dx, dims.batch, dims.channels, vertical(dims), horizontal(dims),
                     divisor);
  });
}

void adaptive_average_pool2d_forward(Stream&, DType dtype, const void* x, void* y, AdaptivePool2dDims dims) {
  visit_float(dtype, [&]<class T>() {
    average_forward(static_cast<const T*>(x), static_cast<T*>(y), dims.batch, dims.channels, vertical(dims),
                    horizontal(dims), PoolDivisor::without_padding);
  });
}

void adaptive_average_pool2d_backward(Stream&, DType dtype, const void* dy, Dest dx, AdaptivePool2dDims dims) {
  if (!dx.wanted()) return;
  visit_float(dtype, [&]<class T>() {
    average_backward(static_cast<const T*>(dy), dx, dims.batch, dims.channels, vertical(dims), horizontal(dims),
                     PoolDivisor::without_padding);
  });
}

}  // namespace vtl::kernels::VTL_CPU
