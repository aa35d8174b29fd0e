#include "vtl/kernels/attention/attention.h"

#include "vtl/kernels/dispatch.h"

namespace vtl::kernels {

VTL_DECLARE_BACKENDS(attention_forward)
VTL_DECLARE_BACKENDS(attention_backward)

void attention_forward(Stream& stream, DType dtype, HeadView q, HeadView k, HeadView v, AttentionMask mask,
                       AttentionBias bias, void* out, HeadStrides out_strides, float* lse, AttentionDims dims) {
  VTL_DISPATCH(attention_forward, stream)(stream, dtype, q, k, v, mask, bias, out, out_strides, lse, dims);
}

void attention_backward(Stream& stream, DType dtype, HeadView dout, HeadView q, HeadView k, HeadView v, HeadView out,
                        const float* lse, AttentionMask mask, AttentionBias bias, HeadDest dq, HeadDest dk, HeadDest dv,
                        Dest dbias, AttentionDims dims) {
  VTL_DISPATCH(attention_backward, stream)(stream, dtype, dout, q, k, v, out, lse, mask, bias, dq, dk, dv, dbias, dims);
}

}  // namespace vtl::kernels
