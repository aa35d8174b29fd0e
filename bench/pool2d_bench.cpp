// Pooling with the shapes of ResNet-50 at 224 pixels.
#include "vtl/kernels/pool2d/pool2d.h"

#include "vtl/bench/harness/bench.h"
#include "vtl/bench/harness/machine.h"
#include "vtl/bench/harness/values.h"

namespace {

using namespace vtl;
using bench::zeros;

struct Stem {
  explicit Stem(DType dtype) : x(zeros({d.batch, 112, 112, 64}, dtype)), y(zeros({d.batch, 56, 56, 64}, dtype)) {}
  kernels::Pool2dDims d{bench::images(16), 112, 112, 64, 56, 56, 3, 3, 2, 2, 1, 1, 1, 1};
  Tensor x, y, argmax = zeros(y.shape(), DType::u8);
  double bytes() const { return static_cast<double>(x.bytes() + y.bytes() + argmax.bytes()); }
};

void stem_max(benchmark::State& state, DType dtype) {
  const Stem s(dtype);
  bench::run(state, [&] {
    kernels::max_pool2d_forward(stream(), dtype, s.x.data(), s.y.data(), s.argmax.data_as<uint8_t>(), s.d);
  });
  bench::report_bytes(state, s.bytes());
}

void stem_max_backward(benchmark::State& state, DType dtype) {
  const Stem s(dtype);
  bench::run(state, [&] {
    kernels::max_pool2d_backward(stream(), dtype, s.y.data(), s.argmax.data_as<uint8_t>(), {s.x.data(), nullptr}, s.d);
  });
  bench::report_bytes(state, s.bytes());
}

struct Global {
  explicit Global(DType dtype) : x(zeros({batch, 7, 7, 2048}, dtype)), y(zeros({batch, 2048}, dtype)) {}
  int64_t batch = bench::images(16);
  Tensor x, y;
  double bytes() const { return static_cast<double>(x.bytes() + y.bytes()); }
};

void global_average(benchmark::State& state, DType dtype) {
  const Global g(dtype);
  bench::run(state, [&] {
    kernels::adaptive_average_pool2d_forward(stream(), dtype, g.x.data(), g.y.data(), {g.batch, 7, 7, 2048});
  });
  bench::report_bytes(state, g.bytes());
}

void global_average_backward(benchmark::State& state, DType dtype) {
  const Global g(dtype);
  bench::run(state, [&] {
    kernels::adaptive_average_pool2d_backward(stream(), dtype, g.y.data(), {g.x.data(), nullptr},
                                              {g.batch, 7, 7, 2048});
  });
  bench::report_bytes(state, g.bytes());
}

[[maybe_unused]] const int kRegistered =
    bench::add_for_floats("max_pool_forward/resnet50_stem", stem_max) +
    bench::add_for_floats("max_pool_backward/resnet50_stem", stem_max_backward) +
    bench::add_for_floats("average_pool_forward/resnet50_global", global_average) +
    bench::add_for_floats("average_pool_backward/resnet50_global", global_average_backward);

}  // namespace
