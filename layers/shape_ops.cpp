#include "vtl/layers/shape_ops.h"

#include "vtl/core/context.h"
#include "vtl/core/error.h"
#include "vtl/core/tape.h"
#include "vtl/kernels/copy/copy.h"

namespace vtl::layers {
namespace {

kernels::CopyDims copy_dims(const Tensor& from, const Shape& to_strides) {
  kernels::CopyDims dims;
  dims.rank = from.rank();
  for (int i = 0; i < dims.rank; ++i) {
    dims.extent[i] = from.dim(i);
    dims.from_stride[i] = from.strides()[i];
    dims.to_stride[i] = to_strides[i];
  }
  return dims;
}

kernels::CopyDims reversed(kernels::CopyDims dims) {
  for (int i = 0; i < dims.rank; ++i) std::swap(dims.from_stride[i], dims.to_stride[i]);
  return dims;
}

// A dense copy of `view`, a strided view of x whose elements lie `offset` elements after x's first.
Tensor dense_copy(const char* op, const Tensor& x, const Tensor& view) {
  Tensor y = Tensor::empty(view.shape(), x.dtype(), x.device());
  const kernels::CopyDims dims = copy_dims(view, y.shape().strides());
  kernels::copy_strided(stream(), size_of(x.dtype()), view.data(), y.data(), dims);
  const auto offset = static_cast<const char*>(view.data()) - static_cast<const char*>(x.data());
  record(op, {&y}, {&x}, [shape = x.shape(), back = reversed(dims), offset](Grads& g) {
    // The gradient is zero outside the view: scattered into a zeroed buffer, then handed on or added.
    const Tensor dy = g.out();
    const Tensor whole = Tensor::zeros(shape, dy.dtype(), dy.device());
    kernels::copy_strided(stream(), size_of(dy.dtype()), dy.data(), static_cast<char*>(whole.data()) + offset, back);
    if (g.pass(0, whole)) return;
    kernels::CopyDims flat;
    flat.rank = 1;
    flat.extent[0] = whole.numel();
    flat.from_stride[0] = flat.to_stride[0] = 1;
    kernels::copy_strided_add(stream(), dy.dtype(), whole.data(), g.dest(0), flat);
  });
  return y;
}

}  // namespace

Tensor slice(const Tensor& x, int dim, int64_t begin, int64_t end) { return dense_copy("slice", x, x.value().slice(dim, begin, end)); }

Tensor permute(const Tensor& x, std::initializer_list<int> order) { return dense_copy("permute", x, x.value().permute(order)); }

Tensor cast(const Tensor& x, DType dtype) {
  if (x.dtype() == dtype) return x;
  Tensor y = Tensor::empty(x.shape(), dtype, x.device());
  kernels::cast(stream(), x.dtype(), x.data(), dtype, y.data(), x.numel());
  record("cast", {&y}, {&x}, [from = x.dtype()](Grads& g) {
    const Tensor dy = g.out();
    const Tensor back = Tensor::empty(dy.shape(), from, dy.device());
    kernels::cast(stream(), dy.dtype(), dy.data(), from, back.data(), dy.numel());
    if (g.pass(0, back)) return;
    kernels::CopyDims flat;
    flat.rank = 1;
    flat.extent[0] = back.numel();
    flat.from_stride[0] = flat.to_stride[0] = 1;
    kernels::copy_strided_add(stream(), from, back.data(), g.dest(0), flat);
  });
  return y;
}

}  // namespace vtl::layers
