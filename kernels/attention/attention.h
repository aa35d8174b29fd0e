// Scaled dot-product attention over heads (Vaswani et al. 2017), without a [q_len, k_len] tensor in memory (Dao et
// al. 2022).
#pragma once

#include <cstdint>

#include "vtl/core/dest.h"
#include "vtl/core/dtype.h"
#include "vtl/core/stream.h"

namespace vtl::kernels {

struct AttentionDims {
  int64_t batch, heads, q_len, k_len, head_dim;
  float scale;  // of the products q.k, before bias and softmax; usually 1 / sqrt(head_dim)
};

// A [batch, heads, tokens, head_dim] operand: element (b, h, t, e) lies at b * batch + h * head + t * token + e,
// strides in elements. Packed qkv [batch, tokens, 3, heads, head_dim] is three of these, 0, 1 and 2 * heads *
// head_dim elements in.
struct HeadStrides {
  int64_t batch, head, token;

  // [batch, tokens, heads, head_dim], dense.
  static HeadStrides token_major(int64_t tokens, int64_t heads, int64_t head_dim) {
    return {tokens * heads * head_dim, head_dim, heads * head_dim};
  }
};
struct HeadView {
  const void* data;
  HeadStrides strides;
};
// The addend of a gradient has the strides of its out.
struct HeadDest {
  Dest dest;
  HeadStrides strides;
};

// Which keys a query sees. causal: key j when j <= query i. key_lengths: key j when j < lengths[b] (i32 [batch],
// between 0 and k_len). A query that sees no key gives zeros, lse -inf and no gradient.
struct AttentionMask {
  enum class Kind : uint8_t { none, causal, key_lengths };
  Kind kind = Kind::none;
  const int32_t* lengths = nullptr;
};

// Added to the scaled products: f32, element (b, h, i, j) at (b % batches) * batch + h * head + i * query + j.
// Strides in elements; head = 0 shares one bias between heads, batches = 1 between samples, and batches = windows per
// image gives shifted windows their masks. -inf hides a key. Null data: no bias.
struct AttentionBias {
  const float* data = nullptr;
  int64_t batches = 1;
  int64_t batch = 0, head = 0, query = 0;
};

// out[b,h,i,:] = sum_j p[i,j] v[b,h,j,:], p[i,:] = softmax_j(scale * q[b,h,i,:].k[b,h,j,:] + bias[b,h,i,j]) over
// visible keys. q, k, v and out have `dtype`; out does not overlap them. lse[b,h,i] = log sum_j exp(...) is f32
// [batch, heads, q_len], dense; null: not kept. Products and softmax are in f32; with bf16, p may be rounded to
// bf16 before it meets v.
void attention_forward(Stream& stream, DType dtype, HeadView q, HeadView k, HeadView v, AttentionMask mask,
                       AttentionBias bias, void* out, HeadStrides out_strides, float* lse, AttentionDims dims);

// The gradients of attention_forward, with p recomputed from q, k and lse: ds = p * (dout.v - delta), delta =
// dout.out; dq = scale * ds k, dk = scale * ds^T q, dv = p^T dout, of `dtype`; they overlap no input and not each
// other's elements. dbias is f32 with the strides of `bias` (it sums ds over the samples and heads that share an
// element); wanting it costs parallelism when few biases are shared by many heads.
void attention_backward(Stream& stream, DType dtype, HeadView dout, HeadView q, HeadView k, HeadView v, HeadView out,
                        const float* lse, AttentionMask mask, AttentionBias bias, HeadDest dq, HeadDest dk, HeadDest dv,
                        Dest dbias, AttentionDims dims);

}  // namespace vtl::kernels
