// Cross entropy over the classes of ImageNet, batch 256.
#include "vtl/kernels/softmax_xent/softmax_xent.h"

#include <vector>

#include "vtl/bench/harness/bench.h"
#include "vtl/bench/harness/machine.h"
#include "vtl/bench/harness/values.h"

namespace {

using namespace vtl;

constexpr kernels::SoftmaxXentDims kDims{256, 1000};

struct Data {
  explicit Data(DType dtype) : logits(bench::values({kDims.rows, kDims.classes}, dtype)) {}
  kernels::XentTarget target() const { return {labels.data_as<int64_t>(), nullptr, nullptr, 0.1f}; }
  Tensor labels = Tensor::from<int64_t>(std::vector<int64_t>(kDims.rows, 7), {kDims.rows}, bench::device());
  Tensor logits;
  Tensor loss = bench::zeros({1}, DType::f32), lse = bench::zeros({kDims.rows}, DType::f32);
};

void forward(benchmark::State& state, DType dtype) {
  const Data d(dtype);
  bench::run(state, [&] {
    kernels::softmax_xent_forward(stream(), dtype, d.logits.data(), d.target(), nullptr, d.loss.f32(), d.lse.f32(),
                                  kDims);
  });
  bench::report_bytes(state, static_cast<double>(d.logits.bytes()));
}

void backward(benchmark::State& state, DType dtype) {
  const Data d(dtype);
  const Tensor dlogits = bench::values(d.logits.shape(), dtype), dloss = bench::values({1}, DType::f32);
  bench::run(state, [&] {
    kernels::softmax_xent_backward(stream(), dtype, d.logits.data(), d.target(), d.lse.f32(), nullptr, dloss.f32(),
                                   {dlogits.data()}, kDims);
  });
  bench::report_bytes(state, 2.0 * static_cast<double>(d.logits.bytes()));
}

[[maybe_unused]] const int kRegistered = bench::add_for_floats("softmax_xent_forward/imagenet", forward) +
                                         bench::add_for_floats("softmax_xent_backward/imagenet", backward);

}  // namespace
