#include "vtl/kernels/conv2d/conv2d.h"

#include "vtl/core/allocator.h"
#include "vtl/kernels/bias/bias.h"
#include "vtl/kernels/conv2d/conv2d_onednn.h"
#include "vtl/kernels/conv2d/depthwise.h"
#include "vtl/kernels/conv2d/winograd.h"
#include "vtl/kernels/dispatch.h"
#include "vtl/kernels/gemm/gemm.h"

namespace vtl::kernels {

VTL_DECLARE_BACKENDS(conv2d_forward)
VTL_DECLARE_BACKENDS(conv2d_backward_data)
VTL_DECLARE_BACKENDS(conv2d_backward_weight)

namespace {

void check(const Conv2dDims& d, const char* op) {
  VTL_CHECK(d.groups >= 1 && d.in_channels % d.groups == 0 && d.out_channels % d.groups == 0, op, ": ", d.groups,
            " groups do not divide ", d.in_channels, " input and ", d.out_channels, " output channels");
  VTL_CHECK(d.kernel_h >= 1 && d.kernel_w >= 1 && d.stride_h >= 1 && d.stride_w >= 1 && d.dilation_h >= 1 &&
                d.dilation_w >= 1,
            op, ": kernel ", d.kernel_h, " x ", d.kernel_w, ", stride ", d.stride_h, " x ", d.stride_w, ", dilation ",
            d.dilation_h, " x ", d.dilation_w, "; expected 1 or more of each");
}

void check_dtypes(const char* op, DType a, DType b, DType c) {
  const bool known = a == b && ((a == DType::f32 && c == DType::f32) || (a == DType::bf16 && is_float(c)));
  if (!known)
    fail(ErrorKind::unsupported, op, ": ", name(a), " x ", name(b), " -> ", name(c),
         " is not there; give f32 x f32 -> f32, bf16 x bf16 -> bf16 or bf16 x bf16 -> f32");
}

bool is_empty(const Conv2dDims& d) {
  return d.batch <= 0 || d.in_channels <= 0 || d.out_channels <= 0 || d.in_h <= 0 || d.in_w <= 0 || d.out_h() <= 0 ||
         d.out_w() <= 0;
}

// How to go about one convolution. Winograd, oneDNN and patches are the CPU's ways, implicit is the others'.
enum class Way { implicit, product, depthwise, winograd, onednn, patches };

enum class Pass { forward, backward_data, backward_weight };

int64_t positions(const Conv2dDims& d) { return d.batch * d.in_h * d.in_w; }

// A pointwise convolution is a matrix product, but oneDNN's convolution is now and then the faster way to compute it
// (measured with 2.6 on a Xeon with AMX): in bf16 for many positions, because its matrix product then writes slowly, or
// pads a length of sum that is no multiple of 32; in f32 for the sums over many positions of a weight gradient.
Way pointwise_way(const Conv2dDims& d, Pass pass, DType dtype) {
  const bool many = positions(d) >= 2048;
  switch (pass) {
    case Pass::forward:
      return many && dtype == DType::bf16 ? Way::onednn : Way::product;
    case Pass::backward_data:
      return many && dtype == DType::bf16 && d.out_channels % 32 != 0 ? Way::onednn : Way::product;
    case Pass::backward_weight:
      return many && dtype == DType::f32 ? Way::onednn : Way::product;
  }
  return Way::product;
}

// Gathering patches costs one pass over them, which a product with many output channels outweighs; oneDNN's
// convolutions with strides, and its bf16 weight gradients, are slow enough to lose to that (measured as above,
// ResNet-18 and ResNet-50).
bool patches_win(const Conv2dDims& d, Pass pass, DType dtype) {
  const bool bf16_data = dtype == DType::bf16, strided = d.stride_h > 1, wide = d.out_channels >= 512,
             one_tap = d.kernel_h * d.kernel_w == 1;
  if (d.groups != 1) return false;
  switch (pass) {
    case Pass::forward:
      return strided && wide;
    case Pass::backward_data:
      return strided && (bf16_data ? wide || (d.out_channels >= 256 && !one_tap) : wide && d.in_channels >= 512);
    case Pass::backward_weight:
      return (strided && wide) || (bf16_data && (wide || one_tap || (strided && d.out_channels >= 256)));
  }
  return false;
}

Way way_of(const Stream& stream, const Conv2dDims& d, Pass pass, DType dtype) {
  if (d.is_depthwise()) return Way::depthwise;
  if (stream.device().kind != DeviceKind::cpu) return d.is_pointwise() ? Way::product : Way::implicit;
#if VTL_HAS_ONEDNN
  const bool has_onednn = cpu_level() != CpuLevel::plain;
#else
  const bool has_onednn = false;
#endif
  if (winograd_suits(d, dtype)) return Way::winograd;
  if (d.is_pointwise()) return has_onednn ? pointwise_way(d, pass, dtype) : Way::product;
  // Few channels leave most of a vector of oneDNN's convolution empty; a patch fills it.
  if (!has_onednn || (d.is_patches() && d.in_channels < 16) || patches_win(d, pass, dtype)) return Way::patches;
  return Way::onednn;
}

GemmDims forward_product(const Conv2dDims& d) { return {positions(d), d.out_channels, d.in_channels}; }
GemmDims backward_data_product(const Conv2dDims& d) { return {positions(d), d.in_channels, d.out_channels}; }
Matrix forward_weight(const Conv2dDims& d, const void* w, DType dtype) {
  return {w, dtype, d.in_channels, Transpose::yes};
}
Matrix backward_data_weight(const Conv2dDims& d, const void* w, DType dtype) { return {w, dtype, d.in_channels}; }

// A transformed weight that its owner keeps.
class PackedWinograd : public PackedWeight {
 public:
  PackedWinograd(Stream& stream, const Conv2dDims& d, ConvDirection direction, const float* w)
      : data_(static_cast<float*>(allocate(Device::cpu(), static_cast<size_t>(winograd_weight_size(d)) * 4))) {
    winograd_transform_weight(stream, d, direction, w, data_);
  }
  ~PackedWinograd() override { deallocate(Device::cpu(), data_); }
  PackedWinograd(const PackedWinograd&) = delete;
  PackedWinograd& operator=(const PackedWinograd&) = delete;

  const float* data() const { return data_; }

 private:
  float* data_;
};

// The transformed weight of one call: the kept one, or one in scratch.
class WinogradWeight {
 public:
  WinogradWeight(Stream& stream, const Conv2dDims& d, ConvDirection direction, const void* w,
                 const PackedWeight* packed)
      : kept_(dynamic_cast<const PackedWinograd*>(packed)),
        scratch_(stream.scratch(kept_ ? 0 : static_cast<size_t>(winograd_weight_size(d)) * 4)) {
    if (!kept_) winograd_transform_weight(stream, d, direction, static_cast<const float*>(w), scratch_.f32());
  }

  const float* data() const { return kept_ ? kept_->data() : scratch_.f32(); }

 private:
  const PackedWinograd* kept_;
  Scratch scratch_;
};

}  // namespace

void conv2d_forward(Stream& stream, const Conv2dDims& d, const void* x, DType x_dtype, const void* w, DType w_dtype,
                    void* y, DType y_dtype, const Epilogue& epilogue, const PackedWeight* packed) {
  check(d, "conv2d_forward");
  check_dtypes("conv2d_forward", x_dtype, w_dtype, y_dtype);
  if (is_empty(d)) return;
  switch (way_of(stream, d, Pass::forward, x_dtype)) {
    case Way::depthwise:
      return depthwise_forward(stream, d, x_dtype, x, w, y, y_dtype, epilogue);
    case Way::winograd: {
      const WinogradWeight weight(stream, d, ConvDirection::forward, w, packed);
      return winograd_forward(stream, d, static_cast<const float*>(x), weight.data(), static_cast<float*>(y), epilogue);
    }
    case Way::onednn:
#if VTL_HAS_ONEDNN
      if (onednn::try_conv2d_forward(stream, d, x, x_dtype, w, w_dtype, y, y_dtype, epilogue, packed)) return;
#endif
      break;
    case Way::product:
      return gemm(stream, {x, x_dtype, d.in_channels}, forward_weight(d, w, w_dtype), {y, y_dtype, d.out_channels},
                  forward_product(d), 1, epilogue, packed);
    case Way::patches:
    case Way::implicit:
      break;
  }
  VTL_DISPATCH(conv2d_forward, stream)(stream, d, x, x_dtype, w, w_dtype, y, y_dtype, epilogue, packed);
}

void conv2d_backward_data(Stream& stream, const Conv2dDims& d, const void* dy, DType dy_dtype, const void* w,
                          DType w_dtype, Dest dx, DType dx_dtype, const PackedWeight* packed) {
  check(d, "conv2d_backward_data");
  check_dtypes("conv2d_backward_data", dy_dtype, w_dtype, dx_dtype);
  if (is_empty(d) || !dx.wanted()) return;
  switch (way_of(stream, d, Pass::backward_data, dy_dtype)) {
    case Way::depthwise:
      return depthwise_backward_data(stream, d, dy_dtype, dy, w, dx, dx_dtype);
    case Way::winograd: {
      const WinogradWeight weight(stream, d, ConvDirection::backward_data, w, packed);
      return winograd_backward_data(stream, d, static_cast<const float*>(dy), weight.data(), dx);
    }
    case Way::onednn:
#if VTL_HAS_ONEDNN
      if (onednn::try_conv2d_backward_data(stream, d, dy, dy_dtype, w, w_dtype, dx, dx_dtype, packed)) return;
#endif
      break;
    case Way::product: {
      Epilogue sum;
      sum.residual = dx.addend;
      return gemm(stream, {dy, dy_dtype, d.out_channels}, backward_data_weight(d, w, w_dtype),
                  {dx.out, dx_dtype, d.in_channels}, backward_data_product(d), 1, sum, packed);
    }
    case Way::patches:
    case Way::implicit:
      break;
  }
  VTL_DISPATCH(conv2d_backward_data, stream)(stream, d, dy, dy_dtype, w, w_dtype, dx, dx_dtype, packed);
}

void conv2d_backward_weight(Stream& stream, const Conv2dDims& d, const void* x, DType x_dtype, const void* dy,
                            DType dy_dtype, Dest dweight, Dest dbias) {
  check(d, "conv2d_backward_weight");
  check_dtypes("conv2d_backward_weight", x_dtype, dy_dtype, DType::f32);
  const bool empty = is_empty(d);
  const Way way = empty ? Way::patches : way_of(stream, d, Pass::backward_weight, x_dtype);
  if (dbias.wanted())
    column_sum(stream, dy_dtype, dy, dbias, {empty ? 0 : d.batch * d.out_h() * d.out_w(), d.out_channels});
  if (!dweight.wanted()) return;
  Epilogue sum;
  sum.residual = dweight.addend;
  const int64_t patch = d.kernel_h * d.kernel_w * (d.in_channels / d.groups);
  switch (way) {
    case Way::depthwise:
      return depthwise_backward_weight(stream, d, x_dtype, x, dy, dweight);
    case Way::winograd:
      return winograd_backward_weight(stream, d, static_cast<const float*>(x), static_cast<const float*>(dy), dweight);
    case Way::onednn:
#if VTL_HAS_ONEDNN
      if (onednn::try_conv2d_backward_weight(stream, d, x, dy, x_dtype, dweight)) return;
#endif
      break;
    case Way::product:
      return gemm(stream, {dy, dy_dtype, d.out_channels, Transpose::yes}, {x, x_dtype, d.in_channels},
                  {dweight.out, DType::f32, d.in_channels}, {d.out_channels, d.in_channels, positions(d)}, 1, sum);
    case Way::patches:
      if (!empty) break;
      // No positions: a product of length 0.
      return gemm(stream, {dy, dy_dtype, d.out_channels, Transpose::yes}, {x, x_dtype, patch},
                  {dweight.out, DType::f32, patch}, {d.out_channels, patch, 0}, 1, sum);
    case Way::implicit:
      break;
  }
  VTL_DISPATCH(conv2d_backward_weight, stream)(stream, d, x, x_dtype, dy, dy_dtype, dweight, {});
}

PackedWeightPtr conv2d_pack(Stream& stream, const Conv2dDims& d, ConvDirection direction, const void* w,
                            DType w_dtype) {
  check(d, "conv2d_pack");
  if (is_empty(d)) return nullptr;
  const bool forward = direction == ConvDirection::forward;
  switch (way_of(stream, d, forward ? Pass::forward : Pass::backward_data, w_dtype)) {
    case Way::winograd:
      return std::make_shared<PackedWinograd>(stream, d, direction, static_cast<const float*>(w));
    case Way::product:
      return forward ? gemm_pack(stream, forward_weight(d, w, w_dtype), forward_product(d))
                     : gemm_pack(stream, backward_data_weight(d, w, w_dtype), backward_data_product(d));
    case Way::onednn:
#if VTL_HAS_ONEDNN
      return onednn::pack_conv2d(stream, d, direction, w, w_dtype);
#endif
    case Way::patches: {
      const int64_t patch = d.kernel_h * d.kernel_w * d.in_channels;
      if (!forward || d.groups != 1) return nullptr;
      return gemm_pack(stream, {w, w_dtype, patch, Transpose::yes},
                       {d.batch * d.out_h() * d.out_w(), d.out_channels, patch});
    }
    case Way::depthwise:
    case Way::implicit:
      break;
  }
  return nullptr;
}

}  // namespace vtl::kernels
