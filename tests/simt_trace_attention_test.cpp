#include <cmath>

#include "vtl/kernels/attention/attention.h"
#include "vtl/kernels/simt/settings.h"
#include "vtl/tests/harness/simt_cost.h"

namespace {

using namespace vtl;
using vtl::test::check_cost;
using vtl::test::CostLimits;
using vtl::test::Simt;

struct Shape {
  int64_t tokens, head_dim;
};

// Both passes over a packed qkv, as vision transformers call them, of one image with two heads.
void check_attention(DType dtype, Shape shape, const CostLimits& forward, const CostLimits& backward) {
  Simt simt;
  const auto [tokens, head_dim] = shape;
  const int64_t heads = 2, width = heads * head_dim, tensor = tokens * width,
                size = static_cast<int64_t>(size_of(dtype));
  const Tensor qkv = simt.zeros(3 * tensor, dtype), dqkv = simt.zeros(3 * tensor, dtype),
               out = simt.zeros(tensor, dtype), dout = simt.zeros(tensor, dtype), lse = simt.zeros(heads * tokens);
  const kernels::HeadStrides packed{3 * tensor, head_dim, 3 * width};
  const auto strides = kernels::HeadStrides::token_major(tokens, heads, head_dim);
  const kernels::AttentionDims d{1, heads, tokens, tokens, head_dim, 1 / std::sqrt(static_cast<float>(head_dim))};
  const auto part = [&](const Tensor& of, int64_t i) { return static_cast<char*>(of.data()) + i * width * size; };
  const auto in = [&](int64_t i) { return kernels::HeadView{part(qkv, i), packed}; };
  const auto to = [&](int64_t i) { return kernels::HeadDest{{part(dqkv, i)}, packed}; };
  const std::string what = std::string(name(dtype)) + " " + std::to_string(tokens) + " x " + std::to_string(head_dim);
  check_cost(
      "attention_forward " + what, 4 * tensor * size + heads * tokens * 4,
      [&] {
        kernels::attention_forward(simt.stream(), dtype, in(0), in(1), in(2), {}, {}, out.data(), strides, lse.f32(),
                                   d);
      },
      forward);
  check_cost(
      "attention_backward " + what, 8 * tensor * size + heads * tokens * 4,
      [&] {
        kernels::attention_backward(simt.stream(), dtype, {dout.data(), strides}, in(0), in(1), in(2),
                                    {out.data(), strides}, lse.f32(), {}, {}, to(0), to(1), to(2), {}, d);
      },
      backward);
}

// Without room for a whole head, q, k, v and dout are read by two kernels and dout by a third.
constexpr CostLimits kTwoKernels{.bytes = 1.75};

TEST_CASE("trace: attention of whole heads has no races and moves what it must") {
  emulator::SettingsScope scope;
  emulator::settings().shared_limit = emulator::kSharedSm90;
  for (const Shape shape : {Shape{197, 64}, Shape{50, 32}, Shape{256, 64}}) check_attention(DType::bf16, shape, {}, {});
  for (const Shape shape : {Shape{50, 80}, Shape{50, 96}}) check_attention(DType::bf16, shape, {}, kTwoKernels);
}

TEST_CASE("trace: attention of many tokens has no races and moves what it must") {
  for (const Shape shape : {Shape{270, 64}, Shape{50, 128}}) check_attention(DType::bf16, shape, {}, kTwoKernels);
  for (const Shape shape : {Shape{100, 64}, Shape{50, 32}, Shape{50, 96}})
    check_attention(DType::f32, shape, {}, kTwoKernels);
}

}  // namespace
