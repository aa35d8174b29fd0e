#include "vtl/layers/pool2d.h"

#include "vtl/core/context.h"
#include "vtl/core/error.h"
#include "vtl/core/tape.h"
#include "vtl/kernels/pool2d/pool2d.h"

namespace vtl::layers {
namespace {

using kernels::Pool2dDims;
using kernels::PoolDivisor;
using kernels::PoolRounding;

Pool2dDims pool_dims(const char* op, const Tensor& x, const Pool2dShape& s, PoolRounding rounding) {
  VTL_CHECK(x.rank() == 4, op, ": the input has shape ", x.shape(), ", expected [batch, height, width, channels]");
  VTL_CHECK(s.kernel > 0 && s.kernel <= 16 && s.stride > 0 && s.pad >= 0 && s.pad < s.kernel, op, ": kernel ", s.kernel, ", stride ", s.stride, ", pad ", s.pad,
            "; expected a kernel of 1 to 16, a stride of at least 1 and a pad below the kernel");
  Pool2dDims d{};
  d.batch = x.dim(0);
  d.height = x.dim(1);
  d.width = x.dim(2);
  d.channels = x.dim(3);
  d.kernel_height = d.kernel_width = s.kernel;
  d.stride_height = d.stride_width = s.stride;
  d.pad_top = d.pad_left = d.pad_bottom = d.pad_right = s.pad;
  d.out_height = kernels::pool2d_output_extent(d.height, s.kernel, s.stride, s.pad, s.pad, rounding);
  d.out_width = kernels::pool2d_output_extent(d.width, s.kernel, s.stride, s.pad, s.pad, rounding);
  VTL_CHECK(d.out_height > 0 && d.out_width > 0, op, ": an input of ", d.height, " x ", d.width, " is smaller than the window of ", s.kernel);
  return d;
}

}  // namespace

Tensor max_pool2d(const Tensor& x, const Pool2dShape& shape) {
  const Pool2dDims dims = pool_dims("max_pool2d", x, shape, PoolRounding::floor);
  Tensor y = Tensor::empty({dims.batch, dims.out_height, dims.out_width, dims.channels}, x.dtype(), x.device());
  const bool learning = learns(x);
  const Tensor argmax = learning ? Tensor::empty(y.shape(), DType::u8, x.device()) : Tensor();
  kernels::max_pool2d_forward(stream(), x.dtype(), x.data(), y.data(), learning ? argmax.data_as<uint8_t>() : nullptr, dims);
  if (learning)
    record("max_pool2d", {&y}, {&x}, [argmax, dims](Grads& g) {
      const Tensor dy = g.out();
      kernels::max_pool2d_backward(stream(), dy.dtype(), dy.data(), argmax.data_as<uint8_t>(), g.dest(0), dims);
    });
  return y;
}

Tensor avg_pool2d(const Tensor& x, const Pool2dShape& shape) {
  const Pool2dDims dims = pool_dims("avg_pool2d", x, shape, PoolRounding::ceil);
  Tensor y = Tensor::empty({dims.batch, dims.out_height, dims.out_width, dims.channels}, x.dtype(), x.device());
  kernels::average_pool2d_forward(stream(), x.dtype(), x.data(), y.data(), PoolDivisor::without_padding, dims);
  record("avg_pool2d", {&y}, {&x}, [dims](Grads& g) {
    const Tensor dy = g.out();
    kernels::average_pool2d_backward(stream(), dy.dtype(), dy.data(), g.dest(0), PoolDivisor::without_padding, dims);
  });
  return y;
}

Tensor global_avg_pool(const Tensor& x) {
  VTL_CHECK(x.rank() == 4 && x.dim(1) > 0 && x.dim(2) > 0, "global_avg_pool: the input has shape ", x.shape(),
            ", expected [batch, height, width, channels] with at least one pixel");
  const kernels::AdaptivePool2dDims dims{x.dim(0), x.dim(1), x.dim(2), x.dim(3)};
  Tensor y = Tensor::empty({dims.batch, dims.channels}, x.dtype(), x.device());
  kernels::adaptive_average_pool2d_forward(stream(), x.dtype(), x.data(), y.data(), dims);
  record("global_avg_pool", {&y}, {&x}, [dims](Grads& g) {
    const Tensor dy = g.out();
    kernels::adaptive_average_pool2d_backward(stream(), dy.dtype(), dy.data(), g.dest(0), dims);
  });
  return y;
}

}  // namespace vtl::layers
