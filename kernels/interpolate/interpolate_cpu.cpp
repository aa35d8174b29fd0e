#include "vtl/kernels/interpolate/interpolate.h"

#include "vtl/core/parallel.h"
#include "vtl/kernels/cpu/vec.h"

namespace vtl::kernels::VTL_CPU {
namespace {

constexpr int64_t kGrain = 1 << 15;

VTL_INLINE int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
VTL_INLINE int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

// Keys' cubic convolution kernel; the triangle for bilinear.
VTL_INLINE double filter_at(Interpolation filter, double a, double x) {
  x = __builtin_fabs(x);
  if (filter == Interpolation::bilinear) return x < 1 ? 1 - x : 0;
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  return x < 2 ? ((a * x - 5 * a) * x + 8 * a) * x - 4 * a : 0;
}

// One dimension of a separable filter: result[o] = sum over k < count[o] of weight[o * taps + k] * source[start[o] +
// k].
struct Filter {
  int64_t length, taps;
  int64_t *start, *count;
  float* weight;
};
VTL_INLINE size_t filter_bytes(int64_t length, int64_t taps) {
  return static_cast<size_t>(length) * (2 * sizeof(int64_t) + static_cast<size_t>(taps) * sizeof(float));
}
VTL_INLINE Filter filter_in(void* memory, int64_t length, int64_t taps) {
  auto* integers = static_cast<int64_t*>(memory);
  return {length, taps, integers, integers + length, reinterpret_cast<float*>(integers + 2 * length)};
}

struct AxisDims {
  int64_t in, out;
  double step;  // input pixels for one output pixel
};
VTL_INLINE AxisDims axis_dims(int64_t in, int64_t out, double step) {
  return {in, out, step > 0 ? step : static_cast<double>(in) / static_cast<double>(out)};
}

VTL_INLINE double filter_support(Interpolation filter, Antialias antialias, double step) {
  const double radius = filter == Interpolation::bilinear ? 1 : 2;
  return antialias == Antialias::on && step > 1 ? radius * step : radius;
}
VTL_INLINE int64_t filter_taps(Interpolation filter, Antialias antialias, AxisDims axis) {
  return smaller(2 * static_cast<int64_t>(__builtin_ceil(filter_support(filter, antialias, axis.step))) + 1, axis.in);
}

// The weights of every output position o, whose centre is (o + 1/2) * step in the input, pixel i having its centre at i
// + 1/2.
VTL_INLINE void fill_filter(const Filter& to, Interpolation filter, Antialias antialias, AxisDims axis) {
  const double support = filter_support(filter, antialias, axis.step);
  const double stretch = antialias == Antialias::on && axis.step > 1 ? 1 / axis.step : 1;
  const double a = antialias == Antialias::on ? -0.5 : -0.75;
  for (int64_t o = 0; o < to.length; ++o) {
    const double centre = (static_cast<double>(o) + 0.5) * axis.step;
    float* weight = to.weight + o * to.taps;
    for (int64_t k = 0; k < to.taps; ++k) weight[k] = 0;
    if (antialias == Antialias::on) {
      const int64_t first = larger(static_cast<int64_t>(centre - support + 0.5), 0);
      const int64_t last = smaller(static_cast<int64_t>(centre + support + 0.5), axis.in);
      to.start[o] = smaller(first, axis.in - 1);
      to.count[o] = larger(smaller(last - to.start[o], to.taps), 1);
      double total = 0;
      for (int64_t k = 0; k < to.count[o]; ++k)
        total += filter_at(filter, a, (static_cast<double>(to.start[o] + k) + 0.5 - centre) * stretch);
      for (int64_t k = 0; k < to.count[o]; ++k) {
        const double w = filter_at(filter, a, (static_cast<double>(to.start[o] + k) + 0.5 - centre) * stretch);
        weight[k] = static_cast<float>(total != 0 ? w / total : w);
      }
      continue;
    }
    // Taps outside repeat the edge: their weights go to it.
    const int64_t radius = filter == Interpolation::bilinear ? 1 : 2;
    const int64_t below = static_cast<int64_t>(__builtin_floor(centre - 0.5));
    const int64_t first = below - radius + 1, last = below + radius;
    to.start[o] = smaller(larger(first, 0), axis.in - 1);
    to.count[o] = smaller(larger(last, 0), axis.in - 1) - to.start[o] + 1;
    for (int64_t i = first; i <= last; ++i) {
      const int64_t at = smaller(larger(i, 0), axis.in - 1) - to.start[o];
      weight[at] += static_cast<float>(filter_at(filter, a, static_cast<double>(i) + 0.5 - centre));
    }
  }
}

// The adjoint: the outputs to which each of `length` inputs contributes. They are neighbours, as `start` never
// decreases.
VTL_INLINE int64_t adjoint_taps(const Filter& filter, int64_t length) {
  int64_t most = 1;
  for (int64_t i = 0; i < length; ++i) {
    int64_t count = 0;
    for (int64_t o = 0; o < filter.length; ++o)
      count += filter.start[o] <= i && i < filter.start[o] + filter.count[o] ? 1 : 0;
    most = larger(most, count);
  }
  return most;
}
VTL_INLINE void fill_adjoint(const Filter& to, const Filter& filter) {
  for (int64_t i = 0; i < to.length; ++i) {
    to.start[i] = to.count[i] = 0;
    for (int64_t o = 0; o < filter.length; ++o) {
      const int64_t k = i - filter.start[o];
      if (k < 0 || k >= filter.count[o]) continue;
      if (to.count[i] == 0) to.start[i] = o;
      to.weight[i * to.taps + to.count[i]++] = filter.weight[o * filter.taps + k];
    }
  }
}

// to[r, o, c] = addend[r, o, c] + sum over k of weight * from[r, start[o] + k, c], for `outer` r, `extent` sources,
// `inner` c.
template <class From, class To>
VTL_INLINE void resample(const Filter& filter, const From* from, To* to, const To* addend, int64_t outer,
                         int64_t extent, int64_t inner) {
  parallel_for(outer * filter.length, kGrain / (inner * filter.taps + 1) + 1, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const int64_t o = row % filter.length, r = row / filter.length;
      const float* weight = filter.weight + o * filter.taps;
      const From* source = from + (r * extent + filter.start[o]) * inner;
      for_lanes(inner, [&](int64_t c, auto lanes) {
        vfloat sum = addend ? load_n(addend + row * inner + c, lanes) : vfloat{};
        for (int64_t k = 0; k < filter.count[o]; ++k) sum += load_n(source + k * inner + c, lanes) * weight[k];
        store_n(to + row * inner + c, sum, lanes);
      });
    }
  });
}

}  // namespace

void interpolate_forward(Stream& stream, DType dtype, const void* x, void* y, Interpolation filter, Antialias antialias,
                         const InterpolateDims& d) {
  const AxisDims rows = axis_dims(d.height, d.out_height, d.step_height);
  const AxisDims cols = axis_dims(d.width, d.out_width, d.step_width);
  const int64_t row_taps = filter_taps(filter, antialias, rows), col_taps = filter_taps(filter, antialias, cols);
  const Scratch row_scratch = stream.scratch(filter_bytes(rows.out, row_taps));
  const Scratch col_scratch = stream.scratch(filter_bytes(cols.out, col_taps));
  const Scratch between = stream.scratch(static_cast<size_t>(d.outer * d.height * d.out_width * d.channels) * 4);
  const Filter vertical = filter_in(row_scratch.data(), rows.out, row_taps);
  const Filter horizontal = filter_in(col_scratch.data(), cols.out, col_taps);
  fill_filter(vertical, filter, antialias, rows);
  fill_filter(horizontal, filter, antialias, cols);
  visit_float(dtype, [&]<class T>() {
    resample<T, float>(horizontal, static_cast<const T*>(x), between.f32(), nullptr, d.outer * d.height, d.width,
                       d.channels);
    resample<float, T>(vertical, between.f32(), static_cast<T*>(y), nullptr, d.outer, d.height,
                       d.out_width * d.channels);
  });
}

void interpolate_backward(Stream& stream, DType dtype, const void* dy, Dest dx, Interpolation filter,
                          Antialias antialias, const InterpolateDims& d) {
  if (!dx.wanted()) return;
  const AxisDims rows = axis_dims(d.height, d.out_height, d.step_height);
  const AxisDims cols = axis_dims(d.width, d.out_width, d.step_width);
  const int64_t row_taps = filter_taps(filter, antialias, rows), col_taps = filter_taps(filter, antialias, cols);
  const Scratch row_scratch = stream.scratch(filter_bytes(rows.out, row_taps));
  const Scratch col_scratch = stream.scratch(filter_bytes(cols.out, col_taps));
  const Filter vertical = filter_in(row_scratch.data(), rows.out, row_taps);
  const Filter horizontal = filter_in(col_scratch.data(), cols.out, col_taps);
  fill_filter(vertical, filter, antialias, rows);
  fill_filter(horizontal, filter, antialias, cols);
  const int64_t row_fan = adjoint_taps(vertical, d.height), col_fan = adjoint_taps(horizontal, d.width);
  const Scratch row_adjoint = stream.scratch(filter_bytes(d.height, row_fan));
  const Scratch col_adjoint = stream.scratch(filter_bytes(d.width, col_fan));
  const Scratch between = stream.scratch(static_cast<size_t>(d.outer * d.height * d.out_width * d.channels) * 4);
  const Filter upward = filter_in(row_adjoint.data(), d.height, row_fan);
  const Filter leftward = filter_in(col_adjoint.data(), d.width, col_fan);
  fill_adjoint(upward, vertical);
  fill_adjoint(leftward, horizontal);
  visit_float(dtype, [&]<class T>() {
    resample<T, float>(upward, static_cast<const T*>(dy), between.f32(), nullptr, d.outer, d.out_height,
                       d.out_width * d.channels);
    resample<float, T>(leftward, between.f32(), static_cast<T*>(dx.out), static_cast<const T*>(dx.addend),
                       d.outer * d.height, d.out_width, d.channels);
  });
}

}  // namespace vtl::kernels::VTL_CPU
