#include "vtl/kernels/bias/bias.h"
#include "vtl/kernels/device/rows.h"

namespace vtl::kernels::VTL_GPU {
namespace {

// y[r,c] = x[r,c] + bias[c]
template <class T>
struct AddBias {
  static constexpr int kWidth = min(kVecLanes<T>, kVecLanes<float>);
  const T* x;
  const float* bias;
  T* y;

  bool aligned() const { return aligned_to<kWidth>(x) && aligned_to<kWidth>(bias) && aligned_to<kWidth>(y); }
  template <int N>
  VTL_DEVICE Floats<N> kept(int64_t c) const {
    return load_floats<N>(bias + c);
  }
  template <int N>
  VTL_DEVICE Floats<N> at(int64_t i, const Floats<N>& added) const {
    Floats<N> value = load_floats<N>(x + i);
    VTL_UNROLL
    for (int k = 0; k < N; ++k) value[k] += added[k];
    store_floats(y + i, value);
    return value;
  }
};

// Nothing but the values to be summed.
template <class T>
struct Values {
  static constexpr int kWidth = kVecLanes<T>;
  const T* x;

  bool aligned() const { return aligned_to<kWidth>(x); }
  template <int N>
  VTL_DEVICE NothingKept kept(int64_t) const {
    return {};
  }
  template <int N>
  VTL_DEVICE Floats<N> at(int64_t i, NothingKept) const {
    return load_floats<N>(x + i);
  }
};

}  // namespace

void bias_forward(Stream& stream, DType dtype, const void* x, const float* bias, void* y, BiasDims dims) {
  visit_float(dtype, [&]<class T>() {
    const AddBias<T> body{static_cast<const T*>(x), bias, static_cast<T*>(y)};
    for_each_row(stream, "bias", body, {1, dims.rows, dims.cols});
  });
}

void column_sum(Stream& stream, DType dtype, const void* x, Dest sum, BiasDims dims) {
  if (!sum.wanted()) return;
  visit_float(dtype, [&]<class T>() {
    const Values<T> body{static_cast<const T*>(x)};
    for_each_row_with_sum<float>(stream, "column_sum", body, {1, dims.rows, dims.cols}, sum);
  });
}

}  // namespace vtl::kernels::VTL_GPU
