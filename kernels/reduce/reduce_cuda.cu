#include "vtl/kernels/device/rows.h"
#include "vtl/kernels/device/warp.h"
#include "vtl/kernels/reduce/reduce.h"

namespace vtl::kernels::VTL_GPU {
namespace {

// dx[o,n,i] = factor * dy[o,i] + (addend ? addend[o,n,i] : 0), seen as rows of `inner` columns; or, where inner is 1,
// of `spread` neighbours that take the same value.
template <class Dy, class T>
struct Broadcast {
  static constexpr int kWidth = min(kVecLanes<Dy>, kVecLanes<T>);
  const Dy* dy;
  const T* addend;
  T* dx;
  float factor;
  int64_t spread;

  bool aligned() const { return aligned_to<kWidth>(dy) && aligned_to<kWidth>(addend) && aligned_to<kWidth>(dx); }
  template <int N>
  VTL_DEVICE Floats<N> kept(int64_t c) const {
    Floats<N> value;
    if (spread == 1) value = load_floats<N>(dy + c);
    VTL_UNROLL
    for (int k = 0; k < N; ++k) value[k] = factor * (spread == 1 ? value[k] : to_float(load(dy + (c + k) / spread)));
    return value;
  }
  template <int N>
  VTL_DEVICE Vec<T, N> read(int64_t i, const Floats<N>&) const {
    return load_vec_or_zero<N>(addend, i);
  }
  template <int N>
  VTL_DEVICE Floats<N> at(int64_t i, const Floats<N>& share, const Vec<T, N>& before) const {
    Floats<N> value = floats_of(before);
    VTL_UNROLL
    for (int k = 0; k < N; ++k) value[k] += share[k];
    store_floats(dx + i, value);
    return value;
  }
};

constexpr int kThreads = 256;

struct Candidate {
  float value;
  int64_t index;

  // Whether this one is the maximum of both: a NaN before any number, the first among equals.
  VTL_DEVICE bool beats(const Candidate& other) const {
    const bool nan = value != value, other_nan = other.value != other.value;
    if (nan != other_nan) return nan;
    if (nan || value == other.value) return index < other.index;
    return value > other.value;
  }
};

// A warp for each row where the values lie beside each other (inner = 1), N for each lane; else a thread, N = 1: then
// those of a warp lie so. Grid: outer * inner results. count is a multiple of N.
template <int N, class T>
__global__ void __launch_bounds__(kThreads) find_argmax(const T* x, int32_t* index, ReduceDims d) {
  const int64_t thread = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  const int64_t lanes = d.inner == 1 ? kWarpLanes : 1, result = thread / lanes, lane = thread % lanes;
  if (result >= d.outer * d.inner) return;  // whole warps, where they work together
  const T* from = x + result / d.inner * d.count * d.inner + result % d.inner;
  Candidate best{-HUGE_VALF, d.count};
  VTL_UNROLL_BY(2)
  for (int64_t n = lane * N; n < d.count; n += lanes * N) {
    const Floats<N> values = load_floats<N>(from + n * d.inner);
    VTL_UNROLL
    for (int k = 0; k < N; ++k) {
      const Candidate next{values[k], n + k};
      if (next.beats(best)) best = next;
    }
  }
  if (lanes > 1) {
    VTL_UNROLL
    for (unsigned bits = kWarpLanes / 2; bits > 0; bits /= 2) {
      const Candidate other{shuffle_xor(best.value, bits), shuffle_xor(best.index, bits)};
      if (other.beats(best)) best = other;
    }
  }
  if (lane == 0) store(index + result, static_cast<int32_t>(best.index));
}

}  // namespace

void reduce_forward(Stream& stream, DType dtype, const void* x, DType out_dtype, void* y, Reduction reduction,
                    ReduceDims dims) {
  const float factor = reduction == Reduction::mean ? 1.0f / static_cast<float>(dims.count) : 1.0f;
  visit_float(dtype, [&]<class T>() {
    visit_float(out_dtype, [&]<class Out>() {
      const RowReduction<T, Out> job{static_cast<const T*>(x), static_cast<Out*>(y), dims.count * dims.inner, factor};
      const RowsDims rows{dims.outer, dims.count, dims.inner};
      if (reduction == Reduction::max)
        reduce_rows<Max>(stream, "reduce_max", job, rows);
      else
        reduce_rows<Sum>(stream, "reduce_sum", job, rows);
    });
  });
}

void reduce_backward(Stream& stream, DType dtype_dy, const void* dy, DType dtype, Dest dx, Reduction reduction,
                     ReduceDims dims) {
  if (!dx.wanted()) return;
  const float factor = reduction == Reduction::mean ? 1.0f / static_cast<float>(dims.count) : 1.0f;
  visit_float(dtype_dy, [&]<class Dy>() {
    visit_float(dtype, [&]<class T>() {
      Broadcast<Dy, T> body{static_cast<const Dy*>(dy), static_cast<const T*>(dx.addend), static_cast<T*>(dx.out),
                            factor, 1};
      if (dims.inner == 1 && dims.count % body.kWidth == 0) body.spread = body.kWidth;
      for_each_row(stream, "reduce gradient", body, {dims.outer, dims.count / body.spread, dims.inner * body.spread});
    });
  });
}

void argmax(Stream& stream, DType dtype, const void* x, int32_t* index, ReduceDims dims) {
  const int64_t results = dims.outer * dims.inner;
  if (results == 0) return;
  visit_float(dtype, [&]<class T>() {
    constexpr int N = kVecLanes<T>;
    const auto* from = static_cast<const T*>(x);
    const auto go = [&](auto* kernel) {
      launch(stream, {"argmax", blocks_for(results * (dims.inner == 1 ? kWarpLanes : 1), kThreads), kThreads}, kernel,
             from, index, dims);
    };
    if (dims.inner == 1 && dims.count % N == 0 && aligned_to<N>(from))
      go(find_argmax<N, T>);
    else
      go(find_argmax<1, T>);
  });
}

}  // namespace vtl::kernels::VTL_GPU
