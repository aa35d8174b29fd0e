#include "vtl/kernels/reduce/reduce.h"

#include "vtl/core/parallel.h"
#include "vtl/kernels/cpu/vec.h"

namespace vtl::kernels::VTL_CPU {
namespace {

// Elements that one task reads, about, and the most tasks that share one sum.
constexpr int64_t kGrain = 1 << 15;
constexpr int64_t kMaxSegments = 64;

struct Sum {
  static constexpr float kEmpty = 0;
  VTL_INLINE static vfloat combine(vfloat a, vfloat b) { return a + b; }
};
struct Max {
  static constexpr float kEmpty = -__builtin_inff();
  VTL_INLINE static vfloat combine(vfloat a, vfloat b) {
    return a > b ? a : (b > a ? b : (a == b ? a : a + b));
  }  // NaN wins
};

// One value of count contiguous ones.
template <class Op, class T>
VTL_INLINE float reduce_row(const T* x, int64_t count) {
  vfloat a[4];
  for (vfloat& each : a) each = broadcast(Op::kEmpty);
  int64_t n = 0;
  for (; n + 4 * kLanes <= count; n += 4 * kLanes)
    for (int k = 0; k < 4; ++k) a[k] = Op::combine(a[k], load(x + n + k * kLanes));
  for (; n + kLanes <= count; n += kLanes) a[0] = Op::combine(a[0], load(x + n));
  vfloat total = Op::combine(Op::combine(a[0], a[1]), Op::combine(a[2], a[3]));
  for (int half = kLanes / 2; half > 0; half /= 2) {
    vfloat upper = broadcast(Op::kEmpty);
    for (int lane = 0; lane < half; ++lane) upper[lane] = total[lane + half];
    total = Op::combine(total, upper);
  }
  for (; n < count; ++n) total = Op::combine(total, broadcast(to_float(x[n])));
  return total[0];
}

// out[i] = the reduction of x[:,i] over count rows of `inner`. Four rows share one pass over out.
template <class Op, class T>
VTL_INLINE void reduce_columns(const T* x, int64_t count, int64_t inner, float* out) {
  for_lanes(inner, [&](int64_t i, auto lanes) { store_n(out + i, broadcast(Op::kEmpty), lanes); });
  int64_t n = 0;
  for (; n + 4 <= count; n += 4)
    for_lanes(inner, [&](int64_t i, auto lanes) {
      const T* from = x + n * inner + i;
      const vfloat a = Op::combine(load_n(from, lanes), load_n(from + inner, lanes));
      const vfloat b = Op::combine(load_n(from + 2 * inner, lanes), load_n(from + 3 * inner, lanes));
      store_n(out + i, Op::combine(load_n(out + i, lanes), Op::combine(a, b)), lanes);
    });
  for (; n < count; ++n)
    for_lanes(inner, [&](int64_t i, auto lanes) {
      store_n(out + i, Op::combine(load_n(out + i, lanes), load_n(x + n * inner + i, lanes)), lanes);
    });
}

// A long reduction is cut into segments, each with a partial result of its own, merged in order.
template <class Op, class T, class Out>
void forward(Stream& stream, const T* x, Out* y, float factor, ReduceDims d) {
  int64_t segments = d.count * d.inner / kGrain;
  segments = segments < 1 ? 1 : segments > kMaxSegments ? kMaxSegments : segments;
  const int64_t length = (d.count + segments - 1) / segments;
  const Scratch scratch = stream.scratch(static_cast<size_t>(d.outer * segments * d.inner) * 4);
  float* const parts = scratch.f32();  // [outer, segments, inner]
  const int64_t task_elements = length * d.inner, grain = task_elements < kGrain ? kGrain / (task_elements + 1) + 1 : 1;
  parallel_for(d.outer * segments, grain, [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; ++task) {
      const int64_t o = task / segments, first = task % segments * length;
      const int64_t left = d.count - first, count = left < 0 ? 0 : left < length ? left : length;
      const T* from = x + (o * d.count + first) * d.inner;
      if (d.inner == 1)
        parts[task] = reduce_row<Op>(from, count);
      else
        reduce_columns<Op>(from, count, d.inner, parts + task * d.inner);
    }
  });
  parallel_for(d.outer, kGrain / (segments * d.inner + 1) + 1, [&](int64_t begin, int64_t end) {
    for (int64_t o = begin; o < end; ++o)
      for_lanes(d.inner, [&](int64_t i, auto lanes) {
        vfloat total = broadcast(Op::kEmpty);
        for (int64_t s = 0; s < segments; ++s)
          total = Op::combine(total, load_n(parts + (o * segments + s) * d.inner + i, lanes));
        store_n(y + o * d.inner + i, total * factor, lanes);
      });
  });
}

template <class T, class Dy>
void backward(const Dy* dy, Dest dx, float factor, ReduceDims d) {
  auto* out = static_cast<T*>(dx.out);
  const auto* addend = static_cast<const T*>(dx.addend);
  parallel_for(d.outer * d.count, kGrain / (d.inner + 1) + 1, [&](int64_t begin, int64_t end) {
    if (d.inner == 1) {
      for (int64_t row = begin; row < end;) {
        const int64_t o = row / d.count, stop = (o + 1) * d.count < end ? (o + 1) * d.count : end;
        const vfloat value = broadcast(to_float(dy[o]) * factor);
        for_lanes(stop - row, [&](int64_t n, auto lanes) {
          store_n(out + row + n, addend ? value + load_n(addend + row + n, lanes) : value, lanes);
        });
        row = stop;
      }
      return;
    }
    for (int64_t row = begin; row < end; ++row)
      for_lanes(d.inner, [&](int64_t i, auto lanes) {
        vfloat value = load_n(dy + row / d.count * d.inner + i, lanes) * factor;
        if (addend) value += load_n(addend + row * d.inner + i, lanes);
        store_n(out + row * d.inner + i, value, lanes);
      });
  });
}

template <class T>
void find_argmax(const T* x, int32_t* index, ReduceDims d) {
  parallel_for(d.outer * d.inner, kGrain / (d.count + 1) + 1, [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; ++task) {
      const T* from = x + task / d.inner * d.count * d.inner + task % d.inner;
      float best = to_float(from[0]);
      int64_t winner = 0;
      for (int64_t n = 1; n < d.count && best == best; ++n) {
        const float value = to_float(from[n * d.inner]);
        if (!(value <= best)) {
          best = value;
          winner = n;
        }
      }
      index[task] = static_cast<int32_t>(winner);
    }
  });
}

}  // namespace

void reduce_forward(Stream& stream, DType dtype, const void* x, DType out_dtype, void* y, Reduction reduction,
                    ReduceDims dims) {
  visit_float(dtype, [&]<class T>() {
    visit_float(out_dtype, [&]<class Out>() {
      const auto* from = static_cast<const T*>(x);
      auto* to = static_cast<Out*>(y);
      if (reduction == Reduction::max)
        forward<Max>(stream, from, to, 1.0f, dims);
      else if (reduction == Reduction::sum)
        forward<Sum>(stream, from, to, 1.0f, dims);
      else
        forward<Sum>(stream, from, to, 1.0f / static_cast<float>(dims.count), dims);
    });
  });
}

void reduce_backward(Stream&, DType dtype_dy, const void* dy, DType dtype, Dest dx, Reduction reduction,
                     ReduceDims dims) {
  if (!dx.wanted()) return;
  const float factor = reduction == Reduction::mean ? 1.0f / static_cast<float>(dims.count) : 1.0f;
  visit_float(dtype_dy, [&]<class Dy>() {
    visit_float(dtype, [&]<class T>() { backward<T>(static_cast<const Dy*>(dy), dx, factor, dims); });
  });
}

void argmax(Stream&, DType dtype, const void* x, int32_t* index, ReduceDims dims) {
  visit_float(dtype, [&]<class T>() { find_argmax(static_cast<const T*>(x), index, dims); });
}

}  // namespace vtl::kernels::VTL_CPU
