#include "vtl/layers/attention.h"

#include <cmath>

#include "vtl/core/context.h"
#include "vtl/core/error.h"
#include "vtl/core/tape.h"
#include "vtl/kernels/attention/attention.h"

namespace vtl::layers {
namespace {

using kernels::HeadDest;
using kernels::HeadStrides;
using kernels::HeadView;

const void* element(const void* data, DType dtype, int64_t index) {
  return data ? static_cast<const char*>(data) + index * static_cast<int64_t>(size_of(dtype)) : nullptr;
}

}  // namespace

Tensor self_attention(const Tensor& qkv, int64_t heads) {
  VTL_CHECK(qkv.rank() == 3 && heads > 0 && qkv.dim(2) % (3 * heads) == 0, "self_attention: qkv has shape ", qkv.shape(),
            ", expected [batch, tokens, 3 * ", heads, " heads * head_dim]");
  const int64_t batch = qkv.dim(0), tokens = qkv.dim(1), width = qkv.dim(2) / 3, head_dim = width / heads;
  const kernels::AttentionDims dims{batch, heads, tokens, tokens, head_dim, 1.0f / std::sqrt(static_cast<float>(head_dim))};
  const HeadStrides packed{tokens * 3 * width, head_dim, 3 * width};
  const HeadStrides dense = HeadStrides::token_major(tokens, heads, head_dim);
  const auto part = [=](const Tensor& t, int64_t which) { return HeadView{element(t.data(), t.dtype(), which * width), packed}; };

  Tensor out = Tensor::empty({batch, tokens, width}, qkv.dtype(), qkv.device());
  const bool learning = learns(qkv);
  const Tensor lse = learning ? Tensor::empty({batch, heads, tokens}, DType::f32, qkv.device()) : Tensor();
  kernels::attention_forward(stream(), qkv.dtype(), part(qkv, 0), part(qkv, 1), part(qkv, 2), {}, {}, out.data(), dense,
                             learning ? lse.f32() : nullptr, dims);
  if (learning)
    record("self_attention", {&out}, {&qkv}, [=, qkv = qkv.value(), out = out.value()](Grads& g) {
      const Tensor dout = g.out();
      const Dest dqkv = g.dest(0);
      const auto grad = [&](int64_t which) {
        return HeadDest{{const_cast<void*>(element(dqkv.out, qkv.dtype(), which * width)), element(dqkv.addend, qkv.dtype(), which * width)},
                        packed};
      };
      kernels::attention_backward(stream(), qkv.dtype(), {dout.data(), dense}, part(qkv, 0), part(qkv, 1), part(qkv, 2),
                                  {out.data(), dense}, lse.f32(), {}, {}, grad(0), grad(1), grad(2), {}, dims);
    });
  return out;
}

}  // namespace vtl::layers
