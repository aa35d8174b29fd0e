#include "vtl/kernels/conv2d/conv2d_onednn.h"

#include <cstring>

#include "vtl/kernels/add/add.h"
#include "vtl/kernels/cpu/onednn.h"
#include "vtl/kernels/gemm/activate_rows.h"

namespace vtl::kernels::onednn {
namespace {

using Dims = dnnl::memory::dims;
using Tag = dnnl::memory::format_tag;

Md input_layout(const Conv2dDims& d, DType dtype) {
  return {{d.batch, d.in_channels, d.in_h, d.in_w}, type(dtype), Tag::nhwc};
}
Md output_layout(const Conv2dDims& d, DType dtype) {
  return {{d.batch, d.out_channels, d.out_h(), d.out_w()}, type(dtype), Tag::nhwc};
}
Md channel_layout(const Conv2dDims& d) { return {{1, d.out_channels, 1, 1}, type(DType::f32), Tag::nhwc}; }

enum class WeightOrder { ours, best };  // OHWI, or what oneDNN likes

Md weight_layout(const Conv2dDims& d, DType dtype, WeightOrder order) {
  const int64_t out = d.out_channels / d.groups, in = d.in_channels / d.groups;
  if (d.groups == 1)
    return {{out, in, d.kernel_h, d.kernel_w}, type(dtype), order == WeightOrder::ours ? Tag::ohwi : Tag::any};
  if (order == WeightOrder::best) return {{d.groups, out, in, d.kernel_h, d.kernel_w}, type(dtype), Tag::any};
  const int64_t row = d.kernel_w * in, filter = d.kernel_h * row;
  return {{d.groups, out, in, d.kernel_h, d.kernel_w}, type(dtype), Dims{out * filter, filter, 1, row, in}};
}

struct Geometry {
  Dims strides, dilates, pad_begin, pad_end;

  explicit Geometry(const Conv2dDims& d)
      : strides{d.stride_h, d.stride_w},
        dilates{d.dilation_h - 1, d.dilation_w - 1},
        pad_begin{d.pad_top, d.pad_left},
        pad_end{d.pad_bottom, d.pad_right} {}
};

Key key_of(char kind, const Conv2dDims& d, DType in, DType out) {
  Key key(kind);
  key.add(d.batch).add(d.in_h).add(d.in_w).add(d.in_channels).add(d.out_channels).add(d.kernel_h).add(d.kernel_w);
  key.add(d.stride_h).add(d.stride_w).add(d.pad_top).add(d.pad_bottom).add(d.pad_left).add(d.pad_right);
  key.add(d.dilation_h).add(d.dilation_w).add(d.groups).add(in).add(out);
  return key;
}

constexpr auto kDirect = dnnl::algorithm::convolution_direct;

#if DNNL_VERSION_MAJOR >= 3
auto forward_description(const Conv2dDims& d, const Md& src, const Md& weights, const Md& bias, const Md& dst,
                         const dnnl::primitive_attr& attr) {
  const Geometry g(d);
  return dnnl::convolution_forward::primitive_desc(engine(), dnnl::prop_kind::forward_training, kDirect, src, weights,
                                                   bias, dst, g.strides, g.dilates, g.pad_begin, g.pad_end, attr);
}
#else
auto forward_description(const Conv2dDims& d, const Md& src, const Md& weights, const Md& bias, const Md& dst,
                         const dnnl::primitive_attr& attr) {
  const Geometry g(d);
  return dnnl::convolution_forward::primitive_desc(
      dnnl::convolution_forward::desc(dnnl::prop_kind::forward_training, kDirect, src, weights, bias, dst, g.strides,
                                      g.dilates, g.pad_begin, g.pad_end),
      attr, engine());
}
#endif

dnnl::primitive_attr user_scratchpad() {
  dnnl::primitive_attr attr;
  attr.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  return attr;
}

Compiled make_forward(const Conv2dDims& d, DType in, DType out, const Md& weights, const PostOps& post_ops) {
  const Md dst = output_layout(d, out), channel = channel_layout(d);
  const Md bias = post_ops.native_bias() ? Md({d.out_channels}, type(DType::f32), Tag::a) : Md();
  const auto pd = forward_description(d, input_layout(d, in), weights, bias, dst, post_ops.attributes(channel, dst));
  return compile(pd, static_cast<dnnl::convolution_forward*>(nullptr), pd.src_desc(), pd.weights_desc(), pd.dst_desc());
}

// Of the operands in the order in which oneDNN names them; it wants a forward description as a hint.
template <class Backward>
typename Backward::primitive_desc backward_description(const Conv2dDims& d, const Md& first, const Md& second,
                                                       const Md& third,
                                                       const dnnl::convolution_forward::primitive_desc& hint) {
  const Geometry g(d);
  const auto attr = user_scratchpad();
#if DNNL_VERSION_MAJOR >= 3
  return {engine(), kDirect, first, second, third, g.strides, g.dilates, g.pad_begin, g.pad_end, hint, attr};
#else
  return {typename Backward::desc(kDirect, first, second, third, g.strides, g.dilates, g.pad_begin, g.pad_end), attr,
          engine(), hint};
#endif
}

Compiled make_backward_data(const Conv2dDims& d, DType in, DType out, const Md& weights) {
  using Backward = dnnl::convolution_backward_data;
  const Md diff_dst = output_layout(d, in);
  const auto hint = forward_description(d, input_layout(d, in), weight_layout(d, in, WeightOrder::best), Md(), diff_dst,
                                        user_scratchpad());
  const auto pd = backward_description<Backward>(d, input_layout(d, out), weights, diff_dst, hint);
  return compile(pd, static_cast<Backward*>(nullptr), pd.diff_dst_desc(), pd.weights_desc(), pd.diff_src_desc());
}

Compiled make_backward_weight(const Conv2dDims& d, DType dtype) {
  using Backward = dnnl::convolution_backward_weights;
  const Md src = input_layout(d, dtype), diff_dst = output_layout(d, dtype);
  const auto hint =
      forward_description(d, src, weight_layout(d, dtype, WeightOrder::best), Md(), diff_dst, user_scratchpad());
  const auto pd = backward_description<Backward>(d, src, weight_layout(d, DType::f32, WeightOrder::best), diff_dst, hint);
  return compile(pd, static_cast<Backward*>(nullptr), pd.src_desc(), pd.diff_weights_desc(), pd.diff_dst_desc());
}

// The weight in the layout that `compiled` wants: packed before, packed now into `scratch`, or as it is.
const void* prepared_weight(const Conv2dDims& d, DType dtype, const Key& key, const Compiled& compiled, const void* w,
                            const PackedMemory* packed, const Scratch& scratch) {
  if (packed && packed->layout == compiled.weights) return packed->data;
  const Md ours = weight_layout(d, dtype, WeightOrder::ours);
  if (compiled.weights == ours) return w;
  reorder(key, ours, w, compiled.weights, scratch.data());
  return scratch.data();
}

}  // namespace

bool try_conv2d_forward(Stream& stream, const Conv2dDims& d, const void* x, DType x_dtype, const void* w, DType w_dtype,
                        void* y, DType y_dtype, const Epilogue& epilogue, const PackedWeight* packed) {
  const PostOps post_ops(epilogue, y, 1);
  // Groups that do not fill its blocks of channels lose their binary post-ops in oneDNN 2.6 (seen with AVX2).
  if (d.groups > 1 && d.out_channels / d.groups % 16 != 0 &&
      (post_ops.scale || (post_ops.residual && !post_ops.in_place)))
    return false;
  Key key = key_of('f', d, x_dtype, y_dtype);
  post_ops.add_to(key);
  const auto compiled = PrimitiveCache::instance().get(
      key, [&] { return make_forward(d, x_dtype, y_dtype, weight_layout(d, w_dtype, WeightOrder::best), post_ops); });
  if (!*compiled) return false;

  const Scratch scratch = stream.scratch(compiled->weights.get_size());
  const void* weight =
      prepared_weight(d, w_dtype, key, *compiled, w, dynamic_cast<const PackedMemory*>(packed), scratch);
  void* const out = epilogue.preactivation ? epilogue.preactivation : y;
  Arguments arguments{{DNNL_ARG_SRC, memory(compiled->src, x)},
                      {DNNL_ARG_WEIGHTS, memory(compiled->weights, weight)},
                      {DNNL_ARG_DST, memory(compiled->dst, out)}};
  post_ops.add_to(arguments, epilogue, channel_layout(d), compiled->dst);
  if (post_ops.native_bias())
    arguments[DNNL_ARG_BIAS] = memory(Md({d.out_channels}, type(DType::f32), Tag::a), epilogue.bias);
  execute(stream, *compiled, std::move(arguments));
  if (epilogue.preactivation)
    activate_rows(stream, epilogue.activation, y_dtype, out, y, d.batch * d.out_h() * d.out_w(), d.out_channels,
                  d.out_channels);
  return true;
}

bool try_conv2d_backward_data(Stream& stream, const Conv2dDims& d, const void* dy, DType dy_dtype, const void* w,
                              DType w_dtype, Dest dx, DType dx_dtype, const PackedWeight* packed) {
  const Key key = key_of('d', d, dy_dtype, dx_dtype);
  const auto compiled = PrimitiveCache::instance().get(
      key, [&] { return make_backward_data(d, dy_dtype, dx_dtype, weight_layout(d, w_dtype, WeightOrder::best)); });
  if (!*compiled) return false;
  const Scratch scratch = stream.scratch(compiled->weights.get_size());
  const void* weight =
      prepared_weight(d, w_dtype, key, *compiled, w, dynamic_cast<const PackedMemory*>(packed), scratch);
  // oneDNN cannot add to what is there.
  const Scratch value = stream.scratch(dx.addend ? compiled->dst.get_size() : 0);
  void* const out = dx.addend ? value.data() : dx.out;
  execute(stream, *compiled,
          {{DNNL_ARG_DIFF_DST, memory(compiled->src, dy)},
           {DNNL_ARG_WEIGHTS, memory(compiled->weights, weight)},
           {DNNL_ARG_DIFF_SRC, memory(compiled->dst, out)}});
  if (dx.addend)
    add_forward(stream, dx_dtype, dx.addend, dx_dtype, out, dx.out, {1, d.batch * d.in_h * d.in_w * d.in_channels});
  return true;
}

bool try_conv2d_backward_weight(Stream& stream, const Conv2dDims& d, const void* x, const void* dy, DType dtype,
                                Dest dweight) {
  const Key key = key_of('w', d, dtype, DType::f32);
  const auto compiled = PrimitiveCache::instance().get(key, [&] { return make_backward_weight(d, dtype); });
  if (!*compiled) return false;
  const Md ours = weight_layout(d, DType::f32, WeightOrder::ours);
  const bool direct = compiled->weights == ours && !dweight.addend;
  const Scratch scratch = stream.scratch(direct ? 0 : compiled->weights.get_size());
  void* const sums = direct ? dweight.out : scratch.data();
  execute(stream, *compiled,
          {{DNNL_ARG_SRC, memory(compiled->src, x)},
           {DNNL_ARG_DIFF_DST, memory(compiled->dst, dy)},
           {DNNL_ARG_DIFF_WEIGHTS, memory(compiled->weights, sums)}});
  if (direct) return true;
  if (dweight.addend && dweight.addend != dweight.out) std::memcpy(dweight.out, dweight.addend, ours.get_size());
  reorder(key, compiled->weights, sums, ours, dweight.out, dweight.addend ? Sum::add : Sum::overwrite);
  return true;
}

PackedWeightPtr pack_conv2d(Stream&, const Conv2dDims& d, ConvDirection direction, const void* w, DType w_dtype) {
  const Md any = weight_layout(d, w_dtype, WeightOrder::best), ours = weight_layout(d, w_dtype, WeightOrder::ours);
  const Key key = key_of(direction == ConvDirection::forward ? 'F' : 'D', d, w_dtype, w_dtype);
  const auto compiled = PrimitiveCache::instance().get(key, [&] {
    return direction == ConvDirection::forward ? make_forward(d, w_dtype, w_dtype, any, PostOps({}, &d, 1))
                                               : make_backward_data(d, w_dtype, w_dtype, any);
  });
  if (!*compiled || compiled->weights == ours) return nullptr;
  auto packed = std::make_shared<PackedMemory>(compiled->weights, key.bytes());
  reorder(key, ours, w, packed->layout, packed->data);
  return packed;
}

}  // namespace vtl::kernels::onednn
