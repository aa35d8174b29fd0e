#include "vtl/layers/dropout.h"

#include "vtl/core/context.h"
#include "vtl/core/error.h"
#include "vtl/core/tape.h"
#include "vtl/kernels/add/add.h"
#include "vtl/kernels/dropout/dropout.h"
#include "vtl/kernels/drop_path/drop_path.h"
#include "vtl/layers/elementwise.h"

namespace vtl::layers {
namespace {

// Whether anything is dropped now.
bool active(const char* op, const Dropout& layer) {
  VTL_CHECK(layer.p >= 0 && layer.p < 1, op, ": probability ", layer.p, ", expected 0 or more and less than 1");
  if (!context().training || layer.p == 0) return false;
  VTL_CHECK(context().step, op, ": no step state in the context; the keys of random numbers come from it (StepScope)");
  return true;
}

}  // namespace

Tensor dropout(const Tensor& x, const Dropout& layer) {
  if (!active("dropout", layer)) return x;
  const kernels::DropoutDims dims{x.numel(), layer.p, layer.layer};
  const StepState* step = context().step;
  Tensor y = empty_like(x);
  kernels::dropout_forward(stream(), x.dtype(), x.data(), y.data(), step, dims);
  record("dropout", {&y}, {&x}, [dims, step](Grads& g) {
    const DType dtype = g.out().dtype();
    const void* dy = g.out().data();
    kernels::dropout_backward(stream(), dtype, dy, g.dest_over_out(0), step, dims);
  });
  return y;
}

Tensor drop_path(const Tensor& x, const Dropout& layer, const Tensor& residual) {
  VTL_CHECK(!residual.defined() || (residual.shape() == x.shape() && residual.dtype() == x.dtype()), "drop_path: the residual has shape ",
            residual.defined() ? residual.shape() : Shape{}, ", the input ", x.shape());
  if (!active("drop_path", layer)) return residual.defined() ? add(x, residual) : x;
  const kernels::DropPathDims dims{x.dim(0), x.dim(0) ? x.numel() / x.dim(0) : 0, layer.p, layer.layer};
  const StepState* step = context().step;
  Tensor y = empty_like(x);
  kernels::drop_path_forward(stream(), x.dtype(), x.data(), residual.data(), y.data(), step, dims);
  record("drop_path", {&y}, {&x, &residual}, [dims, step](Grads& g) {
    const Tensor dy = g.out();
    kernels::drop_path_backward(stream(), dy.dtype(), dy.data(), g.dest(0), step, dims);
    if (!g.pass(1, dy)) kernels::add_backward(stream(), dy.dtype(), dy.data(), g.dest(1), dy.dtype(), {}, {1, dy.numel()});
  });
  return y;
}

}  // namespace vtl::layers
