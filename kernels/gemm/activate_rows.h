// An activation on its own, for products whose library cannot both save the value before it and apply it.
#pragma once

#include <cstdint>

#include "vtl/core/dtype.h"
#include "vtl/core/stream.h"
#include "vtl/kernels/activation_kind.h"

namespace vtl::kernels {

// y = activation(x) for `rows` rows of `cols` elements, `stride` apart, f32 or bf16. y may be x.
void activate_rows(Stream& stream, Activation activation, DType dtype, const void* x, void* y, int64_t rows,
                   int64_t cols, int64_t stride);

}  // namespace vtl::kernels
