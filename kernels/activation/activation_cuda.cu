#include "vtl/kernels/activation/activation.h"
#include "vtl/kernels/device/activate.h"
#include "vtl/kernels/device/rows.h"

namespace vtl::kernels::VTL_GPU {
namespace {

// The kind is a parameter and no template's: a branch for each vector costs less than eight times the kernels. Width is
// that of f32 where a bias is read for a few rows only.

// y[r,c] = f(x[r,c] + bias[c]); bias may be null.
template <class T, int Width>
struct Activate {
  static constexpr int kWidth = Width;
  Activation kind;
  const T* x;
  const float* bias;
  T* y;

  bool aligned() const { return aligned_to<kWidth>(x) && aligned_to<kWidth>(bias) && aligned_to<kWidth>(y); }
  template <int N>
  VTL_DEVICE Floats<N> kept(int64_t c) const {
    return load_floats_or_zero<N>(bias, c);
  }
  template <int N>
  VTL_DEVICE Vec<T, N> read(int64_t i, const Floats<N>&) const {
    return load_vec<N>(x + i);
  }
  template <int N>
  VTL_DEVICE Floats<N> at(int64_t i, const Floats<N>& shift, const Vec<T, N>& read) const {
    Floats<N> value = floats_of(read);
    VTL_UNROLL
    for (int k = 0; k < N; ++k) value[k] += shift[k];
    activate(kind, value);
    store_floats(y + i, value);
    return value;
  }
};

// dx[r,c] = dy[r,c] * f'(x[r,c] + bias[c]) + (addend ? addend[r,c] : 0), where dx is wanted; the sum is that of the
// first term. from = x, or y where the derivative is taken from there.
template <class T, int Width>
struct ActivateBackward {
  static constexpr int kWidth = Width;
  Activation kind;
  bool from_output;
  const T *dy, *from, *addend;
  const float* bias;
  T* dx;

  bool aligned() const {
    return aligned_to<kWidth>(dy) && aligned_to<kWidth>(from) && aligned_to<kWidth>(addend) &&
           aligned_to<kWidth>(bias) && aligned_to<kWidth>(dx);
  }
  template <int N>
  struct Values {
    Vec<T, N> dy, from, before;
  };
  template <int N>
  VTL_DEVICE Floats<N> kept(int64_t c) const {
    return load_floats_or_zero<N>(bias, c);
  }
  template <int N>
  VTL_DEVICE Values<N> read(int64_t i, const Floats<N>&) const {
    return {load_vec<N>(dy + i), load_vec<N>(from + i), load_vec_or_zero<N>(addend, i)};
  }
  template <int N>
  VTL_DEVICE Floats<N> at(int64_t i, const Floats<N>& shift, const Values<N>& values) const {
    Floats<N> gradient = floats_of(values.dy), z = floats_of(values.from);
    if (from_output) {
      activate_backward_from_output(kind, gradient, z);
    } else {
      VTL_UNROLL
      for (int k = 0; k < N; ++k) z[k] += shift[k];
      activate_backward(kind, gradient, z);
    }
    if (dx) {
      Floats<N> total = floats_of(values.before);
      VTL_UNROLL
      for (int k = 0; k < N; ++k) total[k] += gradient[k];
      store_floats(dx + i, total);
    }
    return gradient;
  }
};

}  // namespace

void activation_forward(Stream& stream, DType dtype, Activation kind, const void* x, const float* bias, void* y,
                        ActivationDims dims) {
  visit_float(dtype, [&]<class T>() {
    const auto* from = static_cast<const T*>(x);
    auto* to = static_cast<T*>(y);
    if (bias)
      for_each_row(stream, "activation", Activate<T, kVecLanes<float>>{kind, from, bias, to},
                   {1, dims.rows, dims.cols});
    else
      for_each_element(stream, "activation", Activate<T, kVecLanes<T>>{kind, from, nullptr, to}, dims.rows * dims.cols);
  });
}

void activation_backward(Stream& stream, DType dtype, Activation kind, const void* dy, const void* x, const float* bias,
                         const void* y, Dest dx, Dest dbias, ActivationDims dims) {
  visit_float(dtype, [&]<class T>() {
    const auto go = [&]<int Width>(auto&& run) {
      run(ActivateBackward<T, Width>{kind, y != nullptr, static_cast<const T*>(dy), static_cast<const T*>(y ? y : x),
                                     static_cast<const T*>(dx.addend), bias, static_cast<T*>(dx.out)});
    };
    const RowsDims rows{1, dims.rows, dims.cols};
    if (dbias.wanted())
      go.template operator()<kVecLanes<T>>(
          [&](const auto& body) { for_each_row_with_sum<float>(stream, "activation gradients", body, rows, dbias); });
    else if (dx.wanted() && bias)
      go.template operator()<kVecLanes<float>>(
          [&](const auto& body) { for_each_row(stream, "activation gradient", body, rows); });
    else if (dx.wanted())
      go.template operator()<kVecLanes<T>>(
          [&](const auto& body) { for_each_element(stream, "activation gradient", body, dims.rows * dims.cols); });
  });
}

}  // namespace vtl::kernels::VTL_GPU
