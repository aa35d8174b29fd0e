// Where a backward kernel writes one gradient.
#pragma once

#include "vtl/core/macros.h"

namespace vtl {

// out[i] = (addend ? addend[i] : 0) + value[i].
// out == null: this gradient is not wanted, compute nothing. addend may equal out; otherwise they do not overlap.
// The element type is that of the activation, or f32 when the gradient is a parameter's.
struct Dest {
  void* out = nullptr;
  const void* addend = nullptr;

  VTL_HOST_DEVICE bool wanted() const { return out != nullptr; }
};

}  // namespace vtl
