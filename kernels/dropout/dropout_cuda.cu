#include "vtl/kernels/device/rows.h"
#include "vtl/kernels/drop.h"
#include "vtl/kernels/dropout/dropout.h"

namespace vtl::kernels::VTL_GPU {
namespace {

// y[i] = (u(first + i) >= p ? x[i] / (1 - p) : 0) + (addend ? addend[i] : 0). Four neighbours share a Philox; vectors
// begin at multiples of four.
template <class T>
struct Drop {
  static constexpr int kWidth = kVecLanes<T>;
  const T *x, *addend;
  T* y;
  const StepState* step;
  uint64_t counter, first;
  uint32_t least;  // of the random bits of a kept value
  float scale;

  bool aligned() const {
    return aligned_to<kWidth>(x) && aligned_to<kWidth>(addend) && aligned_to<kWidth>(y) && first % kWidth == 0;
  }
  template <int N>
  struct Values {
    Vec<T, N> x, before;
  };
  template <int N>
  VTL_DEVICE uint64_t kept(int64_t) const {
    return step_key(load(&step->seed), load(&step->step), load(&step->micro_batch), counter);
  }
  template <int N>
  VTL_DEVICE Values<N> read(int64_t i, uint64_t) const {
    return {load_vec<N>(x + i), load_vec_or_zero<N>(addend, i)};
  }
  template <int N>
  VTL_DEVICE Floats<N> at(int64_t i, uint64_t key, const Values<N>& values) const {
    const uint64_t index = first + static_cast<uint64_t>(i);
    const Floats<N> value = floats_of(values.x);
    Floats<N> result = floats_of(values.before);
    VTL_UNROLL
    for (int four = 0; four < N; four += 4) {
      const Philox4 bits = philox(counter, (index + four) / 4, key);
      if constexpr (N == 1) {
        if (word(bits, index % 4) >= least) result[0] += value[0] * scale;
      } else {
        VTL_UNROLL
        for (int k = 0; k < 4; ++k)
          if (bits.v[k] >= least) result[four + k] += value[four + k] * scale;
      }
    }
    store_floats(y + i, result);
    return result;
  }
};

template <class T>
void drop(Stream& stream, const void* x, Dest y, const StepState* step, DropoutDims d) {
  const Drop<T> body{static_cast<const T*>(x),
                     static_cast<const T*>(y.addend),
                     static_cast<T*>(y.out),
                     step,
                     random_counter(RandomStream::dropout, d.layer),
                     static_cast<uint64_t>(d.first),
                     kept_from(d.p),
                     1.0f / (1.0f - d.p)};
  for_each_element(stream, "dropout", body, d.count);
}

}  // namespace

void dropout_forward(Stream& stream, DType dtype, const void* x, void* y, const StepState* step, DropoutDims dims) {
  dropout_backward(stream, dtype, x, {y, nullptr}, step, dims);
}

void dropout_backward(Stream& stream, DType dtype, const void* dy, Dest dx, const StepState* step, DropoutDims dims) {
  if (!dx.wanted()) return;
  visit_float(dtype, [&]<class T>() { drop<T>(stream, dy, dx, step, dims); });
}

}  // namespace vtl::kernels::VTL_GPU
