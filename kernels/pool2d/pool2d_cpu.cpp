#include "vtl/kernels/pool2d/pool2d.h"

#include "vtl/core/parallel.h"
#include "vtl/kernels/cpu/bytes.h"

namespace vtl::kernels::VTL_CPU {
namespace {

// Elements that one chunk of the parallel loop reads or writes, about.
constexpr int64_t kGrain = 1 << 15;
VTL_INLINE int64_t rows_at_once(int64_t row_elements) { return kGrain / (row_elements + 1) + 1; }
// Vectors of channels that are summed side by side: whole cache lines of every position are used at once.
constexpr int64_t kWide = 4;

// Positions begin .. end - 1 of one dimension.
struct Range {
  int64_t begin, end;
};

// One dimension of a pooling window: the input positions of output `o`, the outputs whose window holds input `i`, and
// how many positions count in the divisor.
struct Windows {
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
  VTL_INLINE int64_t counted(int64_t o, PoolDivisor divisor) const {
    const Range in = window(o);
    if (divisor == PoolDivisor::without_padding) return in.end - in.begin;
    const int64_t first = o * stride - pad_begin, last = first + kernel, limit = extent + pad_end;
    return (last < limit ? last : limit) - first;
  }
};
VTL_INLINE Windows vertical(const Pool2dDims& d) {
  return {d.height, d.out_height, d.kernel_height, d.stride_height, d.pad_top, d.pad_bottom};
}
VTL_INLINE Windows horizontal(const Pool2dDims& d) {
  return {d.width, d.out_width, d.kernel_width, d.stride_width, d.pad_left, d.pad_right};
}

// The same for adaptive windows.
struct AdaptiveWindows {
  int64_t extent, out;

  VTL_INLINE Range window(int64_t o) const { return {o * extent / out, ((o + 1) * extent + out - 1) / out}; }
  VTL_INLINE Range outputs(int64_t i) const { return {i * out / extent, ((i + 1) * out + extent - 1) / extent}; }
  VTL_INLINE int64_t counted(int64_t o, PoolDivisor) const {
    const Range in = window(o);
    return in.end - in.begin;
  }
};
VTL_INLINE AdaptiveWindows vertical(const AdaptivePool2dDims& d) { return {d.height, d.out_height}; }
VTL_INLINE AdaptiveWindows horizontal(const AdaptivePool2dDims& d) { return {d.width, d.out_width}; }

// The same as tables, because all of it divides.
struct Axis {
  int64_t extent, out;
  Range* windows;  // [out]
  Range* outputs;  // [extent]
  float* inverse;  // [out]: 1 / counted
};
template <class Source>
VTL_INLINE size_t axis_bytes(const Source& source) {
  return static_cast<size_t>(source.extent + source.out) * sizeof(Range) +
         static_cast<size_t>(source.out) * sizeof(float);
}
template <class Source>
VTL_INLINE Axis make_axis(const Source& source, PoolDivisor divisor, void* memory) {
  auto* ranges = static_cast<Range*>(memory);
  const Axis axis{source.extent, source.out, ranges, ranges + source.out,
                  reinterpret_cast<float*>(ranges + source.out + source.extent)};
  for (int64_t o = 0; o < axis.out; ++o) {
    axis.windows[o] = source.window(o);
    axis.inverse[o] = 1.0f / static_cast<float>(source.counted(o, divisor));
  }
  for (int64_t i = 0; i < axis.extent; ++i) axis.outputs[i] = source.outputs(i);
  return axis;
}

// Calls body(rows, cols) with the tables of both dimensions.
template <class Dims, class F>
VTL_INLINE void with_axes(Stream& stream, const Dims& d, PoolDivisor divisor, F&& body) {
  const auto rows = vertical(d);
  const auto cols = horizontal(d);
  const Scratch row_scratch = stream.scratch(axis_bytes(rows)), col_scratch = stream.scratch(axis_bytes(cols));
  body(make_axis(rows, divisor, row_scratch.data()), make_axis(cols, divisor, col_scratch.data()));
}

// f(c, lanes, vectors) over the channels: `vectors` (a constant) vectors of `lanes` channels from c on.
template <int64_t count>
struct Vectors {
  static constexpr int64_t value = count;
};
template <class F>
VTL_INLINE void for_wide_lanes(int64_t channels, F&& f) {
  int64_t c0 = 0;
  for (; c0 + kWide * kLanes <= channels; c0 += kWide * kLanes) f(c0, AllLanes{}, Vectors<kWide>{});
  for_lanes(channels - c0, [&](int64_t c, auto lanes) { f(c0 + c, lanes, Vectors<1>{}); });
}

template <class T, bool keep_argmax>
void max_forward(const T* x, T* y, uint8_t* argmax, const Pool2dDims& d, const Axis& rows, const Axis& cols) {
  parallel_for(d.batch * d.out_height, rows_at_once(d.kernel_height * d.width * d.channels),
               [&](int64_t begin, int64_t end) {
                 for (int64_t row = begin; row < end; ++row) {
                   const int64_t b = row / d.out_height, oh = row % d.out_height;
                   const Range h = rows.windows[oh];
                   for (int64_t ow = 0; ow < d.out_width; ++ow) {
                     const Range w = cols.windows[ow];
                     // The position of pixel (0, 0) of the image within the window.
                     const int64_t origin =
                         (d.pad_top - oh * d.stride_height) * d.kernel_width + d.pad_left - ow * d.stride_width;
                     const int64_t to = (row * d.out_width + ow) * d.channels;
                     for_wide_lanes(d.channels, [&](int64_t c, auto lanes, auto vectors) {
                       vfloat best[vectors.value];
                       vint winner[vectors.value];
                       for (int64_t k = 0; k < vectors.value; ++k) {
                         best[k] = broadcast(-__builtin_inff());
                         winner[k] = vint{} + static_cast<int32_t>(origin + h.begin * d.kernel_width + w.begin);
                       }
                       for (int64_t ih = h.begin; ih < h.end; ++ih) {
                         const T* from = x + ((b * d.height + ih) * d.width + w.begin) * d.channels + c;
                         for (int64_t iw = w.begin; iw < w.end; ++iw, from += d.channels) {
                           const vint position = vint{} + static_cast<int32_t>(origin + ih * d.kernel_width + iw);
                           for (int64_t k = 0; k < vectors.value; ++k) {
                             const vfloat value = load_n(from + k * kLanes, lanes);
                             const vint take = (value > best[k]) | (value != value);  // the last NaN wins
                             best[k] = take ? value : best[k];
                             if (keep_argmax) winner[k] = take ? position : winner[k];
                           }
                         }
                       }
                       for (int64_t k = 0; k < vectors.value; ++k) {
                         store_n(y + to + c + k * kLanes, best[k], lanes);
                         if (keep_argmax) store_bytes(argmax + to + c + k * kLanes, winner[k], lanes);
                       }
                     });
                   }
                 }
               });
}

// Gathers, for each element of x, from the outputs whose window holds it: at(b, ih, iw, oh, ow) prepares one of them
// and returns value(offset in the output, lanes), what that gives.
template <class T, class F>
VTL_INLINE void gather(int64_t batch, int64_t channels, const Axis& rows, const Axis& cols, Dest dx, F&& at) {
  auto* out = static_cast<T*>(dx.out);
  const auto* addend = static_cast<const T*>(dx.addend);
  parallel_for(batch * rows.extent, rows_at_once(cols.extent * channels), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const int64_t b = row / rows.extent, ih = row % rows.extent;
      const Range oh = rows.outputs[ih];
      for (int64_t iw = 0; iw < cols.extent; ++iw) {
        const Range ow = cols.outputs[iw];
        const int64_t to = (row * cols.extent + iw) * channels;
        for_wide_lanes(channels, [&](int64_t c, auto lanes, auto vectors) {
          vfloat sum[vectors.value] = {};
          for (int64_t i = oh.begin; i < oh.end; ++i)
            for (int64_t j = ow.begin; j < ow.end; ++j) {
              const auto value = at(ih, iw, i, j);
              const int64_t from = ((b * rows.out + i) * cols.out + j) * channels + c;
              for (int64_t k = 0; k < vectors.value; ++k) sum[k] += value(from + k * kLanes, lanes);
            }
          for (int64_t k = 0; k < vectors.value; ++k) {
            if (addend) sum[k] += load_n(addend + to + c + k * kLanes, lanes);
            store_n(out + to + c + k * kLanes, sum[k], lanes);
          }
        });
      }
    }
  });
}

template <class T>
void max_backward(const T* dy, const uint8_t* argmax, Dest dx, const Pool2dDims& d, const Axis& rows,
                  const Axis& cols) {
  gather<T>(d.batch, d.channels, rows, cols, dx, [&](int64_t ih, int64_t iw, int64_t oh, int64_t ow) {
    const int64_t kh = ih + d.pad_top - oh * d.stride_height, kw = iw + d.pad_left - ow * d.stride_width;
    const vint position = vint{} + static_cast<int32_t>(kh * d.kernel_width + kw);
    return [=](int64_t from, auto lanes) {
      return load_bytes(argmax + from, lanes) == position ? load_n(dy + from, lanes) : vfloat{};
    };
  });
}

template <class T>
void average_forward(const T* x, T* y, int64_t batch, int64_t channels, const Axis& rows, const Axis& cols) {
  const int64_t longest = rows.out ? rows.extent / rows.out + 1 : 1;
  parallel_for(batch * rows.out, rows_at_once(longest * cols.extent * channels), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const int64_t b = row / rows.out, oh = row % rows.out;
      const Range h = rows.windows[oh];
      for (int64_t ow = 0; ow < cols.out; ++ow) {
        const Range w = cols.windows[ow];
        const float inverse = rows.inverse[oh] * cols.inverse[ow];
        const int64_t to = (row * cols.out + ow) * channels;
        for_wide_lanes(channels, [&](int64_t c, auto lanes, auto vectors) {
          vfloat sum[vectors.value] = {};
          for (int64_t ih = h.begin; ih < h.end; ++ih) {
            const T* from = x + ((b * rows.extent + ih) * cols.extent + w.begin) * channels + c;
            for (int64_t iw = w.begin; iw < w.end; ++iw, from += channels)
              for (int64_t k = 0; k < vectors.value; ++k) sum[k] += load_n(from + k * kLanes, lanes);
          }
          for (int64_t k = 0; k < vectors.value; ++k) store_n(y + to + c + k * kLanes, sum[k] * inverse, lanes);
        });
      }
    }
  });
}

template <class T>
void average_backward(const T* dy, Dest dx, int64_t batch, int64_t channels, const Axis& rows, const Axis& cols) {
  gather<T>(batch, channels, rows, cols, dx, [&](int64_t, int64_t, int64_t oh, int64_t ow) {
    const float inverse = rows.inverse[oh] * cols.inverse[ow];
    return [=](int64_t from, auto lanes) { return load_n(dy + from, lanes) * inverse; };
  });
}

template <class Dims>
VTL_INLINE void average_forward(Stream& stream, DType dtype, const void* x, void* y, PoolDivisor divisor,
                                const Dims& d) {
  with_axes(stream, d, divisor, [&](const Axis& rows, const Axis& cols) {
    visit_float(dtype, [&]<class T>() {
      average_forward(static_cast<const T*>(x), static_cast<T*>(y), d.batch, d.channels, rows, cols);
    });
  });
}

template <class Dims>
VTL_INLINE void average_backward(Stream& stream, DType dtype, const void* dy, Dest dx, PoolDivisor divisor,
                                 const Dims& d) {
  if (!dx.wanted()) return;
  with_axes(stream, d, divisor, [&](const Axis& rows, const Axis& cols) {
    visit_float(dtype,
                [&]<class T>() { average_backward(static_cast<const T*>(dy), dx, d.batch, d.channels, rows, cols); });
  });
}

}  // namespace

void max_pool2d_forward(Stream& stream, DType dtype, const void* x, void* y, uint8_t* argmax, const Pool2dDims& dims) {
  with_axes(stream, dims, PoolDivisor::without_padding, [&](const Axis& rows, const Axis& cols) {
    visit_float(dtype, [&]<class T>() {
      if (argmax)
        max_forward<T, true>(static_cast<const T*>(x), static_cast<T*>(y), argmax, dims, rows, cols);
      else
        max_forward<T, false>(static_cast<const T*>(x), static_cast<T*>(y), nullptr, dims, rows, cols);
    });
  });
}

void max_pool2d_backward(Stream& stream, DType dtype, const void* dy, const uint8_t* argmax, Dest dx,
                         const Pool2dDims& dims) {
  if (!dx.wanted()) return;
  with_axes(stream, dims, PoolDivisor::without_padding, [&](const Axis& rows, const Axis& cols) {
    visit_float(dtype, [&]<class T>() { max_backward(static_cast<const T*>(dy), argmax, dx, dims, rows, cols); });
  });
}

void average_pool2d_forward(Stream& stream, DType dtype, const void* x, void* y, PoolDivisor divisor,
                            const Pool2dDims& dims) {
  average_forward(stream, dtype, x, y, divisor, dims);
}

void average_pool2d_backward(Stream& stream, DType dtype, const void* dy, Dest dx, PoolDivisor divisor,
                             const Pool2dDims& dims) {
  average_backward(stream, dtype, dy, dx, divisor, dims);
}

void adaptive_average_pool2d_forward(Stream& stream, DType dtype, const void* x, void* y, AdaptivePool2dDims dims) {
  average_forward(stream, dtype, x, y, PoolDivisor::without_padding, dims);
}

void adaptive_average_pool2d_backward(Stream& stream, DType dtype, const void* dy, Dest dx, AdaptivePool2dDims dims) {
  average_backward(stream, dtype, dy, dx, PoolDivisor::without_padding, dims);
}

}  // namespace vtl::kernels::VTL_CPU
