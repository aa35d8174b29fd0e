#include "vtl/kernels/grad_norm/grad_norm.h"

#include "vtl/kernels/dispatch.h"

namespace vtl::kernels {

VTL_DECLARE_BACKENDS(grad_norm)
VTL_DECLARE_BACKENDS(step_advance)

void grad_norm(Stream& stream, const float* gradient, int64_t count, float max_norm, StepState* state) {
  VTL_DISPATCH(grad_norm, stream)(stream, gradient, count, max_norm, state);
}

void step_advance(Stream& stream, StepState* state) { VTL_DISPATCH(step_advance, stream)(stream, state); }

}  // namespace vtl::kernels
