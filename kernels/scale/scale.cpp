#include "vtl/kernels/scale/scale.h"

#include "vtl/kernels/dispatch.h"

namespace vtl::kernels {

VTL_DECLARE_BACKENDS(scale_forward)
VTL_DECLARE_BACKENDS(scale_backward)
VTL_DECLARE_BACKENDS(layer_scale_forward)
VTL_DECLARE_BACKENDS(layer_scale_backward)
VTL_DECLARE_BACKENDS(gate_forward)
VTL_DECLARE_BACKENDS(gate_backward)

void scale_forward(Stream& stream, DType dtype, const void* x, float alpha, void* y, int64_t count) {
  VTL_DISPATCH(scale_forward, stream)(stream, dtype, x, alpha, y, count);
}

void scale_backward(Stream& stream, DType dtype, const void* dy, float alpha, Dest dx, int64_t count) {
  VTL_DISPATCH(scale_backward, stream)(stream, dtype, dy, alpha, dx, count);
}

void layer_scale_forward(Stream& stream, DType dtype, const void* x, const float* gamma, const void* residual, void* y,
                         LayerScaleDims dims) {
  VTL_DISPATCH(layer_scale_forward, stream)(stream, dtype, x, gamma, residual, y, dims);
}

void layer_scale_backward(Stream& stream, DType dtype, const void* dy, const void* x, const float* gamma, Dest dx,
                          Dest dgamma, LayerScaleDims dims) {
  VTL_DISPATCH(layer_scale_backward, stream)(stream, dtype, dy, x, gamma, dx, dgamma, dims);
}

void gate_forward(Stream& stream, DType dtype, const void* x, const void* gate, void* y, GateDims dims) {
  VTL_DISPATCH(gate_forward, stream)(stream, dtype, x, gate, y, dims);
}

void gate_backward(Stream& stream, DType dtype, const void* dy, const void* x, const void* gate, Dest dx, Dest dgate,
                   GateDims dims) {
  VTL_DISPATCH(gate_backward, stream)(stream, dtype, dy, x, gate, dx, dgate, dims);
}

}  // namespace vtl::kernels
