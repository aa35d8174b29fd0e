// Token insertion and pooling at the shapes of ViT-B/16.
#include "vtl/kernels/tokens/tokens.h"

#include "vtl/bench/harness/bench.h"
#include "vtl/bench/harness/machine.h"
#include "vtl/bench/harness/values.h"

namespace {

using namespace vtl;

constexpr int64_t kPatches = 196, kTokens = kPatches + 1, kDim = 768;

kernels::TokensDims insert_dims() { return {bench::images(32), kPatches, kDim, kTokens}; }
kernels::PoolTokensDims pool_dims() { return {bench::images(32), kTokens, kDim, 1, kTokens}; }

void insert_forward(benchmark::State& state, DType dtype) {
  const auto dims = insert_dims();
  const Tensor patches = bench::values({dims.batch, kPatches, kDim}, dtype),
               y = bench::values({dims.batch, kTokens, kDim}, dtype), token = bench::values({kDim}, DType::f32),
               positions = bench::values({kTokens, kDim}, DType::f32);
  bench::run(state, [&] {
    kernels::insert_tokens_forward(stream(), dtype, patches.data(), {{token.f32()}, {1}}, positions.f32(), y.data(),
                                   dims);
  });
  bench::report_bytes(state, static_cast<double>(patches.bytes() + y.bytes() + positions.bytes()));
}

void insert_backward(benchmark::State& state, DType dtype) {
  const auto dims = insert_dims();
  const Tensor dpatches = bench::values({dims.batch, kPatches, kDim}, dtype),
               dy = bench::values({dims.batch, kTokens, kDim}, dtype), dtoken = bench::values({kDim}, DType::f32),
               dpositions = bench::values({kTokens, kDim}, DType::f32);
  kernels::InsertTokensGrads grads;
  grads.dpatches = {dpatches.data()};
  grads.dprefix[0] = {dtoken.data()};
  grads.dpositions = {dpositions.data()};
  bench::run(state, [&] { kernels::insert_tokens_backward(stream(), dtype, dy.data(), {1, 0, 0}, grads, dims); });
  bench::report_bytes(state, static_cast<double>(dpatches.bytes() + dy.bytes() + dpositions.bytes()));
}

void pool_forward(benchmark::State& state, DType dtype) {
  const auto dims = pool_dims();
  const Tensor x = bench::values({dims.batch, kTokens, kDim}, dtype), y = bench::values({dims.batch, kDim}, dtype);
  bench::run(state, [&] { kernels::pool_tokens_forward(stream(), dtype, x.data(), y.data(), dims); });
  bench::report_bytes(state, static_cast<double>(x.bytes() + y.bytes()));
}

void pool_backward(benchmark::State& state, DType dtype) {
  const auto dims = pool_dims();
  const Tensor dx = bench::values({dims.batch, kTokens, kDim}, dtype), dy = bench::values({dims.batch, kDim}, dtype);
  bench::run(state, [&] { kernels::pool_tokens_backward(stream(), dtype, dy.data(), {dx.data()}, dims); });
  bench::report_bytes(state, static_cast<double>(dx.bytes() + dy.bytes()));
}

[[maybe_unused]] const int kRegistered = bench::add_for_floats("insert_tokens_forward/vit_b16", insert_forward) +
                                         bench::add_for_floats("insert_tokens_backward/vit_b16", insert_backward) +
                                         bench::add_for_floats("pool_tokens_forward/vit_b16", pool_forward) +
                                         bench::add_for_floats("pool_tokens_backward/vit_b16", pool_backward);

}  // namespace
