#include "vtl/kernels/softmax_xent/softmax_xent.h"

#include <doctest/doctest.h>

#include <cmath>

#include "vtl/core/context.h"
#include "vtl/core/error.h"
#include "vtl/layers/softmax_xent.h"
#include "vtl/tests/harness/devices.h"
#include "vtl/tests/harness/op_case.h"

namespace {

using namespace vtl;
using namespace vtl::test;

struct Options {
  const char* name;
  double smoothing = 0;
  bool weights = false, soft = false;
};

// The loss of each row, and what their sum is divided by for the mean.
std::pair<Values, double> define(const Values& logits, const Values& target, const Values& weight, int64_t classes,
                                 const Options& o) {
  const auto rows = static_cast<int64_t>(logits.size()) / classes;
  Values losses(static_cast<size_t>(rows));
  double divisor = 0;
  for (int64_t r = 0; r < rows; ++r) {
    const double* x = logits.data() + r * classes;
    double max = x[0], sum = 0;
    for (int64_t c = 0; c < classes; ++c) max = std::max(max, x[c]);
    for (int64_t c = 0; c < classes; ++c) sum += std::exp(x[c] - max);
    for (int64_t c = 0; c < classes; ++c) {
      const double truth = o.soft ? target[r * classes + c] : target[r] == static_cast<double>(c);
      const double t = (1 - o.smoothing) * truth + o.smoothing / static_cast<double>(classes);
      losses[r] -= (o.weights ? weight[c] : 1) * t * (x[c] - max - std::log(sum));
    }
    divisor += o.weights && !o.soft ? weight[static_cast<size_t>(target[r])] : 1;
  }
  return {losses, divisor};
}

constexpr Options kOptions[] = {{"plain"},
                                {"smoothed", 0.1},
                                {"weighted", 0, true},
                                {"smoothed and weighted", 0.3, true},
                                {"soft", 0, false, true},
                                {"soft, smoothed and weighted", 0.2, true, true}};

OpCase loss_case(const Options& o, int64_t rows, int64_t classes) {
  OpCase op;
  op.name = concat("cross entropy ", o.name, " ", rows, "x", classes);
  op.inputs = {{"logits", {rows, classes}, Kind::activation, -3, 3},
               o.soft ? OpInput{"targets", {rows, classes}, Kind::constant, 0, 1}
                      : OpInput{"labels", {rows}, Kind::labels, 0, static_cast<double>(classes)},
               {"weights", {classes}, Kind::constant, 0.5, 2}};
  op.define = [=](const auto& in) {
    const auto [losses, divisor] = define(in[0], in[1], in[2], classes, o);
    double sum = 0;
    for (const double loss : losses) sum += loss;
    return Values{sum / divisor};
  };
  op.run = [=](const auto& in) {
    return layers::softmax_xent(in[0], in[1], {static_cast<float>(o.smoothing), o.weights ? in[2] : Tensor()});
  };
  op.terms = op.gradient_terms = static_cast<double>(rows + classes);
  op.ulps = 8;
  return op;
}

}  // namespace

TEST_CASE("the mean cross entropy and its gradient follow their definitions") {
  for (const Options& o : kOptions)
    for (const auto& [rows, classes] :
         {std::pair<int64_t, int64_t>{1, 1}, {3, 2}, {5, 31}, {2, 33}, {37, 10}, {4, 1000}, {3, 1026}})
      examine(loss_case(o, rows, classes));
}

TEST_CASE("row losses and their gradient follow their definitions") {
  const int64_t rows = 3, classes = 21;
  for (const Options& o : kOptions) {
    OpCase op = loss_case(o, rows, classes);
    op.name = concat("row ", op.name);
    op.define = [=](const auto& in) { return define(in[0], in[1], in[2], classes, o).first; };
    op.run = [=](const auto& in) {
      const Tensor x = in[0], targets = in[1], weights = in[2];
      const kernels::XentTarget target{o.soft ? nullptr : targets.template data_as<int64_t>(),
                                       o.soft ? targets.f32() : nullptr, o.weights ? weights.f32() : nullptr,
                                       static_cast<float>(o.smoothing)};
      const kernels::SoftmaxXentDims dims{rows, classes};
      const Tensor lse = Tensor::empty({rows}, DType::f32, x.device());
      Tensor loss = Tensor::empty({rows}, DType::f32, x.device());
      kernels::softmax_xent_forward(stream(), x.dtype(), x.data(), target, loss.f32(), nullptr, lse.f32(), dims);
      record("row_loss", {&loss}, {&x}, [=, x = x.value()](Grads& g) {
        const Tensor dloss = g.out();
        kernels::softmax_xent_backward(stream(), x.dtype(), x.data(), target, lse.f32(), dloss.f32(), nullptr,
                                       g.dest(0), dims);
        (void)targets, (void)weights;  // keep what `target` points to
      });
      return loss;
    };
    examine(op);
  }
}

TEST_CASE("softmax gives probabilities in f32") {
  for (const int64_t classes : {1, 15, 16, 17, 1000, 1026}) {
    OpCase op;
    op.name = concat("softmax ", classes);
    op.inputs = {{"logits", {3, classes}, Kind::constant, -5, 5}};
    op.dtypes = {DType::f32};
    op.define = [=](const auto& in) {
      Values p = in[0];
      for (int64_t r = 0; r < 3; ++r) {
        double sum = 0;
        for (int64_t c = 0; c < classes; ++c) sum += p[r * classes + c] = std::exp(p[r * classes + c]);
        for (int64_t c = 0; c < classes; ++c) p[r * classes + c] /= sum;
      }
      return p;
    };
    op.run = [=](const auto& in) {
      Tensor p = empty_like(in[0]);
      kernels::softmax_forward(stream(), DType::f32, in[0].data(), p.f32(), {3, classes});
      return p;
    };
    op.terms = static_cast<double>(classes);
    examine(op);
  }
}

TEST_CASE("the loss of large logits is finite, and a label out of range makes only its row NaN") {
  for (const Device& device : devices()) {
    INFO(to_string(device));
    Stream work(device);
    const Tensor logits = to_tensor({3e4, -3e4, 0, 1, 1, 2}, {3, 2}, DType::f32, device);
    const Tensor labels = to_tensor({1, 0, 2}, {3}, DType::i64, device),
                 dmean = to_tensor({1}, {1}, DType::f32, device);
    const Tensor loss = Tensor::empty({3}, DType::f32, device), lse = empty_like(loss), mean = empty_like(dmean);
    const kernels::XentTarget target{labels.data_as<int64_t>()};
    kernels::softmax_xent_forward(work, DType::f32, logits.data(), target, loss.f32(), mean.f32(), lse.f32(), {3, 2});
    // The gradient may take the place of the logits.
    kernels::softmax_xent_backward(work, DType::f32, logits.data(), target, lse.f32(), nullptr, dmean.f32(),
                                   {logits.data()}, {3, 2});
    const Values losses = to_values(loss), gradient = to_values(logits);
    CHECK(losses[0] == 6e4);
    CHECK(losses[1] == doctest::Approx(std::log1p(std::exp(1.0))));
    CHECK(std::isnan(losses[2]));
    CHECK(std::isnan(to_values(mean)[0]));
    CHECK(gradient[0] == doctest::Approx(1.0 / 3));
    CHECK(gradient[1] == doctest::Approx(-1.0 / 3));
    CHECK(std::isnan(gradient[4]));
  }
}
