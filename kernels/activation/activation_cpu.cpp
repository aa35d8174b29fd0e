#include "vtl/kernels/activation/activation.h"
#include "vtl/kernels/cpu/columns.h"

namespace vtl::kernels::VTL_CPU {
namespace {

constexpr float kInverseSqrt2 = 0.70710678118654752f;
constexpr float kInverseSqrt2Pi = 0.39894228040143268f;
constexpr float kGeluTanh = 0.79788456080286536f;  // sqrt(2 / pi)
constexpr float kGeluCubic = 0.044715f;
constexpr float kGeluQuick = 1.702f;

// The normal distribution function and, for its caller, e^(-x^2 / 2).
VTL_INLINE vfloat normal_cdf(vfloat x, vfloat& gauss) {
  gauss = vexp(-0.5f * x * x);
  return 0.5f + 0.5f * verf(x * kInverseSqrt2, gauss);
}

template <Activation K>
VTL_INLINE vfloat value_of(vfloat x) {
  const vfloat zero{};
  if constexpr (K == Activation::relu) return x < zero ? zero : x;  // NaN stays
  if constexpr (K == Activation::relu6) {
    const vfloat low = x < zero ? zero : x;
    return low > 6.0f ? zero + 6.0f : low;
  }
  if constexpr (K == Activation::silu) return x * vsigmoid(x);
  if constexpr (K == Activation::gelu_erf) {
    vfloat gauss;
    return x * normal_cdf(x, gauss);
  }
  // (1 + tanh u) / 2 = sigmoid(2 u)
  if constexpr (K == Activation::gelu_tanh) return x * vsigmoid(2.0f * kGeluTanh * x * (1.0f + kGeluCubic * x * x));
  if constexpr (K == Activation::gelu_quick) return x * vsigmoid(kGeluQuick * x);
  if constexpr (K == Activation::sigmoid) return vsigmoid(x);
  return x;
}

// f'(x).
template <Activation K>
VTL_INLINE vfloat slope_at(vfloat x) {
  const vfloat zero{}, one = zero + 1.0f;
  if constexpr (K == Activation::relu) return x > zero ? one : zero;
  if constexpr (K == Activation::relu6) return x > zero ? (x < 6.0f ? one : zero) : zero;
  if constexpr (K == Activation::silu) {
    const vfloat s = vsigmoid(x);
    return s * (1.0f + x * (1.0f - s));
  }
  if constexpr (K == Activation::gelu_erf) {
    vfloat gauss;
    const vfloat cdf = normal_cdf(x, gauss);
    return cdf + x * gauss * kInverseSqrt2Pi;
  }
  if constexpr (K == Activation::gelu_tanh) {
    const vfloat s = vsigmoid(2.0f * kGeluTanh * x * (1.0f + kGeluCubic * x * x));
    return s * (1.0f + x * (1.0f - s) * (2.0f * kGeluTanh) * (1.0f + 3.0f * kGeluCubic * x * x));
  }
  if constexpr (K == Activation::gelu_quick) {
    const vfloat s = vsigmoid(kGeluQuick * x);
    return s * (1.0f + kGeluQuick * x * (1.0f - s));
  }
  if constexpr (K == Activation::sigmoid) {
    const vfloat s = vsigmoid(x);
    return s * (1.0f - s);
  }
  return one;
}

// f' from y = f(x), for the kinds where y tells it.
template <Activation K>
VTL_INLINE vfloat slope_from_output(vfloat y) {
  if constexpr (K == Activation::sigmoid) return y * (1.0f - y);
  return slope_at<K>(y);  // relu and relu6 change neither the sign nor what lies below 6
}

template <class T, Activation K>
void forward(Stream& stream, const T* x, const float* bias, T* y, ActivationDims d) {
  if (!bias) {
    parallel_lanes(d.rows * d.cols,
                   [&](int64_t i, auto lanes) { store_n(y + i, value_of<K>(load_n(x + i, lanes)), lanes); });
    return;
  }
  rows_with_column_sum(stream, d.rows, d.cols, Dest{}, [&](int64_t r, int64_t c, auto lanes) {
    const int64_t at = r * d.cols + c;
    const vfloat value = value_of<K>(load_n(x + at, lanes) + load_n(bias + c, lanes));
    store_n(y + at, value, lanes);
    return value;
  });
}

template <class T, Activation K>
void backward(Stream& stream, const T* dy, const T* x, const float* bias, const T* y, Dest dx, Dest dbias,
              ActivationDims d) {
  auto* out = static_cast<T*>(dx.out);
  const auto* addend = static_cast<const T*>(dx.addend);
  const auto gradient = [&](int64_t at, vfloat slope, auto lanes) {
    const vfloat value = load_n(dy + at, lanes) * slope;
    if (out) store_n(out + at, addend ? value + load_n(addend + at, lanes) : value, lanes);
    return value;
  };
  const bool flat = !bias && !dbias.wanted();
  const int64_t rows = flat ? 1 : d.rows, cols = flat ? d.rows * d.cols : d.cols;
  if (flat) {
    parallel_lanes(cols, [&](int64_t i, auto lanes) {
      gradient(i, y ? slope_from_output<K>(load_n(y + i, lanes)) : slope_at<K>(load_n(x + i, lanes)), lanes);
    });
    return;
  }
  rows_with_column_sum(stream, rows, cols, dbias, [&](int64_t r, int64_t c, auto lanes) {
    const int64_t at = r * cols + c;
    if (y) return gradient(at, slope_from_output<K>(load_n(y + at, lanes)), lanes);
    const vfloat before = load_n(x + at, lanes);
    return gradient(at, slope_at<K>(bias ? before + load_n(bias + c, lanes) : before), lanes);
  });
}

// f.template operator()<kind>().
template <class F>
VTL_INLINE void visit_activation(Activation kind, F&& f) {
  switch (kind) {
    case Activation::none: return f.template operator()<Activation::none>();
    case Activation::relu: return f.template operator()<Activation::relu>();
    case Activation::relu6: return f.template operator()<Activation::relu6>();
    case Activation::silu: return f.template operator()<Activation::silu>();
    case Activation::gelu_erf: return f.template operator()<Activation::gelu_erf>();
    case Activation::gelu_tanh: return f.template operator()<Activation::gelu_tanh>();
    case Activation::gelu_quick: return f.template operator()<Activation::gelu_quick>();
    case Activation::sigmoid: return f.template operator()<Activation::sigmoid>();
  }
}

}  // namespace

void activation_forward(Stream& stream, DType dtype, Activation kind, const void* x, const float* bias, void* y,
                        ActivationDims dims) {
  visit_float(dtype, [&]<class T>() {
    visit_activation(kind, [&]<Activation K>() {
      forward<T, K>(stream, static_cast<const T*>(x), bias, static_cast<T*>(y), dims);
    });
  });
}

void activation_backward(Stream& stream, DType dtype, Activation kind, const void* dy, const void* x, const float* bias,
                         const void* y, Dest dx, Dest dbias, ActivationDims dims) {
  if (!dx.wanted() && !dbias.wanted()) return;
  visit_float(dtype, [&]<class T>() {
    visit_activation(kind, [&]<Activation K>() {
      backward<T, K>(stream, static_cast<const T*>(dy), static_cast<const T*>(x), bias, static_cast<const T*>(y), dx, dbias,
                     dims);
    });
  });
}

}  // namespace vtl::kernels::VTL_CPU
