// The axes of a strided copy, brought into the order in which memory is written.
#pragma once

#include "vtl/core/macros.h"
#include "vtl/kernels/copy/copy.h"

namespace vtl::kernels {

struct CopyAxis {
  int64_t extent, from, to;
};

VTL_INLINE int64_t magnitude(int64_t x) { return x < 0 ? -x : x; }

// Axes from the largest stride of `to` down to the smallest, without those of extent 1, neighbours merged where both
// sides allow. A last axis is always there.
struct CopyPlan {
  CopyAxis axes[kMaxDims + 1];
  int rank = 0;
  bool empty = false;

  VTL_INLINE CopyAxis& last() { return axes[rank - 1]; }
  // The axis comes out, the others keep their order.
  VTL_INLINE CopyAxis take(int which) {
    const CopyAxis taken = axes[which];
    for (int k = which; k + 1 < rank; ++k) axes[k] = axes[k + 1];
    --rank;
    return taken;
  }
};

VTL_INLINE CopyPlan make_copy_plan(const CopyDims& d) {
  CopyPlan plan;
  for (int k = 0; k < d.rank; ++k) {
    if (d.extent[k] == 0) plan.empty = true;
    if (d.extent[k] == 1) continue;
    const CopyAxis axis{d.extent[k], d.from_stride[k], d.to_stride[k]};
    int at = plan.rank++;
    for (; at > 0 && magnitude(plan.axes[at - 1].to) < magnitude(axis.to); --at) plan.axes[at] = plan.axes[at - 1];
    plan.axes[at] = axis;
  }
  int kept = 0;
  for (int k = 0; k < plan.rank; ++k) {
    const CopyAxis axis = plan.axes[k];
    if (kept > 0) {
      CopyAxis& outer = plan.axes[kept - 1];
      if (outer.from == axis.from * axis.extent && outer.to == axis.to * axis.extent) {
        outer = {outer.extent * axis.extent, axis.from, axis.to};
        continue;
      }
    }
    plan.axes[kept++] = axis;
  }
  plan.rank = kept;
  if (plan.rank == 0) plan.axes[plan.rank++] = {1, 1, 1};
  return plan;
}

// The axis along which `from` is closest to contiguous, where that is not the last one, along which `to` is: the copy
// then goes by squares of both. -1 where there is none.
VTL_INLINE int transposed_axis(const CopyPlan& plan) {
  int found = -1;
  int64_t least = magnitude(plan.axes[plan.rank - 1].from);
  for (int k = 0; k + 1 < plan.rank; ++k)
    if (plan.axes[k].from != 0 && magnitude(plan.axes[k].from) < least) {
      least = magnitude(plan.axes[k].from);
      found = k;
    }
  return found;
}

}  // namespace vtl::kernels
