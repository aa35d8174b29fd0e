#include "vtl/kernels/activation/activation.h"
#include "vtl/kernels/cpu/activation_gradient.h"
#include "vtl/kernels/cpu/columns.h"

// This file has a copy for __AVX512BF16__, where vec.h narrows to bf16 in one instruction.

namespace vtl::kernels::VTL_CPU {
namespace {

template <class T, Activation K>
void forward(Stream& stream, const T* x, const float* bias, T* y, ActivationDims d) {
  const auto value = [&](int64_t at, vfloat shift, auto lanes) VTL_INLINE_BODY {
    prefetch(x + at);
    prefetch_to_write(y + at);
    const vfloat result = activate(K, load_n(x + at, lanes) + shift);
    store_n(y + at, result, lanes);
    return result;
  };
  if (!bias) {
    parallel_lanes(d.rows * d.cols, [&](int64_t i, auto lanes) VTL_INLINE_BODY { value(i, vfloat{}, lanes); });
    return;
  }
  rows_with_column_sum(stream, d.rows, d.cols, Dest{}, [&](int64_t r, int64_t c, auto lanes) VTL_INLINE_BODY {
    return value(r * d.cols + c, load_n(bias + c, lanes), lanes);
  });
}

template <class T, Activation K>
void backward(Stream& stream, const T* dy, const T* x, const float* bias, const T* y, Dest dx, Dest dbias,
              ActivationDims d) {
  auto* out = static_cast<T*>(dx.out);
  const auto* addend = static_cast<const T*>(dx.addend);
  const T* kept = y ? y : x;
  // The gradient at element `at`, whose column has `shift` added to x.
  const auto gradient = [&](int64_t at, vfloat shift, auto lanes) VTL_INLINE_BODY {
    prefetch(dy + at);
    prefetch(kept + at);
    const vfloat g = load_n(dy + at, lanes), z = load_n(kept + at, lanes);
    const vfloat value = y ? activate_backward_from_output<K>(g, z) : activate_backward<K>(g, z + shift);
    if (out) prefetch_to_write(out + at), store_n(out + at, addend ? value + load_n(addend + at, lanes) : value, lanes);
    return value;
  };
  if (!bias && !dbias.wanted()) {
    parallel_lanes(d.rows * d.cols, [&](int64_t i, auto lanes) VTL_INLINE_BODY { gradient(i, vfloat{}, lanes); });
    return;
  }
  rows_with_column_sum(stream, d.rows, d.cols, dbias, [&](int64_t r, int64_t c, auto lanes) VTL_INLINE_BODY {
    return gradient(r * d.cols + c, bias ? load_n(bias + c, lanes) : vfloat{}, lanes);
  });
}

}  // namespace

void activation_forward(Stream& stream, DType dtype, Activation kind, const void* x, const float* bias, void* y,
                        ActivationDims dims) {
  visit_float(dtype, [&]<class T>() {
    visit_activation(
        kind, [&]<Activation K>() { forward<T, K>(stream, static_cast<const T*>(x), bias, static_cast<T*>(y), dims); });
  });
}

void activation_backward(Stream& stream, DType dtype, Activation kind, const void* dy, const void* x, const float* bias,
                         const void* y, Dest dx, Dest dbias, ActivationDims dims) {
  if (!dx.wanted() && !dbias.wanted()) return;
  visit_float(dtype, [&]<class T>() {
    visit_activation(kind, [&]<Activation K>() {
      backward<T, K>(stream, static_cast<const T*>(dy), static_cast<const T*>(x), bias, static_cast<const T*>(y), dx,
                     dbias, dims);
    });
  });
}

}  // namespace vtl::kernels::VTL_CPU
