#include "vtl/kernels/attention/attention.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "vtl/core/context.h"
#include "vtl/core/error.h"
#include "vtl/kernels/simt/settings.h"
#include "vtl/layers/attention.h"
#include "vtl/tests/harness/op_case.h"

namespace {

using namespace vtl;
using namespace vtl::test;
using kernels::AttentionBias;
using kernels::AttentionDims;
using kernels::AttentionMask;
using kernels::HeadStrides;
using MaskKind = AttentionMask::Kind;

constexpr double kHidden = -std::numeric_limits<double>::infinity();

// out[b,i,h,:] = sum_j softmax_j(scale q.k + bias[b,h,i,j]) v[b,j,h,:] with q, k, v, out token-major, `bias` given by a
// function, -inf where the key is hidden.
template <class Bias>
Values define(const Values& q, const Values& k, const Values& v, const AttentionDims& d, Bias bias) {
  Values out(static_cast<size_t>(d.batch * d.q_len * d.heads * d.head_dim));
  const auto row = [&](int64_t b, int64_t h, int64_t t, int64_t len) {
    return ((b * len + t) * d.heads + h) * d.head_dim;
  };
  Values p(static_cast<size_t>(d.k_len));
  for (int64_t b = 0; b < d.batch; ++b)
    for (int64_t h = 0; h < d.heads; ++h)
      for (int64_t i = 0; i < d.q_len; ++i) {
        double max = kHidden, sum = 0;
        for (int64_t j = 0; j < d.k_len; ++j) {
          double s = 0;
          for (int64_t e = 0; e < d.head_dim; ++e) s += q[row(b, h, i, d.q_len) + e] * k[row(b, h, j, d.k_len) + e];
          p[j] = s * d.scale + bias(b, h, i, j);
          max = std::max(max, p[j]);
        }
        if (max == kHidden) continue;
        for (auto& x : p) sum += x = std::exp(x - max);
        for (int64_t j = 0; j < d.k_len; ++j)
          for (int64_t e = 0; e < d.head_dim; ++e)
            out[row(b, h, i, d.q_len) + e] += p[j] / sum * v[row(b, h, j, d.k_len) + e];
      }
  return out;
}

// Attention of token-major q, k, v with every argument of the kernel; `lengths` and `bias` may be undefined.
Tensor attention(const Tensor& q, const Tensor& k, const Tensor& v, MaskKind kind, const Tensor& lengths,
                 const Tensor& bias, AttentionBias strides, const AttentionDims& d) {
  const HeadStrides q_strides = HeadStrides::token_major(d.q_len, d.heads, d.head_dim);
  const HeadStrides k_strides = HeadStrides::token_major(d.k_len, d.heads, d.head_dim);
  const AttentionMask mask{kind, static_cast<const int32_t*>(lengths.data())};
  strides.data = static_cast<const float*>(bias.data());
  Tensor out = empty_like(q);
  const Tensor lse = Tensor::empty({d.batch, d.heads, d.q_len}, DType::f32, q.device());
  kernels::attention_forward(stream(), q.dtype(), {q.data(), q_strides}, {k.data(), k_strides}, {v.data(), k_strides},
                             mask, strides, out.data(), q_strides, lse.f32(), d);
  record("attention", {&out}, {&q, &k, &v, &bias},
         [=, q = q.value(), k = k.value(), v = v.value(), out = out.value(), bias = bias.value(),
          lengths = lengths.value()](Grads& g) {
           const Tensor dout = g.out();
           const Dest dq = g.dest(0), dk = g.dest(1), dv = g.dest(2), dbias = g.dest(3);
           kernels::attention_backward(stream(), q.dtype(), {dout.data(), q_strides}, {q.data(), q_strides},
                                       {k.data(), k_strides}, {v.data(), k_strides}, {out.data(), q_strides}, lse.f32(),
                                       mask, strides, {dq, q_strides}, {dk, k_strides}, {dv, k_strides}, dbias, d);
         });
  return out;
}

std::string describe(const char* what, const AttentionDims& d) {
  return concat(what, " b", d.batch, " h", d.heads, " q", d.q_len, " k", d.k_len, " e", d.head_dim);
}

OpCase base_case(const char* what, const AttentionDims& d) {
  OpCase op;
  op.name = describe(what, d);
  op.inputs = {{"q", {d.batch, d.q_len, d.heads, d.head_dim}},
               {"k", {d.batch, d.k_len, d.heads, d.head_dim}},
               {"v", {d.batch, d.k_len, d.heads, d.head_dim}}};
  op.terms = static_cast<double>(d.k_len + d.head_dim);
  op.gradient_terms = static_cast<double>(d.q_len + d.k_len + d.head_dim);
  op.ulps = 8;
  return op;
}

AttentionDims dims_of(int64_t batch, int64_t heads, int64_t q_len, int64_t k_len, int64_t head_dim) {
  return {batch, heads, q_len, k_len, head_dim, 1 / std::sqrt(static_cast<float>(head_dim))};
}

}  // namespace

TEST_CASE("attention of queries on keys of another length follows its definition") {
  for (const AttentionDims& d :
       {dims_of(1, 1, 1, 1, 1), dims_of(2, 2, 3, 5, 4), dims_of(1, 2, 7, 2, 33), dims_of(2, 1, 1, 31, 8),
        dims_of(1, 1, 50, 17, 6), dims_of(1, 2, 33, 300, 20), dims_of(1, 2, 20, 37, 64), dims_of(1, 1, 70, 20, 80),
        dims_of(1, 1, 18, 70, 96), dims_of(1, 1, 33, 17, 128), dims_of(1, 1, 5, 6, 130)}) {
    OpCase op = base_case("attention", d);
    op.define = [=](const auto& in) { return define(in[0], in[1], in[2], d, [](auto...) { return 0.0; }); };
    op.run = [=](const auto& in) { return attention(in[0], in[1], in[2], MaskKind::none, {}, {}, {}, d); };
    examine(op);
  }
}

TEST_CASE("a causal mask hides later keys") {
  for (const AttentionDims& d : {dims_of(1, 2, 5, 5, 8), dims_of(1, 1, 60, 60, 4), dims_of(1, 1, 9, 4, 4),
                                 dims_of(1, 1, 4, 9, 4), dims_of(1, 1, 140, 140, 64), dims_of(1, 1, 7, 7, 136)}) {
    OpCase op = base_case("causal attention", d);
    op.define = [=](const auto& in) {
      return define(in[0], in[1], in[2], d, [](auto, auto, auto i, auto j) { return j <= i ? 0.0 : kHidden; });
    };
    op.run = [=](const auto& in) { return attention(in[0], in[1], in[2], MaskKind::causal, {}, {}, {}, d); };
    examine(op);
  }
}

TEST_CASE("key lengths hide padding, and a sample without keys gives zeros") {
  for (const AttentionDims& d : {dims_of(4, 2, 5, 20, 8), dims_of(4, 1, 3, 20, 129), dims_of(4, 1, 34, 300, 32)}) {
    const auto k_len = static_cast<int32_t>(d.k_len);
    const std::vector<int32_t> lengths{k_len, 0, k_len - 4, 1};
    OpCase op = base_case("attention with key lengths", d);
    op.define = [=](const auto& in) {
      return define(in[0], in[1], in[2], d, [&](auto b, auto, auto, auto j) { return j < lengths[b] ? 0.0 : kHidden; });
    };
    op.run = [=](const auto& in) {
      const Tensor device_lengths = Tensor::from(std::span<const int32_t>(lengths), {4}, in[0].device());
      return attention(in[0], in[1], in[2], MaskKind::key_lengths, device_lengths, {}, {}, d);
    };
    examine(op);
  }
}

TEST_CASE("a bias is added to the scores, shared as its strides say, and gets the sum of their gradients") {
  struct Sharing {
    const char* name;
    int64_t batches, heads, queries;  // extents of the bias; 1 where it is shared
  };
  const auto check = [](const Sharing& s, const AttentionDims& d) {
    OpCase op = base_case(s.name, d);
    op.inputs.push_back({"bias", {s.batches, s.heads, s.queries, d.k_len}, vtl::test::Kind::parameter, -2, 2});
    const int64_t query = s.queries == 1 ? 0 : d.k_len, head = s.heads == 1 ? 0 : s.queries * d.k_len;
    const int64_t batch = s.batches == 1 ? 0 : s.heads * s.queries * d.k_len;
    op.define = [=](const auto& in) {
      return define(in[0], in[1], in[2], d, [&](auto b, auto h, auto i, auto j) {
        return in[3][b % s.batches * batch + h * head + i * query + j];
      });
    };
    op.run = [=](const auto& in) {
      return attention(in[0], in[1], in[2], MaskKind::none, {}, in[3], {nullptr, s.batches, batch, head, query}, d);
    };
    op.gradient_terms *= 12;
    examine(op);
  };
  for (const Sharing& s : {Sharing{"every head its own bias", 4, 3, 3}, Sharing{"bias shared by samples", 1, 3, 3},
                           Sharing{"bias shared by heads", 4, 1, 3}, Sharing{"two windows", 2, 3, 3},
                           Sharing{"one bias", 1, 1, 3}, Sharing{"bias shared by queries", 1, 3, 1}})
    check(s, dims_of(4, 3, 3, 5, 2));
  check({"bias of wide heads", 1, 2, 2}, dims_of(2, 2, 2, 3, 130));
  check({"bias of wide heads shared by queries", 1, 1, 1}, dims_of(2, 2, 2, 3, 130));
}

TEST_CASE("a bias of minus infinity hides a key, and a row of them gives zeros") {
  const AttentionDims d = dims_of(1, 1, 3, 18, 4);
  OpCase op = base_case("attention with hidden keys", d);
  const auto hidden = [](int64_t i, int64_t j) { return i == 1 || (i == 0 && j % 3 == 0); };
  op.define = [=](const auto& in) {
    return define(in[0], in[1], in[2], d, [&](auto, auto, auto i, auto j) { return hidden(i, j) ? kHidden : 0.0; });
  };
  op.run = [=](const auto& in) {
    Values bias;
    for (int64_t i = 0; i < 3; ++i)
      for (int64_t j = 0; j < 18; ++j) bias.push_back(hidden(i, j) ? kHidden : 0.0);
    return attention(in[0], in[1], in[2], MaskKind::none, {}, to_tensor(bias, {3, 18}, DType::f32, in[0].device()),
                     {nullptr, 1, 0, 0, 18}, d);
  };
  examine(op);
}

TEST_CASE("self_attention on packed qkv follows the definition") {
  for (const auto& [tokens, heads, head_dim] :
       {std::tuple<int64_t, int64_t, int64_t>{1, 1, 3}, {5, 2, 8}, {197, 2, 64}}) {
    const AttentionDims d = dims_of(1, heads, tokens, tokens, head_dim);
    const int64_t width = heads * head_dim;
    OpCase op;
    op.name = describe("self_attention", d);
    op.inputs = {{"qkv", {1, tokens, 3 * width}}};
    op.define = [=, tokens = tokens](const auto& in) {
      Values part[3];
      for (int64_t t = 0; t < tokens; ++t)
        for (int which = 0; which < 3; ++which) {
          const auto from = in[0].begin() + (t * 3 + which) * width;
          part[which].insert(part[which].end(), from, from + width);
        }
      return define(part[0], part[1], part[2], d, [](auto...) { return 0.0; });
    };
    op.run = [=, heads = heads](const auto& in) { return layers::self_attention(in[0], heads); };
    op.terms = static_cast<double>(tokens + head_dim);
    op.gradient_terms = static_cast<double>(2 * tokens + head_dim);
    op.ulps = 8;
    examine(op);
  }
}

TEST_CASE("a bias of many tiles gets its gradient") {
  const AttentionDims d = dims_of(9, 1, 65, 66, 8);
  OpCase op = base_case("bias of many tiles", d);
  op.inputs.push_back({"bias", {65, 66}, vtl::test::Kind::parameter, -2, 2});
  op.define = [=](const auto& in) {
    return define(in[0], in[1], in[2], d, [&](auto, auto, auto i, auto j) { return in[3][i * 66 + j]; });
  };
  op.run = [=](const auto& in) {
    return attention(in[0], in[1], in[2], MaskKind::none, {}, in[3], {nullptr, 1, 0, 0, 66}, d);
  };
  op.gradient_terms *= 9;
  examine(op);
}

// What fits into shared memory decides between kernels that hold a whole head and kernels that pass over it.
TEST_CASE("attention on the emulated device gives the same with the shared memory of a large GPU") {
  emulator::SettingsScope scope;
  emulator::settings().shared_limit = emulator::kSharedSm90;
  for (const auto& [d, kind] : {std::pair{dims_of(1, 2, 197, 197, 64), MaskKind::none},
                                {dims_of(1, 1, 161, 250, 64), MaskKind::none},
                                {dims_of(2, 1, 250, 161, 60), MaskKind::none},
                                {dims_of(1, 1, 200, 200, 32), MaskKind::causal},
                                {dims_of(1, 1, 150, 150, 96), MaskKind::causal}}) {
    OpCase op = base_case("attention of a whole head", d);
    op.define = [=, d = d, kind = kind](const auto& in) {
      return define(in[0], in[1], in[2], d,
                    [&](auto, auto, auto i, auto j) { return kind == MaskKind::none || j <= i ? 0.0 : kHidden; });
    };
    op.run = [=, d = d, kind = kind](const auto& in) { return attention(in[0], in[1], in[2], kind, {}, {}, {}, d); };
    op.dtypes = {DType::bf16};
    examine(op);
  }
}

TEST_CASE("attention keeps the logarithm of the softmax's divisor, and large scores do not overflow") {
  const AttentionDims d{1, 1, 2, 3, 2, 100.0f};
  const HeadStrides dense = HeadStrides::token_major(3, 1, 2);
  const float q[] = {1, 0, 0, 1}, k[] = {10, 1, 10, -1, -10, 0}, v[] = {1, 2, 3, 4, 5, 6};
  float out[4], lse[2];
  kernels::attention_forward(stream(), DType::f32, {q, dense}, {k, dense}, {v, dense}, {}, {}, out, dense, lse, d);
  CHECK(lse[0] == doctest::Approx(1000 + std::log(2.0)));
  CHECK(lse[1] == doctest::Approx(100.0));
  CHECK(out[0] == doctest::Approx(2.0));
  CHECK(out[2] == doctest::Approx(1.0));
}

TEST_CASE("a score that is not a number makes its row NaN and no other") {
  const AttentionDims d{1, 1, 2, 3, 1, 1.0f};
  const HeadStrides dense = HeadStrides::token_major(3, 1, 1);
  const float q[] = {std::nanf(""), 1}, k[] = {1, 2, 3}, v[] = {1, 1, 1};
  float out[2], lse[2];
  kernels::attention_forward(stream(), DType::f32, {q, dense}, {k, dense}, {v, dense}, {}, {}, out, dense, lse, d);
  CHECK(std::isnan(out[0]));
  CHECK(out[1] == doctest::Approx(1.0));
}
