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

bool on_cpu(const Stream& stream) { return stream.device().kind == DeviceKind::cpu; }

bool uses_onednn([[maybe_unused]] const Stream& stream) {
#if VTL_HAS_ONEDNN
  return on_cpu(stream) && cpu_level() != CpuLevel::plain;
#else
  return false;
#endif
}

void check(const Conv2dDims& d, const char* op) {
  VTL_CHECK(d.groups >= 1 && d.in_channels % d.groups == 0 && d.out_channels % d.groups == 0, op, ": ", d.groups,
            " groups do not divide ", d.in_channels, " input and ", d.out_channels, " output channels");
  VTL_CHECK(d.kernel_h >= 1 && d.kernel_w >= 1 && d.stride_h >= 1 && d.stride_w >= 1 && d.dilation_h >= 1 && d.dilation_w >= 1, op,
            ": kernel ", d.kernel_h, " x ", d.kernel_w, ", stride ", d.stride_h, " x ", d.stride_w, ", dilation ", d.dilation_h, " x ",
            d.dilation_w, "; expected 1 or more of each");
}

void check_dtypes(const char* op, DType a, DType b, DType c) {
  const bool known = a == b && ((a == DType::f32 && c == DType::f32) || (a == DType::bf16 && is_float(c)));
  if (!known)
    fail(ErrorKind::unsupported, op, ": ", name(a), " x ", name(b), " -> ", name(c),
         " is not there; give f32 x f32 -> f32, bf16 x bf16 -> bf16 or bf16 x bf16 -> f32");
}

bool is_empty(const Conv2dDims& d) {
  return d.batch <= 0 || d.in_channels <= 0 || d.out_channels <= 0 || d.in_h <= 0 || d.in_w <= 0 || d.out_h() <= 0 || d.out_w() <= 0;
}

// Every position on its own: a matrix product with a row for each.
bool is_pointwise(const Conv2dDims& d) {
  return d.kernel_h == 1 && d.kernel_w == 1 && d.stride_h == 1 && d.stride_w == 1 && d.groups == 1 && d.pad_top == 0 &&
         d.pad_bottom == 0 && d.pad_left == 0 && d.pad_right == 0;
}
int64_t positions(const Conv2dDims& d) { return d.batch * d.in_h * d.in_w; }
GemmDims forward_product(const Conv2dDims& d) { return {positions(d), d.out_channels, d.in_channels}; }
GemmDims backward_data_product(const Conv2dDims& d) { return {positions(d), d.in_channels, d.out_channels}; }
Matrix forward_weight(const Conv2dDims& d, const void* w, DType dtype) { return {w, dtype, d.in_channels, Transpose::yes}; }
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
  WinogradWeight(Stream& stream, const Conv2dDims& d, ConvDirection direction, const void* w, const PackedWeight* packed)
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

void conv2d_forward(Stream& stream, const Conv2dDims& d, const void* x, DType x_dtype, const void* w, DType w_dtype, void* y,
                    DType y_dtype, const Epilogue& epilogue, const PackedWeight* packed) {
  check(d, "conv2d_forward");
  check_dtypes("conv2d_forward", x_dtype, w_dtype, y_dtype);
  if (is_empty(d)) return;
  if (on_cpu(stream) && is_pointwise(d)) {
    gemm(stream, {x, x_dtype, d.in_channels}, forward_weight(d, w, w_dtype), {y, y_dtype, d.out_channels}, forward_product(d), 1,
         epilogue, packed);
    return;
  }
  if (on_cpu(stream) && d.is_depthwise()) {
    depthwise_forward(stream, d, x_dtype, x, w, y, y_dtype, epilogue);
    return;
  }
  if (on_cpu(stream) && winograd_suits(d, x_dtype)) {
    const WinogradWeight weight(stream, d, ConvDirection::forward, w, packed);
    winograd_forward(stream, d, static_cast<const float*>(x), weight.data(), static_cast<float*>(y), epilogue);
    return;
  }
#if VTL_HAS_ONEDNN
  if (uses_onednn(stream) && onednn::try_conv2d_forward(stream, d, x, x_dtype, w, w_dtype, y, y_dtype, epilogue, packed)) return;
#endif
  VTL_DISPATCH(conv2d_forward, stream)(stream, d, x, x_dtype, w, w_dtype, y, y_dtype, epilogue, packed);
}

void conv2d_backward_data(Stream& stream, const Conv2dDims& d, const void* dy, DType dy_dtype, const void* w, DType w_dtype, Dest dx,
                          DType dx_dtype, const PackedWeight* packed) {
  check(d, "conv2d_backward_data");
  check_dtypes("conv2d_backward_data", dy_dtype, w_dtype, dx_dtype);
  if (is_empty(d) || !dx.wanted()) return;
  if (on_cpu(stream) && is_pointwise(d)) {
    Epilogue sum;
    sum.residual = dx.addend;
    gemm(stream, {dy, dy_dtype, d.out_channels}, backward_data_weight(d, w, w_dtype), {dx.out, dx_dtype, d.in_channels},
         backward_data_product(d), 1, sum, packed);
    return;
  }
  if (on_cpu(stream) && d.is_depthwise()) {
    depthwise_backward_data(stream, d, dy_dtype, dy, w, dx, dx_dtype);
    return;
  }
  if (on_cpu(stream) && winograd_suits(d, dy_dtype)) {
    const WinogradWeight weight(stream, d, ConvDirection::backward_data, w, packed);
    winograd_backward_data(stream, d, static_cast<const float*>(dy), weight.data(), dx);
    return;
  }
#if VTL_HAS_ONEDNN
  if (uses_onednn(stream) && onednn::try_conv2d_backward_data(stream, d, dy, dy_dtype, w, w_dtype, dx, dx_dtype, packed)) return;
#endif
  VTL_DISPATCH(conv2d_backward_data, stream)(stream, d, dy, dy_dtype, w, w_dtype, dx, dx_dtype, packed);
}

void conv2d_backward_weight(Stream& stream, const Conv2dDims& d, const void* x, DType x_dtype, const void* dy, DType dy_dtype,
                            Dest dweight, Dest dbias) {
  check(d, "conv2d_backward_weight");
  check_dtypes("conv2d_backward_weight", x_dtype, dy_dtype, DType::f32);
  if (!on_cpu(stream)) {
    VTL_DISPATCH(conv2d_backward_weight, stream)(stream, d, x, x_dtype, dy, dy_dtype, dweight, dbias);
    return;
  }
  const bool empty = is_empty(d);
  if (dbias.wanted()) column_sum(stream, dy_dtype, dy, dbias, {empty ? 0 : d.batch * d.out_h() * d.out_w(), d.out_channels});
  if (!dweight.wanted()) return;
  if (d.is_depthwise()) {
    depthwise_backward_weight(stream, d, x_dtype, x, dy, dweight);
    return;
  }
  if (!empty && winograd_suits(d, x_dtype)) {
    winograd_backward_weight(stream, d, static_cast<const float*>(x), static_cast<const float*>(dy), dweight);
    return;
  }
  Epilogue sum;
  sum.residual = dweight.addend;
  if (empty) {  // no positions: a product of length 0
    const int64_t patch = d.kernel_h * d.kernel_w * (d.in_channels / d.groups);
    gemm(stream, {dy, dy_dtype, d.out_channels, Transpose::yes}, {x, x_dtype, patch}, {dweight.out, DType::f32, patch},
         {d.out_channels, patch, 0}, 1, sum);
    return;
  }
#if VTL_HAS_ONEDNN
  if (uses_onednn(stream) && onednn::try_conv2d_backward_weight(stream, d, x, dy, x_dtype, dweight)) return;
#endif
  if (is_pointwise(d)) {
    gemm(stream, {dy, dy_dtype, d.out_channels, Transpose::yes}, {x, x_dtype, d.in_channels},
         {dweight.out, DType::f32, d.in_channels}, {d.out_channels, d.in_channels, positions(d)}, 1, sum);
    return;
  }
  VTL_DISPATCH(conv2d_backward_weight, stream)(stream, d, x, x_dtype, dy, dy_dtype, dweight, dbias);
}

PackedWeightPtr conv2d_pack([[maybe_unused]] Stream& stream, const Conv2dDims& d, ConvDirection direction, const void* w,
                            DType w_dtype) {
  check(d, "conv2d_pack");
  if (is_empty(d) || !on_cpu(stream) || d.is_depthwise()) return nullptr;
  if (is_pointwise(d))
    return direction == ConvDirection::forward ? gemm_pack(stream, forward_weight(d, w, w_dtype), forward_product(d))
                                               : gemm_pack(stream, backward_data_weight(d, w, w_dtype), backward_data_product(d));
  if (winograd_suits(d, w_dtype)) return std::make_shared<PackedWinograd>(stream, d, direction, static_cast<const float*>(w));
#if VTL_HAS_ONEDNN
  if (uses_onednn(stream)) return onednn::pack_conv2d(stream, d, direction, w, w_dtype);
#endif
  return nullptr;
}

}  // namespace vtl::kernels
