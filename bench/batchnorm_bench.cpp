// Batch normalisation with the shapes of ResNet-50 (ReLU, residual) and EfficientNet (SiLU) at 224 pixels.
#include "vtl/kernels/batchnorm/batchnorm.h"

#include "vtl/bench/harness/bench.h"
#include "vtl/bench/harness/machine.h"
#include "vtl/bench/harness/values.h"
#include "vtl/kernels/fold_batchnorm/fold_batchnorm.h"

namespace {

using namespace vtl;
using kernels::Activation;

struct Shape2 {
  const char* name;
  int64_t side, channels;
  Activation kind;
  bool residual;
};
constexpr Shape2 kShapes[] = {{"resnet50_stem", 112, 64, Activation::relu, false},
                              {"resnet50_layer1_out", 56, 256, Activation::relu, true},
                              {"resnet50_layer3", 14, 256, Activation::relu, false},
                              {"resnet50_layer4_out", 7, 2048, Activation::relu, true},
                              {"efficientnet_b0_stage3", 28, 144, Activation::silu, false},
                              {"efficientnet_b0_stage2_project", 56, 24, Activation::none, false}};

struct Data {
  Data(const Shape2& s, DType dtype) : dims{bench::images(16) * s.side * s.side, s.channels}, dtype(dtype) {
    for (Tensor* each : {&x, &y, &dy, &dx, &residual, &g}) *each = bench::zeros({dims.rows, s.channels}, dtype);
    for (Tensor* each : {&mean, &rstd, &weight, &bias}) *each = bench::zeros({s.channels}, DType::f32);
    moments = bench::zeros({kernels::batchnorm_moments_size(s.channels)}, DType::f32);
    sums = bench::zeros({2, s.channels}, DType::f32);
  }
  kernels::BatchNormScale scale() const { return {mean.f32(), rstd.f32(), weight.f32(), bias.f32()}; }

  kernels::BatchNormDims dims;
  DType dtype;
  Tensor x, y, dy, dx, residual, g, mean, rstd, weight, bias, moments, sums;
};

void forward(benchmark::State& state, const Shape2& s, DType dtype) {
  const Data d(s, dtype);
  bench::run(state, [&] {
    kernels::batchnorm_statistics(stream(), dtype, d.x.data(), d.moments.f32(), d.dims);
    kernels::batchnorm_finish(stream(), d.moments.f32(), d.mean.f32(), d.rstd.f32(), nullptr, nullptr, nullptr,
                              {s.channels, 1, 1e-5f, 0.1f});
    kernels::batchnorm_apply(stream(), dtype, d.x.data(), d.scale(), s.residual ? d.residual.data() : nullptr, s.kind,
                             d.y.data(), d.dims);
  });
  bench::report_bytes(state, static_cast<double>(d.x.bytes()) * (s.residual ? 4 : 3));
}

// As the layer calls it: with a residual the gradient behind the activation is written once and read again.
void backward(benchmark::State& state, const Shape2& s, DType dtype) {
  const Data d(s, dtype);
  const Dest dweight{d.mean.data(), nullptr}, dbias{d.bias.data(), nullptr};
  bench::run(state, [&] {
    const kernels::BatchNormSaved saved{d.x.data(), nullptr, s.residual ? d.y.data() : nullptr};
    kernels::batchnorm_backward_reduce(stream(), dtype, d.dy.data(), saved, d.scale(), s.kind, d.sums.f32(), dweight,
                                       dbias, s.residual ? d.g.data() : nullptr, d.dims);
    kernels::batchnorm_backward_apply(stream(), dtype, s.residual ? d.g.data() : d.dy.data(), saved, d.scale(),
                                      s.residual ? Activation::none : s.kind, d.sums.f32(), d.dims.rows,
                                      {d.dx.data(), nullptr}, {}, d.dims);
  });
  bench::report_bytes(state, static_cast<double>(d.x.bytes()) * (s.residual ? 7 : 5));
}

// Of the largest convolution of ResNet-50, as prediction does once per model.
void fold(benchmark::State& state, DType dtype) {
  constexpr kernels::FoldDims kDims{512, 512 * 9, 1e-5f};
  const Tensor weight = bench::values({kDims.rows, kDims.columns}, dtype), folded = bench::values(weight.shape(), dtype),
               bias = bench::values({kDims.rows}, DType::f32), variance = bench::zeros({kDims.rows}, DType::f32);
  bench::run(state, [&] {
    kernels::fold_batchnorm(stream(), dtype, weight.data(), nullptr,
                            {bias.f32(), variance.f32(), bias.f32(), bias.f32()}, folded.data(), bias.f32(), kDims);
  });
  bench::report_bytes(state, 2.0 * static_cast<double>(weight.bytes()));
}

[[maybe_unused]] const int kRegistered = [] {
  for (const auto& shape : kShapes) {
    const std::string suffix = std::string("/") + shape.name;
    bench::add_for_floats("batchnorm_forward" + suffix, [=](auto& state, DType dtype) { forward(state, shape, dtype); });
    bench::add_for_floats("batchnorm_backward" + suffix,
                          [=](auto& state, DType dtype) { backward(state, shape, dtype); });
  }
  return bench::add_for_floats("fold_batchnorm/resnet50_layer4", fold);
}();

}  // namespace
