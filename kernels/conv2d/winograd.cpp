#include "vtl/kernels/conv2d/winograd.h"

#include "vtl/kernels/dispatch.h"

namespace vtl::kernels {

VTL_DECLARE_BACKENDS(winograd_transform_weight)
VTL_DECLARE_BACKENDS(winograd_forward)
VTL_DECLARE_BACKENDS(winograd_backward_data)
VTL_DECLARE_BACKENDS(winograd_backward_weight)

bool winograd_suits(const Conv2dDims& d, DType dtype) {
  const bool shape = d.kernel_h == 3 && d.kernel_w == 3 && d.stride_h == 1 && d.stride_w == 1 && d.dilation_h == 1 &&
                     d.dilation_w == 1 && d.groups == 1;
  // Channels fill a panel of the matrix product at every level.
  if (dtype != DType::f32 || !shape || d.in_channels % 32 != 0 || d.out_channels % 32 != 0) return false;
  // Tiles that reach over the edge waste work, and the transformed weight, four times the weight, costs the same for
  // few tiles as for many.
  const int64_t tiles = d.batch * ((d.out_h() + 3) / 4) * ((d.out_w() + 3) / 4);
  const int64_t fewest = d.in_channels * d.out_channels > 128 * 128 ? 40 : 16;
  return tiles >= fewest && 2 * d.batch * d.out_h() * d.out_w() >= tiles * 16;
}

int64_t winograd_weight_size(const Conv2dDims& d) { return 36 * d.in_channels * d.out_channels; }

void winograd_transform_weight(Stream& stream, const Conv2dDims& dims, ConvDirection direction, const float* w,
                               float* transformed) {
  VTL_DISPATCH(winograd_transform_weight, stream)(stream, dims, direction, w, transformed);
}

void winograd_forward(Stream& stream, const Conv2dDims& dims, const float* x, const float* transformed, float* y,
                      const Epilogue& epilogue) {
  VTL_DISPATCH(winograd_forward, stream)(stream, dims, x, transformed, y, epilogue);
}

void winograd_backward_data(Stream& stream, const Conv2dDims& dims, const float* dy, const float* transformed,
                            Dest dx) {
  VTL_DISPATCH(winograd_backward_data, stream)(stream, dims, dy, transformed, dx);
}

void winograd_backward_weight(Stream& stream, const Conv2dDims& dims, const float* x, const float* dy, Dest dweight) {
  VTL_DISPATCH(winograd_backward_weight, stream)(stream, dims, x, dy, dweight);
}

}  // namespace vtl::kernels
