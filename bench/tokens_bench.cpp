// Token insertion and pooling at the shapes of ViT-B/16, batch 32.
#include "vtl/kernels/tokens/tokens.h"

#include <benchmark/benchmark.h>

#include "vtl/bench/harness/machine.h"
#include "vtl/bench/harness/values.h"
#include "vtl/core/context.h"

namespace {

using namespace vtl;

constexpr int64_t kBatch = 32, kPatches = 196, kTokens = kPatches + 1, kDim = 768;
constexpr kernels::TokensDims kDims{kBatch, kPatches, kDim, kTokens};
constexpr kernels::PoolTokensDims kPatchMean{kBatch, kTokens, kDim, 1, kTokens};

void vit_b16_insert_tokens(benchmark::State& state, DType dtype) {
  const Tensor patches = bench::values({kBatch, kPatches, kDim}, dtype), y = bench::values({kBatch, kTokens, kDim}, dtype),
               token = bench::values({kDim}, DType::f32), positions = bench::values({kTokens, kDim}, DType::f32);
  for (auto _ : state)
    kernels::insert_tokens_forward(stream(), dtype, patches.data(), {{token.f32()}, {1}}, positions.f32(), y.data(), kDims);
  bench::report_bytes(state, static_cast<double>(patches.bytes() + y.bytes() + positions.bytes()));
}

void vit_b16_insert_tokens_backward(benchmark::State& state, DType dtype) {
  const Tensor dpatches = bench::values({kBatch, kPatches, kDim}, dtype), dy = bench::values({kBatch, kTokens, kDim}, dtype),
               dtoken = bench::values({kDim}, DType::f32), dpositions = bench::values({kTokens, kDim}, DType::f32);
  kernels::InsertTokensGrads grads;
  grads.dpatches = {dpatches.data()};
  grads.dprefix[0] = {dtoken.data()};
  grads.dpositions = {dpositions.data()};
  for (auto _ : state) kernels::insert_tokens_backward(stream(), dtype, dy.data(), {1, 0, 0}, grads, kDims);
  bench::report_bytes(state, static_cast<double>(dpatches.bytes() + dy.bytes() + dpositions.bytes()));
}

void vit_b16_pool_tokens(benchmark::State& state, DType dtype) {
  const Tensor x = bench::values({kBatch, kTokens, kDim}, dtype), y = bench::values({kBatch, kDim}, dtype);
  for (auto _ : state) kernels::pool_tokens_forward(stream(), dtype, x.data(), y.data(), kPatchMean);
  bench::report_bytes(state, static_cast<double>(x.bytes() + y.bytes()));
}

void vit_b16_pool_tokens_backward(benchmark::State& state, DType dtype) {
  const Tensor dx = bench::values({kBatch, kTokens, kDim}, dtype), dy = bench::values({kBatch, kDim}, dtype);
  for (auto _ : state) kernels::pool_tokens_backward(stream(), dtype, dy.data(), {dx.data()}, kPatchMean);
  bench::report_bytes(state, static_cast<double>(dx.bytes() + dy.bytes()));
}

BENCHMARK_CAPTURE(vit_b16_insert_tokens, f32, DType::f32)->UseRealTime();
BENCHMARK_CAPTURE(vit_b16_insert_tokens, bf16, DType::bf16)->UseRealTime();
BENCHMARK_CAPTURE(vit_b16_insert_tokens_backward, f32, DType::f32)->UseRealTime();
BENCHMARK_CAPTURE(vit_b16_insert_tokens_backward, bf16, DType::bf16)->UseRealTime();
BENCHMARK_CAPTURE(vit_b16_pool_tokens, f32, DType::f32)->UseRealTime();
BENCHMARK_CAPTURE(vit_b16_pool_tokens, bf16, DType::bf16)->UseRealTime();
BENCHMARK_CAPTURE(vit_b16_pool_tokens_backward, f32, DType::f32)->UseRealTime();
BENCHMARK_CAPTURE(vit_b16_pool_tokens_backward, bf16, DType::bf16)->UseRealTime();

}  // namespace
