#include "vtl/layers/softmax_xent.h"

#include "vtl/core/context.h"
#include "vtl/core/error.h"
#include "vtl/core/tape.h"
#include "vtl/kernels/softmax_xent/softmax_xent.h"

namespace vtl::layers {

Tensor softmax_xent(const Tensor& logits, const Tensor& targets, const CrossEntropy& options) {
  VTL_CHECK(logits.rank() == 2, "softmax_xent: logits have shape ", logits.shape(), ", expected [rows, classes]");
  const kernels::SoftmaxXentDims dims{logits.dim(0), logits.dim(1)};
  const bool soft = targets.dtype() == DType::f32;
  VTL_CHECK(soft ? targets.shape() == logits.shape() : targets.dtype() == DType::i64 && targets.numel() == dims.rows,
            "softmax_xent: targets ", targets.shape(), " of ", name(targets.dtype()), " for logits ", logits.shape(), ", expected i64 [", dims.rows,
            "] or f32 ", logits.shape());
  VTL_CHECK(!options.class_weights.defined() || options.class_weights.numel() == dims.classes, "softmax_xent: ",
            options.class_weights.defined() ? options.class_weights.numel() : 0, " class weights for ", dims.classes, " classes");
  const kernels::XentTarget target{soft ? nullptr : targets.data_as<int64_t>(), soft ? targets.f32() : nullptr,
                                   options.class_weights.defined() ? options.class_weights.f32() : nullptr, options.label_smoothing};
  Tensor loss = Tensor::empty({1}, DType::f32, logits.device());
  const Tensor lse = Tensor::empty({dims.rows}, DType::f32, logits.device());
  kernels::softmax_xent_forward(stream(), logits.dtype(), logits.data(), target, nullptr, loss.f32(), lse.f32(), dims);
  record("softmax_xent", {&loss}, {&logits},
         [logits = logits.value(), targets, weights = options.class_weights, target, lse, dims](Grads& g) {
           const Tensor dloss = g.out();
           kernels::softmax_xent_backward(stream(), logits.dtype(), logits.data(), target, lse.f32(), nullptr, dloss.f32(), g.dest(0), dims);
         });
  return loss;
}

}  // namespace vtl::layers
