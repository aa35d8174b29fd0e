// Batch normalisation over all but the last dimension (Ioffe, Szegedy 2015), with the activation and the residual sum that
// follow it in one pass, and fused into the convolution before it where nothing learns.
#pragma once

#include "vtl/core/tensor.h"
#include "vtl/kernels/activation_kind.h"
#include "vtl/layers/conv2d.h"
#include "vtl/layers/parameter.h"

namespace vtl::layers {

struct BatchNorm {
  Parameter weight, bias;             // [channels]
  Tensor running_mean, running_var;   // f32 [channels]
  Tensor num_batches_tracked;         // i64 scalar
  float eps = 1e-5f, momentum = 0.1f;
  // Running statistics in training too, and they are not updated.
  bool frozen = false;
  // Raised by whoever writes the running statistics.
  mutable uint64_t statistics_version = 1;
  // The convolution before it with these statistics multiplied in: for inference, and where only gradients pass through.
  mutable DerivedCache folded, folded_learning;

  BatchNorm() = default;
  BatchNorm(int64_t channels, float eps, float momentum);
  void visit(Visitor& v);
};

// activation(batchnorm(x) + residual). In training (context) and unless frozen: batch statistics, and the running ones move by
// momentum; otherwise running statistics. `residual` may be undefined.
Tensor batchnorm(const Tensor& x, const BatchNorm& layer, const Tensor& residual = {},
                 kernels::Activation activation = kernels::Activation::none);

// The same from tensors, with batch statistics: running_mean, running_var and num_batches_tracked move when defined.
Tensor batchnorm_training(const Tensor& x, const Tensor& weight, const Tensor& bias, const Tensor& running_mean,
                          const Tensor& running_var, const Tensor& num_batches_tracked, float eps, float momentum,
                          const Tensor& residual = {}, kernels::Activation activation = kernels::Activation::none);
// The same from tensors, with running statistics.
Tensor batchnorm_frozen(const Tensor& x, const Tensor& weight, const Tensor& bias, const Tensor& running_mean,
                        const Tensor& running_var, float eps, const Tensor& residual = {},
                        kernels::Activation activation = kernels::Activation::none);

// activation(batchnorm(conv2d(x)) + residual); one fused convolution when running statistics are used and nothing learns.
Tensor conv_bn(const Tensor& x, const Conv2d& conv, const BatchNorm& norm, const Tensor& residual = {},
               kernels::Activation activation = kernels::Activation::none);

}  // namespace vtl::layers
