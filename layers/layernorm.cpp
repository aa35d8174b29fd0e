#include "vtl/layers/layernorm.h"

#include "vtl/core/error.h"
#include "vtl/core/tape.h"
#include "vtl/kernels/layernorm/layernorm.h"

namespace vtl::layers {

LayerNorm::LayerNorm(int64_t cols, float eps_) : weight({cols}, Role::vector), bias({cols}, Role::vector), eps(eps_) {}

void LayerNorm::visit(Visitor& v) {
  v("weight", weight);
  v("bias", bias);
}

Tensor layernorm(const Tensor& x, const LayerNorm& layer) {
  return layernorm(x, layer.weight.value(), layer.bias.value(), layer.eps);
}

Tensor layernorm(const Tensor& x, const Tensor& weight, const Tensor& bias, float eps) {
  const int64_t cols = x.dim(-1);
  VTL_CHECK(weight.numel() == cols, "layernorm: weight has ", weight.numel(), " values, input rows have ", cols);
  VTL_CHECK(bias.numel() == cols, "layernorm: bias has ", bias.numel(), " values, input rows have ", cols);
  const kernels::LayerNormDims dims{cols ? x.numel() / cols : 0, cols, eps};
  Tensor y = empty_like(x), mean, rstd;
  const bool learning = learns(x, weight, bias);
  if (learning) {
    mean = Tensor::empty({dims.rows}, DType::f32, x.device());
    rstd = empty_like(mean);
  }
  kernels::layernorm_forward(stream(), x.dtype(), x.data(), weight.f32(), bias.f32(), y.data(),
                             learning ? mean.f32() : nullptr, learning ? rstd.f32() : nullptr, dims);
  if (learning)
    record("layernorm", {&y}, {&x, &weight, &bias}, [x = x.value(), weight = weight.value(), mean, rstd, dims](Grads& g) {
      const Tensor dy = g.out();
      const Dest dx = g.dest(0), dweight = g.dest(1), dbias = g.dest(2);
      kernels::layernorm_backward(stream(), x.dtype(), dy.data(), x.data(), weight.f32(), mean.f32(), rstd.f32(), dx, dweight,
                                  dbias, dims);
    });
  return y;
}

}  // namespace vtl::layers
