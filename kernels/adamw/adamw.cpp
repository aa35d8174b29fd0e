#include "vtl/kernels/adamw/adamw.h"

#include "vtl/kernels/dispatch.h"

namespace vtl::kernels {

VTL_DECLARE_BACKENDS(adamw)

void adamw(Stream& stream, float* master, const float* gradient, float* m, float* v, ParameterSpans parameters,
           const StepState* state, AdamWOptions options) {
  VTL_DISPATCH(adamw, stream)(stream, master, gradient, m, v, parameters, state, options);
}

}  // namespace vtl::kernels
