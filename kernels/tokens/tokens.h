// The two ends of a vision transformer: prefix tokens and position embedding in front, pooling of tokens behind.
#pragma once

#include <cstdint>

#include "vtl/core/dest.h"
#include "vtl/core/dtype.h"
#include "vtl/core/stream.h"

namespace vtl::kernels {

inline constexpr int kMaxPrefixes = 3;

// Learned tokens that come before the patches, in order: class, distillation, registers, say. f32 [count, dim] each;
// a count of 0 is none.
struct PrefixTokens {
  const float* data[kMaxPrefixes] = {};
  int64_t count[kMaxPrefixes] = {};

  int64_t total() const { return count[0] + count[1] + count[2]; }
};

struct TokensDims {
  int64_t batch, patches, dim;
  // Rows of the position embedding (f32 [positions, dim]); it is added to the last `positions` tokens: all of them,
  // or the patches only.
  int64_t positions;
};

// y[b,t,:] = token t + position embedding, over prefix and patches: y is [batch, prefix.total() + patches, dim],
// patches [batch, patches, dim], both dense, of `dtype`. The position embedding may be null.
void insert_tokens_forward(Stream& stream, DType dtype, const void* patches, PrefixTokens prefix,
                           const float* positions, void* y, TokensDims dims);

// dpatches has `dtype`; dprefix[k] (for each k with a count) and dpositions are f32 and sum over the batch in order.
struct InsertTokensGrads {
  Dest dpatches, dprefix[kMaxPrefixes], dpositions;
};
void insert_tokens_backward(Stream& stream, DType dtype, const void* dy, const int64_t (&prefix_count)[kMaxPrefixes],
                            InsertTokensGrads grads, TokensDims dims);

struct PoolTokensDims {
  int64_t batch, tokens, dim;
  int64_t begin, end;  // which tokens are averaged; [0, 1): the class token, [0, 2): class and distillation
};

// y[b,:] = mean of x[b,t,:] over t in [begin, end), not empty. x is [batch, tokens, dim], y [batch, dim], dense, of
// `dtype`.
void pool_tokens_forward(Stream& stream, DType dtype, const void* x, void* y, PoolTokensDims dims);
// dx[b,t,:] = t in [begin, end) ? dy[b,:] / (end - begin) : 0.
void pool_tokens_backward(Stream& stream, DType dtype, const void* dy, Dest dx, PoolTokensDims dims);

}  // namespace vtl::kernels
