#include "vtl/layers/batchnorm.h"

#include "vtl/core/context.h"
#include "vtl/core/communicator.h"
#include "vtl/core/error.h"
#include "vtl/core/tape.h"
#include "vtl/kernels/activation/activation.h"
#include "vtl/kernels/add/add.h"
#include "vtl/kernels/batchnorm/batchnorm.h"
#include "vtl/kernels/fold_batchnorm/fold_batchnorm.h"

namespace vtl::layers {
namespace {

using kernels::Activation;
using kernels::BatchNormDims;
using kernels::BatchNormSaved;
using kernels::BatchNormScale;

BatchNormDims rows_and_channels(const Tensor& x) {
  const int64_t channels = x.dim(-1);
  return {channels ? x.numel() / channels : 0, channels};
}

void check(const Tensor& x, const Tensor& weight, const Tensor& bias, const Tensor& residual) {
  VTL_CHECK(weight.numel() == x.dim(-1) && bias.numel() == x.dim(-1), "batchnorm: weight has ", weight.numel(), " values and bias ",
            bias.numel(), ", the input has ", x.dim(-1), " channels");
  VTL_CHECK(!residual.defined() || (residual.shape() == x.shape() && residual.dtype() == x.dtype()), "batchnorm: the residual has shape ",
            residual.defined() ? residual.shape() : Shape{}, ", the input ", x.shape());
}

// The derivative of the activation is cheapest from z recomputed out of x, unless a residual would have to be read as well.
bool saves_output(Activation activation, const Tensor& residual) {
  return residual.defined() && activation != Activation::none && kernels::activation_backward_takes_output(activation);
}

void hand_on(Grads& g, int input, const Tensor& gradient) {
  if (!g.pass(input, gradient))
    kernels::add_backward(stream(), gradient.dtype(), gradient.data(), g.dest(input), gradient.dtype(), {}, {1, gradient.numel()});
}

// What one process knows of its rows, or what all of them know.
struct Moments {
  Tensor values;
  int64_t parts;
};

Moments gather_moments(const Tensor& x, BatchNormDims dims) {
  const int64_t size = kernels::batchnorm_moments_size(dims.channels);
  Communicator* others = context().communicator;
  const int64_t parts = others ? others->size() : 1;
  Tensor all = Tensor::empty({parts, size}, DType::f32, x.device());
  if (others) all.zero();
  kernels::batchnorm_statistics(stream(), x.dtype(), x.data(), all.f32() + (others ? others->rank() * size : 0), dims);
  if (others) others->all_reduce_sum(stream(), all.f32(), all.numel());
  return {all, parts};
}

}  // namespace

BatchNorm::BatchNorm(int64_t channels, float eps_, float momentum_)
    : weight({channels}, Role::vector), bias({channels}, Role::vector), eps(eps_), momentum(momentum_) {}

void BatchNorm::visit(Visitor& v) {
  v("weight", weight);
  v("bias", bias);
  v.buffer("running_mean", running_mean);
  v.buffer("running_var", running_var);
  v.buffer("num_batches_tracked", num_batches_tracked);
}

Tensor batchnorm_training(const Tensor& x, const Tensor& weight, const Tensor& bias, const Tensor& running_mean,
                          const Tensor& running_var, const Tensor& num_batches_tracked, float eps, float momentum,
                          const Tensor& residual, Activation activation) {
  check(x, weight, bias, residual);
  const BatchNormDims dims = rows_and_channels(x);
  const Tensor mean = Tensor::empty({dims.channels}, DType::f32, x.device()), rstd = empty_like(mean);
  const Moments moments = gather_moments(x, dims);
  kernels::batchnorm_finish(stream(), moments.values.f32(), mean.f32(), rstd.f32(), running_mean.defined() ? running_mean.f32() : nullptr,
                            running_var.defined() ? running_var.f32() : nullptr,
                            num_batches_tracked.defined() ? num_batches_tracked.data_as<int64_t>() : nullptr,
                            {dims.channels, moments.parts, eps, momentum});
  Tensor y = empty_like(x);
  kernels::batchnorm_apply(stream(), x.dtype(), x.data(), {mean.f32(), rstd.f32(), weight.f32(), bias.f32()}, residual.data(), activation,
                           y.data(), dims);
  if (!learns(x, weight, bias, residual)) return y;
  const bool from_output = saves_output(activation, residual);
  record("batchnorm", {&y}, {&x, &weight, &bias, &residual},
         [x = x.value(), weight = weight.value(), bias = bias.value(), mean, rstd, residual = from_output ? Tensor() : residual.value(),
          y = from_output ? y.value() : Tensor(), activation, dims](Grads& g) {
           const BatchNormScale scale{mean.f32(), rstd.f32(), weight.f32(), bias.f32()};
           const BatchNormSaved saved{x.data(), residual.data(), y.data()};
           const Dest dweight = g.dest(1), dbias = g.dest(2);
           Tensor dy = g.out();
           const Tensor sums = Tensor::empty({2, dims.channels}, DType::f32, x.device());
           Activation rest = activation;
           if (g.wanted(3) && activation != Activation::none) {
             // The gradient behind the activation is that of the residual too: written once, used twice.
             const Tensor behind = empty_like(dy);
             kernels::batchnorm_backward_reduce(stream(), x.dtype(), dy.data(), saved, scale, activation, sums.f32(), dweight, dbias,
                                                behind.data(), dims);
             dy = behind;
             rest = Activation::none;
           } else {
             kernels::batchnorm_backward_reduce(stream(), x.dtype(), dy.data(), saved, scale, activation, sums.f32(), dweight, dbias,
                                                nullptr, dims);
           }
           int64_t total_rows = dims.rows;
           if (Communicator* others = context().communicator) {
             others->all_reduce_sum(stream(), sums.f32(), sums.numel());
             total_rows *= others->size();
           }
           if (const Dest dx = g.dest(0); dx.wanted())
             kernels::batchnorm_backward_apply(stream(), x.dtype(), dy.data(), saved, scale, rest, sums.f32(), total_rows, dx, {}, dims);
           hand_on(g, 3, dy);
         });
  return y;
}

Tensor batchnorm_frozen(const Tensor& x, const Tensor& weight, const Tensor& bias, const Tensor& running_mean, const Tensor& running_var,
                        float eps, const Tensor& residual, Activation activation) {
  check(x, weight, bias, residual);
  const BatchNormDims dims = rows_and_channels(x);
  const Tensor rstd = Tensor::empty({dims.channels}, DType::f32, x.device());
  kernels::batchnorm_running_rstd(stream(), running_var.f32(), rstd.f32(), dims.channels, eps);
  Tensor y = empty_like(x);
  kernels::batchnorm_apply(stream(), x.dtype(), x.data(), {running_mean.f32(), rstd.f32(), weight.f32(), bias.f32()}, residual.data(),
                           activation, y.data(), dims);
  if (!learns(x, weight, bias, residual)) return y;
  // The input is read again for the gradient of the weight, or where the output does not tell the activation's derivative.
  const bool needs_input = learns(weight) || !kernels::activation_backward_takes_output(activation);
  const bool from_output = !needs_input || saves_output(activation, residual);
  record("batchnorm_frozen", {&y}, {&x, &weight, &bias, &residual},
         [x = needs_input ? x.value() : Tensor(), dtype = x.dtype(), weight = weight.value(), bias = bias.value(), mean = running_mean, rstd,
          residual = from_output ? Tensor() : residual.value(), y = from_output && activation != Activation::none ? y.value() : Tensor(), activation, dims](Grads& g) {
           const Tensor dy = g.out();
           const Dest dx = g.dest(0), dweight = g.dest(1), dbias = g.dest(2);
           const bool pass_on = activation == Activation::none;
           const Dest dresidual = pass_on ? Dest{} : g.dest(3);
           kernels::batchnorm_frozen_backward(stream(), dtype, dy.data(), {x.data(), residual.data(), y.data()},
                                              {mean.f32(), rstd.f32(), weight.f32(), bias.f32()}, activation, dx, dresidual, dweight, dbias,
                                              dims);
           if (pass_on) hand_on(g, 3, dy);
         });
  return y;
}

Tensor batchnorm(const Tensor& x, const BatchNorm& layer, const Tensor& residual, Activation activation) {
  if (context().training && !layer.frozen) {
    ++layer.statistics_version;
    return batchnorm_training(x, layer.weight.value(), layer.bias.value(), layer.running_mean, layer.running_var,
                              layer.num_batches_tracked, layer.eps, layer.momentum, residual, activation);
  }
  return batchnorm_frozen(x, layer.weight.value(), layer.bias.value(), layer.running_mean, layer.running_var, layer.eps, residual,
                          activation);
}

namespace {

// A convolution with the constants of the normalisation multiplied in.
struct Folded {
  Tensor weight, bias;
  kernels::PackedWeightPtr forward, backward;
};

std::shared_ptr<const Folded> fold(const Shape& x, const Conv2d& conv, const BatchNorm& norm, bool backward) {
  auto folded = std::make_shared<Folded>();
  const Tensor& weight = conv.weight.value();
  const int64_t channels = conv.shape.out;
  folded->weight = empty_like(weight);
  folded->bias = Tensor::empty({channels}, DType::f32, weight.device());
  kernels::fold_batchnorm(stream(), weight.dtype(), weight.data(), conv.bias.present() ? conv.bias.value().f32() : nullptr,
                          {norm.running_mean.f32(), norm.running_var.f32(), norm.weight.value().f32(), norm.bias.value().f32()},
                          folded->weight.data(), folded->bias.f32(), {channels, weight.numel() / channels, norm.eps});
  const auto dims = conv2d_dims(x, conv.shape);
  folded->forward = kernels::conv2d_pack(stream(), dims, kernels::ConvDirection::forward, folded->weight.data(), weight.dtype());
  if (backward)
    folded->backward = kernels::conv2d_pack(stream(), dims, kernels::ConvDirection::backward_data, folded->weight.data(), weight.dtype());
  return folded;
}

}  // namespace

Tensor conv_bn(const Tensor& x, const Conv2d& conv, const BatchNorm& norm, const Tensor& residual, Activation activation) {
  const bool constant = (!context().training || norm.frozen) && conv.low_rank.empty() &&
                        !learns(conv.weight.value(), conv.bias.value(), norm.weight.value(), norm.bias.value());
  const bool passes_gradients = learns(x, residual);
  if (!constant || (passes_gradients && !kernels::activation_backward_takes_output(activation)))
    return batchnorm(conv2d(x, conv), norm, residual, activation);

  const uint64_t version = conv.weight.version() + norm.weight.version() + norm.bias.version() + norm.statistics_version;
  DerivedCache& cache = passes_gradients ? norm.folded_learning : norm.folded;
  const auto folded = cache.get<Folded>(version, [&] { return fold(x.shape(), conv, norm, passes_gradients); });
  const auto dims = conv2d_dims(x.shape(), conv.shape);
  Tensor y = Tensor::empty({dims.batch, dims.out_h(), dims.out_w(), dims.out_channels}, x.dtype(), x.device());
  kernels::conv2d_forward(stream(), dims, x.data(), x.dtype(), folded->weight.data(), folded->weight.dtype(), y.data(), y.dtype(),
                          {.bias = folded->bias.f32(), .residual = residual.data(), .activation = activation}, folded->forward.get());
  if (passes_gradients)
    record("conv_bn", {&y}, {&x, &residual},
           [folded, y = activation == Activation::none ? Tensor() : y.value(), dtype = x.dtype(), activation, dims](Grads& g) {
             Tensor dy = g.out();
             if (activation != Activation::none) {
               const Tensor behind = empty_like(dy);
               kernels::activation_backward(stream(), dtype, activation, dy.data(), nullptr, nullptr, y.data(), {behind.data(), nullptr}, {},
                                            {1, dy.numel()});
               dy = behind;
             }
             if (const Dest dx = g.dest(0); dx.wanted())
               kernels::conv2d_backward_data(stream(), dims, dy.data(), dtype, folded->weight.data(), folded->weight.dtype(), dx, dtype,
                                             folded->backward.get());
             hand_on(g, 1, dy);
           });
  return y;
}

}  // namespace vtl::layers
