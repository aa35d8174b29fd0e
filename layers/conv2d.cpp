#include "vtl/layers/conv2d.h"

#include "vtl/core/error.h"
#include "vtl/core/tape.h"
#include "vtl/kernels/gemm/gemm.h"

namespace vtl::layers {
namespace {

using kernels::Conv2dDims;
using kernels::Transpose;

Shape output_shape(const Conv2dDims& d) { return {d.batch, d.out_h(), d.out_w(), d.out_channels}; }

struct Packed {
  kernels::PackedWeightPtr forward, backward;
};

// An adapter as its tensors, for one call: a convolution of the layer's own shape to `rank` channels, then a 1x1.
struct Adapter {
  Tensor a, b;
  float scale;
};

Tensor run(const Tensor& x, const Tensor& weight, const Tensor& bias, std::span<const Adapter> adapters, const Conv2dShape& shape,
           const Packed& packed) {
  const Conv2dDims dims = conv2d_dims(x.shape(), shape);
  VTL_CHECK(weight.shape() == Shape({shape.out, shape.kernel, shape.kernel, shape.in / shape.groups}), "conv2d: weight has shape ",
            weight.shape(), ", expected [", shape.out, ", ", shape.kernel, ", ", shape.kernel, ", ", shape.in / shape.groups, "]");
  VTL_CHECK(weight.dtype() == x.dtype(), "conv2d: the input holds ", name(x.dtype()), ", the weight ", name(weight.dtype()));

  Tensor y = Tensor::empty(output_shape(dims), x.dtype(), x.device());
  kernels::conv2d_forward(stream(), dims, x.data(), x.dtype(), weight.data(), weight.dtype(), y.data(), y.dtype(),
                          {.bias = bias.defined() ? bias.f32() : nullptr}, packed.forward.get());
  const int64_t pixels = dims.batch * dims.out_h() * dims.out_w();
  std::vector<Tensor> inner;
  const auto inner_dims = [dims](int64_t rank) {
    Conv2dDims d = dims;
    d.out_channels = rank;
    return d;
  };
  for (const auto& adapter : adapters) {
    const int64_t rank = adapter.a.dim(0);
    Tensor u = Tensor::empty({pixels, rank}, x.dtype(), x.device());
    kernels::conv2d_forward(stream(), inner_dims(rank), x.data(), x.dtype(), adapter.a.data(), adapter.a.dtype(), u.data(), u.dtype());
    kernels::gemm(stream(), {u.data(), u.dtype(), rank}, {adapter.b.data(), adapter.b.dtype(), rank, Transpose::yes},
                  {y.data(), y.dtype(), shape.out}, {pixels, shape.out, rank}, adapter.scale, {.residual = y.data()});
    inner.push_back(std::move(u));
  }

  std::vector<const Tensor*> inputs{&x, &weight, &bias};
  for (const auto& adapter : adapters) inputs.insert(inputs.end(), {&adapter.a, &adapter.b});
  if (!learns(std::span<const Tensor* const>(inputs))) return y;
  // Only the gradients of weights read the input again.
  const bool needs_input = learns(weight, bias) || !adapters.empty();
  record("conv2d", {&y}, inputs,
         [x = needs_input ? x.value() : Tensor(), dtype = x.dtype(), weight = weight.value(), adapters = std::vector<Adapter>(adapters.begin(), adapters.end()), inner, dims,
          inner_dims, pixels, packed](Grads& g) {
           const Tensor dy = g.out();
           const Dest dweight = g.dest(1), dbias = g.dest(2);
           if (dweight.wanted() || dbias.wanted())
             kernels::conv2d_backward_weight(stream(), dims, x.data(), dtype, dy.data(), dy.dtype(), dweight, dbias);
           const Dest dx = g.dest(0);
           if (dx.wanted())
             kernels::conv2d_backward_data(stream(), dims, dy.data(), dy.dtype(), weight.data(), weight.dtype(), dx, dtype,
                                           packed.backward.get());
           for (size_t i = 0; i < adapters.size(); ++i) {
             const auto& adapter = adapters[i];
             const int64_t rank = adapter.a.dim(0), out = dims.out_channels;
             const int index = 3 + 2 * static_cast<int>(i);
             if (const Dest db = g.dest(index + 1); db.wanted())
               kernels::gemm(stream(), {dy.data(), dy.dtype(), out, Transpose::yes}, {inner[i].data(), inner[i].dtype(), rank},
                             {db.out, DType::f32, rank}, {out, rank, pixels}, adapter.scale, {.residual = db.addend});
             const Dest da = g.dest(index);
             if (!da.wanted() && !dx.wanted()) continue;
             Tensor du = empty_like(inner[i]);
             kernels::gemm(stream(), {dy.data(), dy.dtype(), out}, {adapter.b.data(), adapter.b.dtype(), rank},
                           {du.data(), du.dtype(), rank}, {pixels, rank, out}, adapter.scale);
             if (da.wanted())
               kernels::conv2d_backward_weight(stream(), inner_dims(rank), x.data(), dtype, du.data(), du.dtype(), da, {});
             if (dx.wanted())
               kernels::conv2d_backward_data(stream(), inner_dims(rank), du.data(), du.dtype(), adapter.a.data(), adapter.a.dtype(),
                                             {dx.out, dx.out}, dtype);
           }
         });
  return y;
}

}  // namespace

Conv2d::Conv2d(const Conv2dShape& s, Linear::Bias with_bias)
    : shape(s), weight({s.out, s.kernel, s.kernel, s.in / s.groups}, Role::matrix, FileLayout::oihw) {
  if (with_bias == Linear::Bias::yes) bias = Parameter({s.out}, Role::vector);
}

void Conv2d::visit(Visitor& v) {
  v("weight", weight);
  v("bias", bias);
  for (auto& adapter : low_rank) v("", adapter);
}

Conv2dDims conv2d_dims(const Shape& x, const Conv2dShape& s) {
  VTL_CHECK(x.rank() == 4, "conv2d: the input has shape ", x, ", expected [batch, height, width, channels]");
  VTL_CHECK(x[3] == s.in, "conv2d: the input has ", x[3], " channels, the weight expects ", s.in);
  Conv2dDims d{.batch = x[0], .in_h = x[1], .in_w = x[2], .in_channels = s.in, .out_channels = s.out, .kernel_h = s.kernel, .kernel_w = s.kernel};
  d.stride_h = d.stride_w = s.stride;
  d.dilation_h = d.dilation_w = s.dilation;
  d.groups = s.groups;
  if (s.padding == Padding::symmetric) {
    d.pad_top = d.pad_bottom = d.pad_left = d.pad_right = s.pad;
  } else {
    const auto total = [&](int64_t extent) {
      const int64_t out = (extent + s.stride - 1) / s.stride;
      return std::max<int64_t>((out - 1) * s.stride + (s.kernel - 1) * s.dilation + 1 - extent, 0);
    };
    d.pad_top = total(d.in_h) / 2;
    d.pad_bottom = total(d.in_h) - d.pad_top;
    d.pad_left = total(d.in_w) / 2;
    d.pad_right = total(d.in_w) - d.pad_left;
  }
  const int64_t reach = s.dilation * (s.kernel - 1) + 1;
  VTL_CHECK(d.in_h + d.pad_top + d.pad_bottom >= reach && d.in_w + d.pad_left + d.pad_right >= reach, "conv2d: an input of ", d.in_h,
            " x ", d.in_w, " is smaller than the kernel of ", s.kernel, "; use a larger input size");
  return d;
}

Tensor conv2d(const Tensor& x, const Tensor& weight, const Tensor& bias, const Conv2dShape& shape) {
  return run(x, weight, bias, {}, shape, {});
}

Tensor conv2d(const Tensor& x, const Conv2d& layer) {
  Packed packed;
  if (!layer.weight.learns()) {
    const Tensor& weight = layer.weight.value();
    const auto pack = [&](kernels::ConvDirection direction) {
      return [&, direction] {
        return kernels::conv2d_pack(stream(), conv2d_dims(x.shape(), layer.shape), direction, weight.data(), weight.dtype());
      };
    };
    packed.forward = layer.weight.packed_forward().get<kernels::PackedWeight>(layer.weight.version(), pack(kernels::ConvDirection::forward));
    if (learns(x))
      packed.backward =
          layer.weight.packed_backward().get<kernels::PackedWeight>(layer.weight.version(), pack(kernels::ConvDirection::backward_data));
  }
  std::vector<Adapter> adapters;
  for (const auto& low_rank : layer.low_rank) adapters.push_back({low_rank.a.value(), low_rank.b.value(), low_rank.scale});
  return run(x, layer.weight.value(), layer.bias.value(), adapters, layer.shape, packed);
}

}  // namespace vtl::layers
