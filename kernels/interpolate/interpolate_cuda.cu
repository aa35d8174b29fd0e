#include "vtl/kernels/device/pixels.h"
#include "vtl/kernels/interpolate/interpolate.h"

namespace vtl::kernels::VTL_GPU {
namespace {

// One dimension of a separable filter: result[o] = sum over k < count[o] of weight[o * taps + k] * source[start[o] +
// k]. start and start + count never decrease.
struct Filter {
  int in, out, taps;
  double step, support;  // input pixels: for one output pixel; that the filter reaches to each side
  int *start, *count;    // [out]
  float* weight;         // [out, taps]
  int *first, *last;     // [in], for the adjoint: the outputs in which input i has a share are first ... last - 1
};

// Keys' cubic convolution kernel; the triangle for bilinear.
VTL_DEVICE double filter_at(Interpolation filter, double a, double x) {
  x = fabs(x);
  if (filter == Interpolation::bilinear) return x < 1 ? 1 - x : 0;
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  return x < 2 ? ((a * x - 5 * a) * x + 8 * a) * x - 4 * a : 0;
}

VTL_DEVICE int clamp_to(int i, int extent) { return max(0, min(i, extent - 1)); }

// The weights of output o, whose centre is (o + 1/2) * step in the input, pixel i having its centre at i + 1/2.
// Normalised within the image.
VTL_DEVICE void fill_widened(const Filter& f, Interpolation filter, int o) {
  const double centre = (o + 0.5) * f.step, stretch = f.step > 1 ? 1 / f.step : 1, a = -0.5;
  const int start = min(max(static_cast<int>(centre - f.support + 0.5), 0), f.in - 1);
  const int count = max(min(min(static_cast<int>(centre + f.support + 0.5), f.in) - start, f.taps), 1);
  store(f.start + o, start);
  store(f.count + o, count);
  double total = 0;
  for (int k = 0; k < count; ++k) total += filter_at(filter, a, (start + k + 0.5 - centre) * stretch);
  for (int k = 0; k < count; ++k) {
    const double w = filter_at(filter, a, (start + k + 0.5 - centre) * stretch);
    store(f.weight + static_cast<int64_t>(o) * f.taps + k, static_cast<float>(total != 0 ? w / total : w));
  }
}
// Taps outside repeat the edge: their weights go to it.
VTL_DEVICE void fill_repeated(const Filter& f, Interpolation filter, int o) {
  const double centre = (o + 0.5) * f.step, a = -0.75;
  const int radius = filter == Interpolation::bilinear ? 1 : 2;
  const int below = static_cast<int>(floor(centre - 0.5)), first = below - radius + 1, last = below + radius;
  const int start = clamp_to(first, f.in), count = clamp_to(last, f.in) - start + 1;
  store(f.start + o, start);
  store(f.count + o, count);
  for (int k = 0; k < count; ++k) {
    float weight = 0;
    for (int i = first; i <= last; ++i)
      if (clamp_to(i, f.in) == start + k) weight += static_cast<float>(filter_at(filter, a, i + 0.5 - centre));
    store(f.weight + static_cast<int64_t>(o) * f.taps + k, weight);
  }
}

constexpr int kFillThreads = 64;

// Grid: (the longer dimension, 2).
__global__ void __launch_bounds__(kFillThreads)
    fill_filters(Filter rows, Filter cols, Interpolation filter, Antialias antialias) {
  const Filter f = blockIdx.y == 0 ? rows : cols;
  const int o = static_cast<int>(blockIdx.x) * kFillThreads + static_cast<int>(threadIdx.x);
  if (o >= f.out) return;
  if (antialias == Antialias::on)
    fill_widened(f, filter, o);
  else
    fill_repeated(f, filter, o);
}

// How many outputs have all their taps before `i` + taken.
VTL_DEVICE int outputs_before(const Filter& f, int i, bool by_end) {
  int low = 0, high = f.out;
  while (low < high) {
    const int middle = (low + high) / 2, start = load(f.start + middle);
    const bool before = by_end ? start + load(f.count + middle) <= i : start <= i;
    low = before ? middle + 1 : low;
    high = before ? high : middle;
  }
  return low;
}

// Grid: (the longer dimension, 2).
__global__ void __launch_bounds__(kFillThreads) fill_adjoints(Filter rows, Filter cols) {
  const Filter f = blockIdx.y == 0 ? rows : cols;
  const int i = static_cast<int>(blockIdx.x) * kFillThreads + static_cast<int>(threadIdx.x);
  if (i >= f.in) return;
  store(f.first + i, outputs_before(f, i, true));
  store(f.last + i, outputs_before(f, i, false));
}

template <class T>
struct Forward {
  static constexpr int kWidth = kVecLanes<T>;
  const T* x;
  T* y;
  PixelDims in, out;
  Filter rows, cols;

  bool aligned() const { return aligned_to<kWidth>(x) && aligned_to<kWidth>(y); }
  template <int N>
  VTL_DEVICE void at(const Pixel& p) const {
    const int top = load(rows.start + p.h), height = load(rows.count + p.h);
    const int left = load(cols.start + p.w), width = load(cols.count + p.w);
    Floats<N> sum{};
    for (int i = 0; i < height; ++i) {
      const float row_weight = load(rows.weight + static_cast<int64_t>(p.h) * rows.taps + i);
      VTL_UNROLL_BY(4)
      for (int j = 0; j < width; ++j) {
        const float weight = row_weight * load(cols.weight + static_cast<int64_t>(p.w) * cols.taps + j);
        const Floats<N> value = load_floats<N>(x + in.offset(p.image, top + i, left + j, p.c));
        VTL_UNROLL
        for (int k = 0; k < N; ++k) sum[k] += weight * value[k];
      }
    }
    store_floats(y + out.offset(p.image, p.h, p.w, p.c), sum);
  }
};

template <class T>
struct Backward {
  static constexpr int kWidth = kVecLanes<T>;
  const T *dy, *addend;
  T* dx;
  PixelDims in, out;
  Filter rows, cols;

  bool aligned() const { return aligned_to<kWidth>(dy) && aligned_to<kWidth>(addend) && aligned_to<kWidth>(dx); }
  // What output o takes of input i.
  VTL_DEVICE static float share(const Filter& f, int o, int i) {
    return load(f.weight + static_cast<int64_t>(o) * f.taps + i - load(f.start + o));
  }
  template <int N>
  VTL_DEVICE void at(const Pixel& p) const {
    const int top = load(rows.first + p.h), bottom = load(rows.last + p.h);
    const int left = load(cols.first + p.w), right = load(cols.last + p.w);
    const int64_t to = in.offset(p.image, p.h, p.w, p.c);
    Floats<N> sum = load_floats_or_zero<N>(addend, to);
    for (int h = top; h < bottom; ++h) {
      const float row_weight = share(rows, h, p.h);
      VTL_UNROLL_BY(4)
      for (int w = left; w < right; ++w) {
        const float weight = row_weight * share(cols, w, p.w);
        const Floats<N> value = load_floats<N>(dy + out.offset(p.image, h, w, p.c));
        VTL_UNROLL
        for (int k = 0; k < N; ++k) sum[k] += weight * value[k];
      }
    }
    store_floats(dx + to, sum);
  }
};

Filter describe(int64_t in, int64_t out, double step, Interpolation filter, Antialias antialias) {
  Filter f{};
  f.in = static_cast<int>(in);
  f.out = static_cast<int>(out);
  f.step = step > 0 ? step : static_cast<double>(in) / static_cast<double>(out);
  f.support = (filter == Interpolation::bilinear ? 1 : 2) * (antialias == Antialias::on && f.step > 1 ? f.step : 1);
  f.taps = min(2 * static_cast<int>(ceil(f.support)) + 1, f.in);
  return f;
}
size_t bytes_of(const Filter& f) {
  return (static_cast<size_t>(f.out) * static_cast<size_t>(2 + f.taps) + 2 * static_cast<size_t>(f.in)) * 4;
}
void place(Filter& f, void* memory) {
  f.start = static_cast<int*>(memory);
  f.count = f.start + f.out;
  f.first = f.count + f.out;
  f.last = f.first + f.in;
  f.weight = reinterpret_cast<float*>(f.last + f.in);
}

// body(in, out, rows, cols) with filled filters.
enum class Direction { forward, backward };
template <class F>
void with_filters(Stream& stream, Direction direction, Interpolation filter, Antialias antialias,
                  const InterpolateDims& d, F&& body) {
  Filter rows = describe(d.height, d.out_height, d.step_height, filter, antialias);
  Filter cols = describe(d.width, d.out_width, d.step_width, filter, antialias);
  const Scratch row_scratch = stream.scratch(bytes_of(rows)), col_scratch = stream.scratch(bytes_of(cols));
  place(rows, row_scratch.data());
  place(cols, col_scratch.data());
  launch(stream, {"interpolate fill_filters", dim3(blocks_for(max(rows.out, cols.out), kFillThreads), 2), kFillThreads},
         fill_filters, rows, cols, filter, antialias);
  if (direction == Direction::backward)
    launch(stream,
           {"interpolate fill_adjoints", dim3(blocks_for(max(rows.in, cols.in), kFillThreads), 2), kFillThreads},
           fill_adjoints, rows, cols);
  body(PixelDims{d.outer, d.height, d.width, d.channels}, PixelDims{d.outer, d.out_height, d.out_width, d.channels},
       rows, cols);
}

}  // namespace

void interpolate_forward(Stream& stream, DType dtype, const void* x, void* y, Interpolation filter, Antialias antialias,
                         const InterpolateDims& dims) {
  with_filters(stream, Direction::forward, filter, antialias, dims,
               [&](const PixelDims& in, const PixelDims& out, const Filter& rows, const Filter& cols) {
                 visit_float(dtype, [&]<class T>() {
                   const Forward<T> body{static_cast<const T*>(x), static_cast<T*>(y), in, out, rows, cols};
                   for_each_pixel(stream, "interpolate forward", body, out);
                 });
               });
}

void interpolate_backward(Stream& stream, DType dtype, const void* dy, Dest dx, Interpolation filter,
                          Antialias antialias, const InterpolateDims& dims) {
  if (!dx.wanted()) return;
  with_filters(stream, Direction::backward, filter, antialias, dims,
               [&](const PixelDims& in, const PixelDims& out, const Filter& rows, const Filter& cols) {
                 visit_float(dtype, [&]<class T>() {
                   const Backward<T> body{static_cast<const T*>(dy),
                                          static_cast<const T*>(dx.addend),
                                          static_cast<T*>(dx.out),
                                          in,
                                          out,
                                          rows,
                                          cols};
                   for_each_pixel(stream, "interpolate backward", body, in);
                 });
               });
}

}  // namespace vtl::kernels::VTL_GPU
