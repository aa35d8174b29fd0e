#include "vtl/kernels/device/rows.h"
#include "vtl/kernels/drop.h"
#include "vtl/kernels/drop_path/drop_path.h"

namespace vtl::kernels::VTL_GPU {
namespace {

// y[b,i] = (u(first + b) >= p ? x[b,i] / (1 - p) : 0) + (addend ? addend[b,i] : 0). Groups of elements are samples; x
// of a dropped one is not read, and where y is the addend, nothing is.
template <class T>
struct DropPath {
  static constexpr int kWidth = kVecLanes<T>;
  const T *x, *addend;
  T* y;
  const StepState* step;
  uint64_t counter, first;
  uint32_t least;  // of the random bits of a kept sample
  float scale;

  bool aligned() const { return aligned_to<kWidth>(x) && aligned_to<kWidth>(addend) && aligned_to<kWidth>(y); }
  template <int N>
  struct Values {
    Vec<T, N> x, before;
  };
  template <int N>
  VTL_DEVICE bool kept(int64_t sample) const {
    const uint64_t index = first + static_cast<uint64_t>(sample);
    const uint64_t key = step_key(load(&step->seed), load(&step->step), load(&step->micro_batch), counter);
    return word(philox(counter, index / 4, key), index % 4) >= least;
  }
  template <int N>
  VTL_DEVICE Values<N> read(int64_t i, bool kept) const {
    return {load_vec_or_zero<N>(kept ? x : nullptr, i), load_vec_or_zero<N>(kept || addend != y ? addend : nullptr, i)};
  }
  template <int N>
  VTL_DEVICE Floats<N> at(int64_t i, bool kept, const Values<N>& values) const {
    Floats<N> result = floats_of(values.before);
    const Floats<N> value = floats_of(values.x);
    VTL_UNROLL
    for (int k = 0; k < N; ++k) result[k] += value[k] * scale;
    if (kept || addend != y) store_floats(y + i, result);
    return result;
  }
};

template <class T>
void drop(Stream& stream, const void* x, Dest y, const StepState* step, DropPathDims d) {
  const DropPath<T> body{static_cast<const T*>(x),
                         static_cast<const T*>(y.addend),
                         static_cast<T*>(y.out),
                         step,
                         random_counter(RandomStream::drop_path, d.layer),
                         static_cast<uint64_t>(d.first),
                         kept_from(d.p),
                         1.0f / (1.0f - d.p)};
  for_each_element(stream, "drop_path", body, d.count, d.batch);
}

}  // namespace

void drop_path_forward(Stream& stream, DType dtype, const void* x, const void* residual, void* y, const StepState* step,
                       DropPathDims dims) {
  drop_path_backward(stream, dtype, x, {y, residual}, step, dims);
}

void drop_path_backward(Stream& stream, DType dtype, const void* dy, Dest dx, const StepState* step,
                        DropPathDims dims) {
  if (!dx.wanted()) return;
  visit_float(dtype, [&]<class T>() { drop<T>(stream, dy, dx, step, dims); });
}

}  // namespace vtl::kernels::VTL_GPU
