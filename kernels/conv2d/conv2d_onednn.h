// Convolutions through oneDNN: what conv2d.cpp asks before it uses the built-in kernels.
#pragma once

#include "vtl/kernels/conv2d/conv2d.h"

namespace vtl::kernels::onednn {

// As the functions of conv2d.h. False, with nothing written, when oneDNN has no fast kernel for it.
bool try_conv2d_forward(Stream& stream, const Conv2dDims& dims, const void* x, DType x_dtype, const void* w,
                        DType w_dtype, void* y, DType y_dtype, const Epilogue& epilogue, const PackedWeight* packed);
bool try_conv2d_backward_data(Stream& stream, const Conv2dDims& dims, const void* dy, DType dy_dtype, const void* w,
                              DType w_dtype, Dest dx, DType dx_dtype, const PackedWeight* packed);
bool try_conv2d_backward_weight(Stream& stream, const Conv2dDims& dims, const void* x, const void* dy, DType dtype,
                                Dest dweight);
PackedWeightPtr pack_conv2d(Stream& stream, const Conv2dDims& dims, ConvDirection direction, const void* w,
                            DType w_dtype);

}  // namespace vtl::kernels::onednn
