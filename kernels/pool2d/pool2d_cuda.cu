#include "vtl/kernels/device/pixels.h"
#include "vtl/kernels/device/reduce_rows.h"
#include "vtl/kernels/pool2d/pool2d.h"

namespace vtl::kernels::VTL_GPU {
namespace {

// Positions begin .. end - 1 of one dimension.
struct Range {
  int begin, end;
};

// One dimension of a pooling window: the input positions of output `o`, the outputs whose window holds input `i`, and
// how many positions count in the divisor. kernel = 0: adaptive windows.
struct Windows {
  int extent, out, kernel = 0, stride = 0, pad_begin = 0, pad_end = 0;

  VTL_DEVICE Range window(int o) const {
    if (kernel == 0) return adaptive(o, extent, out);
    const int first = o * stride - pad_begin;
    return {max(first, 0), min(first + kernel, extent)};
  }
  VTL_DEVICE Range outputs(int i) const {
    if (kernel == 0) return adaptive(i, out, extent);
    const int at = i + pad_begin;
    return {at < kernel ? 0 : (at - kernel) / stride + 1, min(at / stride + 1, out)};
  }
  // 1 / counted positions
  VTL_DEVICE float inverse(int o, PoolDivisor divisor) const {
    const Range in = window(o);
    int counted = in.end - in.begin;
    if (kernel != 0 && divisor == PoolDivisor::with_padding) {
      const int first = o * stride - pad_begin;
      counted = min(first + kernel, extent + pad_end) - first;
    }
    return 1.0f / static_cast<float>(counted);
  }

 private:
  // The share i of `count` ones in an extent, rounded outwards. A single share, the usual one, needs no division.
  VTL_DEVICE static Range adaptive(int i, int extent, int count) {
    if (count == 1) return {0, extent};
    if (extent == 1) return {0, 1};
    const auto wide = static_cast<int64_t>(extent);
    return {static_cast<int>(i * wide / count), static_cast<int>(((i + 1) * wide + count - 1) / count)};
  }
};

Windows windows(int64_t extent, int64_t out, int64_t kernel, int64_t stride, int64_t pad_begin, int64_t pad_end) {
  return {static_cast<int>(extent), static_cast<int>(out),       static_cast<int>(kernel),
          static_cast<int>(stride), static_cast<int>(pad_begin), static_cast<int>(pad_end)};
}

// Both dimensions, and the tensors on both sides.
struct Pooling {
  PixelDims in, out;
  Windows rows, cols;
};
Pooling pooling(const Pool2dDims& d) {
  return {{d.batch, d.height, d.width, d.channels},
          {d.batch, d.out_height, d.out_width, d.channels},
          windows(d.height, d.out_height, d.kernel_height, d.stride_height, d.pad_top, d.pad_bottom),
          windows(d.width, d.out_width, d.kernel_width, d.stride_width, d.pad_left, d.pad_right)};
}
Pooling pooling(const AdaptivePool2dDims& d) {
  return {{d.batch, d.height, d.width, d.channels},
          {d.batch, d.out_height, d.out_width, d.channels},
          windows(d.height, d.out_height, 0, 0, 0, 0),
          windows(d.width, d.out_width, 0, 0, 0, 0)};
}

// Position within the window of output (oh, ow) of pixel (ih, iw).
VTL_DEVICE int position_of(const Pooling& p, int ih, int iw, int oh, int ow) {
  return (ih + p.rows.pad_begin - oh * p.rows.stride) * p.cols.kernel + iw + p.cols.pad_begin - ow * p.cols.stride;
}

template <class T>
struct MaxForward {
  static constexpr int kWidth = kVecLanes<T>;
  const T* x;
  T* y;
  uint8_t* argmax;
  Pooling pool;

  bool aligned() const { return aligned_to<kWidth>(x) && aligned_to<kWidth>(y) && aligned_to<kWidth>(argmax); }
  template <int N>
  VTL_DEVICE void at(const Pixel& p) const {
    const Range rows = pool.rows.window(p.h), cols = pool.cols.window(p.w);
    Floats<N> best;
    Vec<uint8_t, N> winner;
    const auto first = static_cast<uint8_t>(position_of(pool, rows.begin, cols.begin, p.h, p.w));
    VTL_UNROLL
    for (int k = 0; k < N; ++k) {
      best[k] = -INFINITY;
      winner[k] = first;
    }
    for (int h = rows.begin; h < rows.end; ++h) {
      VTL_UNROLL_BY(3)
      for (int w = cols.begin; w < cols.end; ++w) {
        const auto position = static_cast<uint8_t>(position_of(pool, h, w, p.h, p.w));
        const Floats<N> value = load_floats<N>(x + pool.in.offset(p.image, h, w, p.c));
        VTL_UNROLL
        for (int k = 0; k < N; ++k) {
          const bool take = value[k] > best[k] || value[k] != value[k];  // the last NaN wins
          best[k] = take ? value[k] : best[k];
          winner[k] = take ? position : winner[k];
        }
      }
    }
    const int64_t to = pool.out.offset(p.image, p.h, p.w, p.c);
    store_floats(y + to, best);
    if (argmax) store_vec<N>(argmax + to, winner);
  }
};

// dx of a pixel gathers from the outputs whose window holds it.
template <class T>
struct MaxBackward {
  static constexpr int kWidth = kVecLanes<T>;
  const T* dy;
  const uint8_t* argmax;
  const T* addend;
  T* dx;
  Pooling pool;

  bool aligned() const {
    return aligned_to<kWidth>(dy) && aligned_to<kWidth>(argmax) && aligned_to<kWidth>(addend) && aligned_to<kWidth>(dx);
  }
  template <int N>
  VTL_DEVICE void at(const Pixel& p) const {
    const Range rows = pool.rows.outputs(p.h), cols = pool.cols.outputs(p.w);
    const int64_t to = pool.in.offset(p.image, p.h, p.w, p.c);
    Floats<N> sum = load_floats_or_zero<N>(addend, to);
    for (int h = rows.begin; h < rows.end; ++h) {
      VTL_UNROLL_BY(2)
      for (int w = cols.begin; w < cols.end; ++w) {
        const int64_t from = pool.out.offset(p.image, h, w, p.c);
        const auto position = static_cast<uint8_t>(position_of(pool, p.h, p.w, h, w));
        const Vec<uint8_t, N> winner = load_vec<N>(argmax + from);
        const Floats<N> value = load_floats<N>(dy + from);
        VTL_UNROLL
        for (int k = 0; k < N; ++k) sum[k] += winner[k] == position ? value[k] : 0.0f;
      }
    }
    store_floats(dx + to, sum);
  }
};

template <class T>
struct AverageForward {
  static constexpr int kWidth = kVecLanes<T>;
  const T* x;
  T* y;
  PoolDivisor divisor;
  Pooling pool;

  bool aligned() const { return aligned_to<kWidth>(x) && aligned_to<kWidth>(y); }
  template <int N>
  VTL_DEVICE void at(const Pixel& p) const {
    const Range rows = pool.rows.window(p.h), cols = pool.cols.window(p.w);
    Floats<N> sum{};
    for (int h = rows.begin; h < rows.end; ++h) {
      VTL_UNROLL_BY(2)
      for (int w = cols.begin; w < cols.end; ++w) {
        const Floats<N> value = load_floats<N>(x + pool.in.offset(p.image, h, w, p.c));
        VTL_UNROLL
        for (int k = 0; k < N; ++k) sum[k] += value[k];
      }
    }
    const float inverse = pool.rows.inverse(p.h, divisor) * pool.cols.inverse(p.w, divisor);
    VTL_UNROLL
    for (int k = 0; k < N; ++k) sum[k] *= inverse;
    store_floats(y + pool.out.offset(p.image, p.h, p.w, p.c), sum);
  }
};

template <class T>
struct AverageBackward {
  static constexpr int kWidth = kVecLanes<T>;
  const T *dy, *addend;
  T* dx;
  PoolDivisor divisor;
  Pooling pool;

  bool aligned() const { return aligned_to<kWidth>(dy) && aligned_to<kWidth>(addend) && aligned_to<kWidth>(dx); }
  template <int N>
  VTL_DEVICE void at(const Pixel& p) const {
    const Range rows = pool.rows.outputs(p.h), cols = pool.cols.outputs(p.w);
    const int64_t to = pool.in.offset(p.image, p.h, p.w, p.c);
    Floats<N> sum = load_floats_or_zero<N>(addend, to);
    for (int h = rows.begin; h < rows.end; ++h) {
      const float row_inverse = pool.rows.inverse(h, divisor);
      VTL_UNROLL_BY(2)
      for (int w = cols.begin; w < cols.end; ++w) {
        const float inverse = row_inverse * pool.cols.inverse(w, divisor);
        const Floats<N> value = load_floats<N>(dy + pool.out.offset(p.image, h, w, p.c));
        VTL_UNROLL
        for (int k = 0; k < N; ++k) sum[k] += value[k] * inverse;
      }
    }
    store_floats(dx + to, sum);
  }
};

void average_forward(Stream& stream, DType dtype, const void* x, void* y, PoolDivisor divisor, const Pooling& pool) {
  visit_float(dtype, [&]<class T>() {
    const AverageForward<T> body{static_cast<const T*>(x), static_cast<T*>(y), divisor, pool};
    if (pool.rows.kernel != 0 || pool.out.height != 1 || pool.out.width != 1)
      return for_each_pixel(stream, "pool2d average_forward", body, pool.out);
    // The global average: a window is a whole image, too much for one thread.
    const int64_t positions = pool.in.height * pool.in.width;
    const RowReduction<T, T> job{body.x, body.y, positions * pool.in.channels, 1.0f / static_cast<float>(positions)};
    reduce_rows<Sum>(stream, "pool2d global_average", job, {pool.in.images, positions, pool.in.channels});
  });
}

void average_backward(Stream& stream, DType dtype, const void* dy, Dest dx, PoolDivisor divisor, const Pooling& pool) {
  if (!dx.wanted()) return;
  visit_float(dtype, [&]<class T>() {
    const AverageBackward<T> body{static_cast<const T*>(dy), static_cast<const T*>(dx.addend), static_cast<T*>(dx.out),
                                  divisor, pool};
    for_each_pixel(stream, "pool2d average_backward", body, pool.in);
  });
}

}  // namespace

void max_pool2d_forward(Stream& stream, DType dtype, const void* x, void* y, uint8_t* argmax, const Pool2dDims& dims) {
  const Pooling pool = pooling(dims);
  visit_float(dtype, [&]<class T>() {
    const MaxForward<T> body{static_cast<const T*>(x), static_cast<T*>(y), argmax, pool};
    for_each_pixel(stream, "pool2d max_forward", body, pool.out);
  });
}

void max_pool2d_backward(Stream& stream, DType dtype, const void* dy, const uint8_t* argmax, Dest dx,
                         const Pool2dDims& dims) {
  if (!dx.wanted()) return;
  const Pooling pool = pooling(dims);
  visit_float(dtype, [&]<class T>() {
    const MaxBackward<T> body{static_cast<const T*>(dy), argmax, static_cast<const T*>(dx.addend),
                              static_cast<T*>(dx.out), pool};
    for_each_pixel(stream, "pool2d max_backward", body, pool.in);
  });
}

void average_pool2d_forward(Stream& stream, DType dtype, const void* x, void* y, PoolDivisor divisor,
                            const Pool2dDims& dims) {
  average_forward(stream, dtype, x, y, divisor, pooling(dims));
}

void average_pool2d_backward(Stream& stream, DType dtype, const void* dy, Dest dx, PoolDivisor divisor,
                             const Pool2dDims& dims) {
  average_backward(stream, dtype, dy, dx, divisor, pooling(dims));
}

void adaptive_average_pool2d_forward(Stream& stream, DType dtype, const void* x, void* y, AdaptivePool2dDims dims) {
  average_forward(stream, dtype, x, y, PoolDivisor::without_padding, pooling(dims));
}

void adaptive_average_pool2d_backward(Stream& stream, DType dtype, const void* dy, Dest dx, AdaptivePool2dDims dims) {
  average_backward(stream, dtype, dy, dx, PoolDivisor::without_padding, pooling(dims));
}

}  // namespace vtl::kernels::VTL_GPU
