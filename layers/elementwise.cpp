#include "vtl/layers/elementwise.h"

#include "vtl/core/context.h"
#include "vtl/core/error.h"
#include "vtl/core/tape.h"
#include "vtl/kernels/activation/activation.h"
#include "vtl/kernels/add/add.h"
#include "vtl/kernels/scale/scale.h"

namespace vtl::layers {
namespace {

void check_same(const char* op, const Tensor& a, const Tensor& b) {
  VTL_CHECK(a.shape() == b.shape() && a.dtype() == b.dtype(), op, ": shapes ", a.shape(), " ", name(a.dtype()), " and ", b.shape(), " ",
            name(b.dtype()), " differ");
}

kernels::LayerScaleDims rows_and_cols(const Tensor& x) {
  const int64_t cols = x.dim(-1);
  return {cols ? x.numel() / cols : 0, cols};
}

}  // namespace

Tensor activation(const Tensor& x, kernels::Activation kind) {
  const kernels::ActivationDims dims{1, x.numel()};
  Tensor y = empty_like(x);
  kernels::activation_forward(stream(), x.dtype(), kind, x.data(), nullptr, y.data(), dims);
  const bool from_output = kernels::activation_backward_takes_output(kind);
  if (learns(x))
    record("activation", {&y}, {&x}, [kept = from_output ? y.value() : x.value(), kind, from_output, dims](Grads& g) {
      const Tensor& dy = g.out();
      const void* upstream = dy.data();
      const DType dtype = dy.dtype();
      kernels::activation_backward(stream(), dtype, kind, upstream, from_output ? nullptr : kept.data(), nullptr,
                                   from_output ? kept.data() : nullptr, g.dest_over_out(0), {}, dims);
    });
  return y;
}

Tensor add(const Tensor& a, const Tensor& b) {
  check_same("add", a, b);
  const kernels::AddDims dims{1, a.numel()};
  Tensor y = empty_like(a);
  kernels::add_forward(stream(), a.dtype(), a.data(), b.dtype(), b.data(), y.data(), dims);
  record("add", {&y}, {&a, &b}, [dims](Grads& g) {
    const Tensor dy = g.out();
    for (const int i : {0, 1})
      if (!g.pass(i, dy)) kernels::add_backward(stream(), dy.dtype(), dy.data(), g.dest(i), dy.dtype(), {}, dims);
  });
  return y;
}

Tensor scale(const Tensor& x, float factor) {
  Tensor y = empty_like(x);
  kernels::scale_forward(stream(), x.dtype(), x.data(), factor, y.data(), x.numel());
  record("scale", {&y}, {&x}, [factor](Grads& g) {
    const DType dtype = g.out().dtype();
    const int64_t count = g.out().numel();
    const void* upstream = g.out().data();
    kernels::scale_backward(stream(), dtype, upstream, factor, g.dest_over_out(0), count);
  });
  return y;
}

Tensor layer_scale(const Tensor& x, const Tensor& gamma, const Tensor& residual) {
  if (residual.defined()) check_same("layer_scale", x, residual);
  const auto dims = rows_and_cols(x);
  VTL_CHECK(gamma.numel() == dims.cols, "layer_scale: gamma has ", gamma.numel(), " values, input rows have ", dims.cols);
  Tensor y = empty_like(x);
  kernels::layer_scale_forward(stream(), x.dtype(), x.data(), gamma.f32(), residual.data(), y.data(), dims);
  if (learns(x, gamma, residual))
    record("layer_scale", {&y}, {&x, &gamma, &residual},
           [x = learns(gamma) ? x.value() : Tensor(), gamma = gamma.value(), dims](Grads& g) {
             const Tensor dy = g.out();
             const Dest dx = g.dest(0), dgamma = g.dest(1);
             kernels::layer_scale_backward(stream(), dy.dtype(), dy.data(), x.data(), gamma.f32(), dx, dgamma, dims);
             if (!g.pass(2, dy))
               kernels::add_backward(stream(), dy.dtype(), dy.data(), g.dest(2), dy.dtype(), {}, {1, dims.rows * dims.cols});
           });
  return y;
}

Tensor gate(const Tensor& x, const Tensor& gates) {
  VTL_CHECK(x.rank() == 4 && gates.numel() == x.dim(0) * x.dim(3) && gates.dtype() == x.dtype(), "gate: gates ", gates.shape(),
            " for an input ", x.shape(), ", expected [batch, channels]");
  const kernels::GateDims dims{x.dim(0), x.dim(1) * x.dim(2), x.dim(3)};
  Tensor y = empty_like(x);
  kernels::gate_forward(stream(), x.dtype(), x.data(), gates.data(), y.data(), dims);
  if (learns(x, gates))
    record("gate", {&y}, {&x, &gates}, [x = learns(gates) ? x.value() : Tensor(), gates = gates.value(), dims](Grads& g) {
      const Tensor dy = g.out();
      const Dest dx = g.dest(0), dgate = g.dest(1);
      kernels::gate_backward(stream(), dy.dtype(), dy.data(), x.data(), gates.data(), dx, dgate, dims);
    });
  return y;
}

}  // namespace vtl::layers
