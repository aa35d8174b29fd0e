// Layer normalisation at the shapes of ViT-B/16.
#include "vtl/kernels/layernorm/layernorm.h"

#include "vtl/bench/harness/bench.h"
#include "vtl/bench/harness/machine.h"
#include "vtl/bench/harness/values.h"

namespace {

using namespace vtl;

struct Data {
  explicit Data(DType dtype)
      : dims{bench::images(8) * 197, 768, 1e-6f},
        x(bench::values({dims.rows, dims.cols}, dtype)),
        y(bench::values(x.shape(), dtype)),
        z(bench::values(x.shape(), dtype)),
        weight(bench::values({dims.cols}, DType::f32)),
        bias(bench::values({dims.cols}, DType::f32)),
        mean(bench::values({dims.rows}, DType::f32)),
        rstd(bench::values({dims.rows}, DType::f32)) {}
  kernels::LayerNormDims dims;
  Tensor x, y, z, weight, bias, mean, rstd;
};

void forward(benchmark::State& state, DType dtype) {
  const Data d(dtype);
  bench::run(state, [&] {
    kernels::layernorm_forward(stream(), dtype, d.x.data(), d.weight.f32(), d.bias.f32(), d.y.data(), d.mean.f32(),
                               d.rstd.f32(), d.dims);
  });
  bench::report_bytes(state, 2.0 * static_cast<double>(d.x.bytes()));
}

// With the residual's gradient added on the way.
void backward(benchmark::State& state, DType dtype) {
  const Data d(dtype);
  const Tensor dweight = bench::values({d.dims.cols}, DType::f32), dbias = bench::values({d.dims.cols}, DType::f32);
  bench::run(state, [&] {
    kernels::layernorm_backward(stream(), dtype, d.y.data(), d.x.data(), d.weight.f32(), d.mean.f32(), d.rstd.f32(),
                                {d.z.data(), d.z.data()}, {dweight.data()}, {dbias.data()}, d.dims);
  });
  bench::report_bytes(state, 4.0 * static_cast<double>(d.x.bytes()));
}

[[maybe_unused]] const int kRegistered = bench::add_for_floats("layernorm_forward/vit_b16", forward) +
                                         bench::add_for_floats("layernorm_backward/vit_b16", backward);

}  // namespace
