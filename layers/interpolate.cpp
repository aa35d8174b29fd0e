#include "vtl/layers/interpolate.h"

#include "vtl/core/context.h"
#include "vtl/core/error.h"
#include "vtl/core/tape.h"

namespace vtl::layers {

Tensor interpolate(const Tensor& x, int64_t out_height, int64_t out_width, kernels::Interpolation filter,
                   kernels::Antialias antialias) {
  VTL_CHECK(x.rank() == 4 && x.numel() > 0 && out_height > 0 && out_width > 0, "interpolate: input ", x.shape(), " to ",
            out_height, " x ", out_width, ", expected [batch, height, width, channels] and sizes above zero");
  const kernels::InterpolateDims dims{x.dim(0), x.dim(1), x.dim(2), x.dim(3), out_height, out_width};
  Tensor y = Tensor::empty({x.dim(0), out_height, out_width, x.dim(3)}, x.dtype(), x.device());
  kernels::interpolate_forward(stream(), x.dtype(), x.data(), y.data(), filter, antialias, dims);
  record("interpolate", {&y}, {&x}, [filter, antialias, dims](Grads& g) {
    const Tensor dy = g.out();
    kernels::interpolate_backward(stream(), dy.dtype(), dy.data(), g.dest(0), filter, antialias, dims);
  });
  return y;
}

}  // namespace vtl::layers
