#include "vtl/kernels/device/rows.h"
#include "vtl/kernels/scale/scale.h"

namespace vtl::kernels::VTL_GPU {
namespace {

template <class T>
T* out_of(const Dest& dest) {
  return static_cast<T*>(dest.out);
}
template <class T>
const T* addend_of(const Dest& dest) {
  return static_cast<const T*>(dest.addend);
}

// y[i] = alpha * x[i] + (addend ? addend[i] : 0)
template <class T>
struct Scale {
  static constexpr int kWidth = kVecLanes<T>;
  const T *x, *addend;
  T* y;
  float alpha;

  bool aligned() const { return aligned_to<kWidth>(x) && aligned_to<kWidth>(addend) && aligned_to<kWidth>(y); }
  template <int N>
  struct Values {
    Vec<T, N> x, before;
  };
  template <int N>
  VTL_DEVICE NothingKept kept(int64_t) const {
    return {};
  }
  template <int N>
  VTL_DEVICE Values<N> read(int64_t i, NothingKept) const {
    return {load_vec<N>(x + i), load_vec_or_zero<N>(addend, i)};
  }
  template <int N>
  VTL_DEVICE Floats<N> at(int64_t i, NothingKept, const Values<N>& values) const {
    Floats<N> value = floats_of(values.x);
    const Floats<N> before = floats_of(values.before);
    VTL_UNROLL
    for (int k = 0; k < N; ++k) value[k] = value[k] * alpha + before[k];
    store_floats(y + i, value);
    return value;
  }
};

// y[r,c] = x[r,c] * factor[c] + (addend ? addend[r,c] : 0), where y is wanted; the sum is that of x[r,c] * other[r,c],
// where other is given. LayerScale (factors f32) and the gate of squeeze-and-excitation (factors of T), forward and
// backward.
template <class T, class Factor>
struct ScaleColumns {
  static constexpr int kWidth = min(kVecLanes<T>, kVecLanes<Factor>);
  const T *x, *other, *addend;
  const Factor* factor;
  T* y;

  bool aligned() const {
    return aligned_to<kWidth>(x) && aligned_to<kWidth>(other) && aligned_to<kWidth>(addend) &&
           aligned_to<kWidth>(factor) && aligned_to<kWidth>(y);
  }
  template <int N>
  struct Values {
    Vec<T, N> x, other, before;
  };
  template <int N>
  VTL_DEVICE Floats<N> kept(int64_t c) const {
    return y ? load_floats<N>(factor + c) : Floats<N>{};
  }
  template <int N>
  VTL_DEVICE Values<N> read(int64_t i, const Floats<N>&) const {
    return {load_vec<N>(x + i), load_vec_or_zero<N>(other, i), load_vec_or_zero<N>(addend, i)};
  }
  template <int N>
  VTL_DEVICE Floats<N> at(int64_t i, const Floats<N>& factors, const Values<N>& values) const {
    const Floats<N> value = floats_of(values.x);
    if (y) {
      Floats<N> scaled = floats_of(values.before);
      VTL_UNROLL
      for (int k = 0; k < N; ++k) scaled[k] += value[k] * factors[k];
      store_floats(y + i, scaled);
    }
    Floats<N> product = floats_of(values.other);
    VTL_UNROLL
    for (int k = 0; k < N; ++k) product[k] *= value[k];
    return product;
  }
};

}  // namespace

void scale_forward(Stream& stream, DType dtype, const void* x, float alpha, void* y, int64_t count) {
  scale_backward(stream, dtype, x, alpha, {y, nullptr}, count);
}

void scale_backward(Stream& stream, DType dtype, const void* dy, float alpha, Dest dx, int64_t count) {
  if (!dx.wanted()) return;
  visit_float(dtype, [&]<class T>() {
    const Scale<T> body{static_cast<const T*>(dy), addend_of<T>(dx), out_of<T>(dx), alpha};
    for_each_element(stream, "scale", body, count);
  });
}

void layer_scale_forward(Stream& stream, DType dtype, const void* x, const float* gamma, const void* residual, void* y,
                         LayerScaleDims dims) {
  visit_float(dtype, [&]<class T>() {
    const ScaleColumns<T, float> body{static_cast<const T*>(x), nullptr, static_cast<const T*>(residual), gamma,
                                      static_cast<T*>(y)};
    for_each_row(stream, "layer_scale", body, {1, dims.rows, dims.cols});
  });
}

void layer_scale_backward(Stream& stream, DType dtype, const void* dy, const void* x, const float* gamma, Dest dx,
                          Dest dgamma, LayerScaleDims dims) {
  const RowsDims rows{1, dims.rows, dims.cols};
  visit_float(dtype, [&]<class T>() {
    const auto* input = dgamma.wanted() ? static_cast<const T*>(x) : nullptr;
    const ScaleColumns<T, float> body{static_cast<const T*>(dy), input, addend_of<T>(dx), gamma, out_of<T>(dx)};
    if (dgamma.wanted())
      for_each_row_with_sum<float>(stream, "layer_scale gradients", body, rows, dgamma);
    else if (dx.wanted())
      for_each_row(stream, "layer_scale", body, rows);
  });
}

void gate_forward(Stream& stream, DType dtype, const void* x, const void* gate, void* y, GateDims dims) {
  visit_float(dtype, [&]<class T>() {
    const ScaleColumns<T, T> body{static_cast<const T*>(x), nullptr, nullptr, static_cast<const T*>(gate),
                                  static_cast<T*>(y)};
    for_each_row(stream, "gate", body, {dims.batch, dims.positions, dims.channels});
  });
}

void gate_backward(Stream& stream, DType dtype, const void* dy, const void* x, const void* gate, Dest dx, Dest dgate,
                   GateDims dims) {
  const RowsDims rows{dims.batch, dims.positions, dims.channels};
  visit_float(dtype, [&]<class T>() {
    const auto* input = dgate.wanted() ? static_cast<const T*>(x) : nullptr;
    const ScaleColumns<T, T> body{static_cast<const T*>(dy), input, addend_of<T>(dx), static_cast<const T*>(gate),
                                  out_of<T>(dx)};
    if (dgate.wanted())
      for_each_row_with_sum<T>(stream, "gate gradients", body, rows, dgate);
    else if (dx.wanted())
      for_each_row(stream, "gate", body, rows);
  });
}

}  // namespace vtl::kernels::VTL_GPU
