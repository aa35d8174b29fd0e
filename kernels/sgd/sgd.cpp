#include "vtl/kernels/sgd/sgd.h"

#include "vtl/kernels/dispatch.h"

namespace vtl::kernels {

VTL_DECLARE_BACKENDS(sgd)

void sgd(Stream& stream, float* master, const float* gradient, float* velocity, ParameterSpans parameters,
         const StepState* state, float momentum) {
  VTL_DISPATCH(sgd, stream)(stream, master, gradient, velocity, parameters, state, momentum);
}

}  // namespace vtl::kernels
