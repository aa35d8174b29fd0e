// Layer normalisation at the shapes of ViT-B/16, batch 8.
#include "vtl/kernels/layernorm/layernorm.h"

#include <benchmark/benchmark.h>

#include "vtl/bench/harness/machine.h"
#include "vtl/bench/harness/values.h"
#include "vtl/core/context.h"

namespace {

using namespace vtl;

constexpr kernels::LayerNormDims kDims{8 * 197, 768, 1e-6f};

struct Data {
  explicit Data(DType dtype)
      : x(bench::values({kDims.rows, kDims.cols}, dtype)),
        y(bench::values(x.shape(), dtype)),
        z(bench::values(x.shape(), dtype)),
        weight(bench::values({kDims.cols}, DType::f32)),
        bias(bench::values({kDims.cols}, DType::f32)),
        mean(bench::values({kDims.rows}, DType::f32)),
        rstd(bench::values({kDims.rows}, DType::f32)) {}
  Tensor x, y, z, weight, bias, mean, rstd;
};

void vit_b16_layernorm_forward(benchmark::State& state, DType dtype) {
  const Data d(dtype);
  for (auto _ : state)
    kernels::layernorm_forward(stream(), dtype, d.x.data(), d.weight.f32(), d.bias.f32(), d.y.data(), d.mean.f32(),
                               d.rstd.f32(), kDims);
  bench::report_bytes(state, 2.0 * static_cast<double>(d.x.bytes()));
}

// With the residual's gradient added on the way.
void vit_b16_layernorm_backward(benchmark::State& state, DType dtype) {
  const Data d(dtype);
  const Tensor dweight = bench::values({kDims.cols}, DType::f32), dbias = bench::values({kDims.cols}, DType::f32);
  for (auto _ : state)
    kernels::layernorm_backward(stream(), dtype, d.y.data(), d.x.data(), d.weight.f32(), d.mean.f32(), d.rstd.f32(),
                                {d.z.data(), d.z.data()}, {dweight.data()}, {dbias.data()}, kDims);
  bench::report_bytes(state, 4.0 * static_cast<double>(d.x.bytes()));
}

BENCHMARK_CAPTURE(vit_b16_layernorm_forward, f32, DType::f32)->UseRealTime();
BENCHMARK_CAPTURE(vit_b16_layernorm_forward, bf16, DType::bf16)->UseRealTime();
BENCHMARK_CAPTURE(vit_b16_layernorm_backward, f32, DType::f32)->UseRealTime();
BENCHMARK_CAPTURE(vit_b16_layernorm_backward, bf16, DType::bf16)->UseRealTime();

}  // namespace
