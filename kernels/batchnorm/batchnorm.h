// Batch normalisation over the rows of [rows, channels] (NHWC: rows = batch * height * width), with the activation and
// the residual sum that follow it (Ioffe, Szegedy 2015). Statistics and application are separate, forward and backward,
// so that processes can exchange what they have in between.
//
// Training, forward:   batchnorm_statistics, [gather moments], batchnorm_finish, batchnorm_apply.
// Training, backward:  batchnorm_backward_reduce, [sum `sums`], batchnorm_backward_apply.
// Frozen or inference: batchnorm_running_rstd, batchnorm_apply; batchnorm_frozen_backward.
#pragma once

#include <cstdint>

#include "vtl/core/dest.h"
#include "vtl/core/dtype.h"
#include "vtl/core/stream.h"
#include "vtl/kernels/activation_kind.h"

namespace vtl::kernels {

struct BatchNormDims {
  int64_t rows, channels;
};

// The pre-activation is z = (x - mean) * rstd * weight + bias + residual. All f32 [channels].
struct BatchNormScale {
  const float* mean;
  const float* rstd;
  const float* weight = nullptr;  // null: 1
  const float* bias = nullptr;    // null: 0
};

// What one process knows of its rows: mean[channels], m2[channels] = sum of (x - mean)^2, and the number of rows, all
// f32.
VTL_HOST_DEVICE constexpr int64_t batchnorm_moments_size(int64_t channels) { return 2 * channels + 1; }

// moments (f32 [batchnorm_moments_size]) of x, [rows, channels] dense. Safe for means far from zero.
// With n processes each writes its own part of a zeroed [n, size] buffer; a sum over processes then gathers all parts.
void batchnorm_statistics(Stream& stream, DType dtype, const void* x, float* moments, BatchNormDims dims);

struct BatchNormFinish {
  int64_t channels;
  int64_t parts;  // how many moments lie one after the other
  float eps;
  float momentum;  // of the newest batch, as in PyTorch: running = (1 - momentum) * running + momentum * batch
};

// Merges `parts` moments, in order, into mean and rstd = 1 / sqrt(biased variance + eps), and updates running_mean,
// running_var (with the unbiased variance) and num_batches_tracked (+ 1). Each of these three may be null. Without any
// row mean is 0, rstd = 1 / sqrt(eps), and the running values stay.
void batchnorm_finish(Stream& stream, const float* moments, float* mean, float* rstd, float* running_mean,
                      float* running_var, int64_t* num_batches_tracked, BatchNormFinish finish);

// rstd[c] = 1 / sqrt(running_var[c] + eps).
void batchnorm_running_rstd(Stream& stream, const float* running_var, float* rstd, int64_t channels, float eps);

// y = activation(z), y of `dtype`. residual (of `dtype`, [rows, channels]) may be null. y may be x or residual.
void batchnorm_apply(Stream& stream, DType dtype, const void* x, BatchNormScale scale, const void* residual,
                     Activation activation, void* y, BatchNormDims dims);

// What the forward pass kept, each of `dtype` [rows, channels].
struct BatchNormSaved {
  const void* x;
  const void* residual = nullptr;  // null: there was none, or y is given
  // Null: the activation's derivative is taken at z, recomputed from x and residual (the cheapest without a residual).
  // Given: it is taken from y instead. Only for none, relu, relu6 and sigmoid.
  const void* y = nullptr;
};

// With g = dy * activation'(z) and xhat = (x - mean) * rstd: sums = {sum_r g, sum_r g * xhat}, f32 [2, channels], and
// from them dbias and dweight (f32 [channels], this process's share only). `g` may be null; else g is written there, in
// `dtype`, and may be dy itself: then batchnorm_backward_apply takes it as dy with Activation::none. Sums are in an
// order fixed by dims.
void batchnorm_backward_reduce(Stream& stream, DType dtype, const void* dy, BatchNormSaved saved, BatchNormScale scale,
                               Activation activation, float* sums, Dest dweight, Dest dbias, void* g,
                               BatchNormDims dims);

// dx = weight * rstd * (g - sums[0] / total_rows - xhat * sums[1] / total_rows), dresidual = g, both of `dtype`;
// total_rows are those of all processes whose sums were added. dx.out or dresidual.out may be dy, not both. When
// dresidual is not wanted and activation is none, saved.residual and saved.y are not read.
void batchnorm_backward_apply(Stream& stream, DType dtype, const void* dy, BatchNormSaved saved, BatchNormScale scale,
                              Activation activation, const float* sums, int64_t total_rows, Dest dx, Dest dresidual,
                              BatchNormDims dims);

// Backward of batchnorm_apply with statistics that are constants: dx = g * weight * rstd, dresidual = g, dweight and
// dbias as above; each of the four may be unwanted. saved.x may be null when dweight is not wanted and either saved.y
// is given or the activation is none. dx.out or dresidual.out may be dy, not both.
void batchnorm_frozen_backward(Stream& stream, DType dtype, const void* dy, BatchNormSaved saved, BatchNormScale scale,
                               Activation activation, Dest dx, Dest dresidual, Dest dweight, Dest dbias,
                               BatchNormDims dims);

}  // namespace vtl::kernels
