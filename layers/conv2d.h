// 2-D convolution over NHWC activations.
#pragma once

#include <vector>

#include "vtl/core/tensor.h"
#include "vtl/kernels/activation_kind.h"
#include "vtl/kernels/conv2d/conv2d.h"
#include "vtl/layers/linear.h"
#include "vtl/layers/parameter.h"

namespace vtl::layers {

// symmetric: `pad` on every side. same: TensorFlow's SAME, out = ceil(in / stride), the odd pixel of padding at the bottom and
// right; it depends on the input's size.
enum class Padding { symmetric, same };

struct Conv2dShape {
  int64_t in, out, kernel = 1, stride = 1, pad = 0, dilation = 1, groups = 1;
  Padding padding = Padding::symmetric;
};

struct Conv2d {
  Conv2dShape shape{};
  Parameter weight;  // [out, kernel, kernel, in / groups]; files hold [out, in / groups, kernel, kernel]
  Parameter bias;    // [out] or absent
  std::vector<LowRank> low_rank;

  Conv2d() = default;
  explicit Conv2d(const Conv2dShape& shape, Linear::Bias bias = Linear::Bias::no);
  void visit(Visitor& v);
};

// x: [batch, height, width, in] -> [batch, out_height, out_width, out].
Tensor conv2d(const Tensor& x, const Conv2d& layer);
// The same from tensors: weight [out, kernel, kernel, in / groups] of x's dtype, bias f32 [out] or undefined.
Tensor conv2d(const Tensor& x, const Tensor& weight, const Tensor& bias, const Conv2dShape& shape);

// The kernel's dimensions for an input of shape [batch, height, width, in]. Throws when they do not fit.
kernels::Conv2dDims conv2d_dims(const Shape& x, const Conv2dShape& shape);

}  // namespace vtl::layers
