// One task is one (batch, head): its keys and values are packed into scratch once, then blocks of queries pass through
//   S = Q K^T, P = softmax(S), out = P V
// with a block of S in the cache. Products run on register tiles of kTileRows x kTileVectors vectors; their right
// operand always has its vectors along the columns, so K is packed transposed for Q K^T, and V for dout V^T in
// backward.
#include "vtl/core/parallel.h"
#include "vtl/kernels/attention/attention.h"
#include "vtl/kernels/cpu/vec.h"

// This file has a copy for __AVX512BF16__, where vec.h narrows to bf16 in one instruction.

namespace vtl::kernels::VTL_CPU {
namespace {

// 24 sums, 4 vectors and a broadcast fill AVX-512's 32 registers; 12, 2 and 1 the 16 of AVX2 and SSE.
constexpr int kTileRows = 6;
constexpr int kTileVectors = kLanes == 16 ? 4 : 2;

constexpr float kInfinity = __builtin_inff();

VTL_INLINE int64_t round_up(int64_t value, int64_t multiple) { return (value + multiple - 1) / multiple * multiple; }

// c[m, n] (+)= sum_k A(m, k) b[k, n] for kTileRows x V vectors; A(m, k) is a[m, k], or a[k, m] where a is transposed.
template <int V, bool Transposed, bool Add>
void tile(const float* a, int64_t lda, const float* b, int64_t ldb, float* c, int64_t ldc, int64_t depth) {
  vfloat sum[kTileRows][V];
#pragma GCC unroll 8
  for (int m = 0; m < kTileRows; ++m)
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) sum[m][v] = Add ? load(c + m * ldc + v * kLanes) : vfloat{};
  for (int64_t k = 0; k < depth; ++k) {
    vfloat right[V];
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) right[v] = load(b + k * ldb + v * kLanes);
#pragma GCC unroll 8
    for (int m = 0; m < kTileRows; ++m) {
      const vfloat left = broadcast(Transposed ? a[k * lda + m] : a[m * lda + k]);
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) sum[m][v] += left * right[v];
    }
  }
#pragma GCC unroll 8
  for (int m = 0; m < kTileRows; ++m)
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) store(c + m * ldc + v * kLanes, sum[m][v]);
}

// c[rows, cols] (+)= A b with rows rounded up to kTileRows and cols to kLanes: all operands have that room.
template <bool Transposed, bool Add>
void multiply(const float* a, int64_t lda, const float* b, int64_t ldb, float* c, int64_t ldc, int64_t rows,
              int64_t cols, int64_t depth) {
  int64_t vectors = (cols + kLanes - 1) / kLanes;
  int64_t strips = (vectors + kTileVectors - 1) / kTileVectors;
  for (int64_t n = 0; strips > 0; --strips) {
    const int64_t width = (vectors + strips - 1) / strips;  // even shares: a tile of one vector would wait for its sums
    for (int64_t m = 0; m < rows; m += kTileRows) {
      const float* left = a + (Transposed ? m : m * lda);
      const float* right = b + n;
      float* out = c + m * ldc + n;
      if constexpr (kTileVectors == 4) {
        if (width == 4) tile<4, Transposed, Add>(left, lda, right, ldb, out, ldc, depth);
        if (width == 3) tile<3, Transposed, Add>(left, lda, right, ldb, out, ldc, depth);
      }
      if (width == 2) tile<2, Transposed, Add>(left, lda, right, ldb, out, ldc, depth);
      if (width == 1) tile<1, Transposed, Add>(left, lda, right, ldb, out, ldc, depth);
    }
    n += width * kLanes;
    vectors -= width;
  }
}

#if defined(__AVX512F__)
constexpr vint kInterleaveLow = {0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23};
#elif defined(__AVX2__)
constexpr vint kInterleaveLow = {0, 8, 1, 9, 2, 10, 3, 11};
#else
constexpr vint kInterleaveLow = {0, 4, 1, 5};
#endif
constexpr vint kInterleaveHigh = kInterleaveLow + kLanes / 2;

// kLanes x kLanes transpose: each pass rotates the bits of (row, lane) by one.
VTL_INLINE void transpose(vfloat (&x)[kLanes]) {
  for (int pass = 1; pass < kLanes; pass *= 2) {
    vfloat y[kLanes];
    for (int i = 0; i < kLanes / 2; ++i) {
      y[2 * i] = __builtin_shuffle(x[i], x[i + kLanes / 2], kInterleaveLow);
      y[2 * i + 1] = __builtin_shuffle(x[i], x[i + kLanes / 2], kInterleaveHigh);
    }
    for (int i = 0; i < kLanes; ++i) x[i] = y[i];
  }
}

// Rows of one head lie a token apart, often on pages of their own, where hardware prefetching does not follow.
constexpr int64_t kPrefetchRows = 12;
template <class T>
VTL_INLINE void prefetch_row(const T* row, int64_t dim) {
  for (int64_t e = 0; e < dim; e += 64 / static_cast<int64_t>(sizeof(T))) __builtin_prefetch(row + e);
}
template <class T>
VTL_INLINE void prefetch_row_to_write(T* row, int64_t dim) {
  for (int64_t e = 0; e < dim; e += 64 / static_cast<int64_t>(sizeof(T))) __builtin_prefetch(row + e, 1);
}

// to[t, e] = from[t, e] * scale for `tokens` rows, then zero rows up to `room`; ld is a multiple of kLanes.
template <class T>
void pack_rows(const T* from, int64_t stride, float scale, int64_t tokens, int64_t room, int64_t dim, float* to,
               int64_t ld) {
  for (int64_t t = 0; t < tokens; ++t) {
    if (t + kPrefetchRows < tokens) prefetch_row(from + (t + kPrefetchRows) * stride, dim);
    for_lanes(dim,
              [&](int64_t e, auto lanes) { store(to + t * ld + e, load_n(from + t * stride + e, lanes) * scale); });
  }
  if (room > tokens) __builtin_memset(to + tokens * ld, 0, static_cast<size_t>((room - tokens) * ld) * 4);
}

// to[e, t] = from[t, e], with zeros for t from `tokens` to the next multiple of kLanes.
template <class T>
void pack_columns(const T* from, int64_t stride, int64_t tokens, int64_t dim, float* to, int64_t ld) {
  for (int64_t t = 0; t < tokens; t += kLanes) {
    for (int64_t i = t + kLanes; i < t + 2 * kLanes && i < tokens; ++i) prefetch_row(from + i * stride, dim);
    for_lanes(dim, [&](int64_t e, auto lanes) {
      vfloat block[kLanes];
      for (int i = 0; i < kLanes; ++i)
        block[i] = t + i < tokens ? load_n(from + (t + i) * stride + e, lanes) : vfloat{};
      transpose(block);
      for (int i = 0; i < kLanes; ++i)
        if (i < lanes) store(to + (e + i) * ld + t, block[i]);
    });
  }
}

// The lane numbers.
VTL_INLINE vint lane_numbers() {
  vint lanes;
  for (int i = 0; i < kLanes; ++i) lanes[i] = i;
  return lanes;
}

// x where its index i + lane is below `visible`, `other` elsewhere.
VTL_INLINE vfloat visible_lanes(vfloat x, int64_t i, int64_t visible, float other) {
  return lane_numbers() + static_cast<int32_t>(i) < static_cast<int32_t>(visible) ? x : broadcast(other);
}

struct RowSoftmax {
  float max, sum;
};

// s[j] = e^(s[j] + bias[j] - max) for j < visible, 0 from there to `width` (a multiple of kLanes).
template <bool HasBias>
RowSoftmax softmax_row(float* s, const float* bias, int64_t visible, int64_t width) {
  vfloat high = broadcast(-kInfinity);
  const auto score = [&](int64_t j, auto lanes) {
    vfloat x = load(s + j);
    if (HasBias) x += load_n(bias + j, lanes);
    if constexpr (!__is_same(decltype(lanes), AllLanes)) x = visible_lanes(x, j, visible, -kInfinity);
    return x;
  };
  for_lanes(visible, [&](int64_t j, auto lanes) { high = vmax(score(j, lanes), high); });
  const float max = max_lanes(high);
  if (max == -kInfinity) {
    // Every key is hidden, unless a score is not a number.
    float sum = 0;
    for (int64_t j = 0; j < visible; ++j)
      if (s[j] != s[j]) sum = s[j];
    for (int64_t j = 0; j < width; j += kLanes) store(s + j, broadcast(sum));
    return {max, sum};
  }
  vfloat sum{};
  for_lanes(visible, [&](int64_t j, auto lanes) {
    const vfloat x = score(j, lanes);
    vfloat e = vexp(x - max);
    if (HasBias) e = x == -kInfinity ? vfloat{} : e;
    if constexpr (!__is_same(decltype(lanes), AllLanes)) e = visible_lanes(e, j, visible, 0.0f);
    sum += e;
    store(s + j, e);
  });
  for (int64_t j = round_up(visible, kLanes); j < width; j += kLanes) store(s + j, vfloat{});
  return {max, sum_lanes(sum)};
}

// p[j] = e^(s[j] + bias[j] - lse), ds[j] = p[j] * (dp[j] - delta) over s and dp, zero from `visible` to `width`.
template <bool HasBias>
void gradient_row(float* s, float* dp, const float* bias, float lse, float delta, int64_t visible, int64_t width) {
  if (lse == -kInfinity) visible = 0;
  for_lanes(visible, [&](int64_t j, auto lanes) {
    vfloat x = load(s + j);
    if (HasBias) x += load_n(bias + j, lanes);
    vfloat p = vexp(x - lse);
    if (HasBias) p = x == -kInfinity ? vfloat{} : p;
    vfloat ds = p * (load(dp + j) - delta);
    if constexpr (!__is_same(decltype(lanes), AllLanes)) {
      p = visible_lanes(p, j, visible, 0.0f);
      ds = visible_lanes(ds, j, visible, 0.0f);
    }
    store(s + j, p);
    store(dp + j, ds);
  });
  for (int64_t j = round_up(visible, kLanes); j < width; j += kLanes) {
    store(s + j, vfloat{});
    store(dp + j, vfloat{});
  }
}

// Sizes of the packed operands and of a block of queries.
struct Plan {
  int64_t dim;    // head_dim with whole vectors
  int64_t keys;   // k_len with whole vectors and whole tiles
  int64_t block;  // queries of a block, whole tiles
  int64_t blocks;
};

Plan plan_of(const AttentionDims& d) {
  constexpr int64_t kScoreBytes = 256 * 1024, kMostRows = 8 * kTileRows;
  Plan plan;
  plan.dim = round_up(d.head_dim, kLanes);
  plan.keys = round_up(round_up(d.k_len, kTileRows), kLanes);
  // Rows whose distance is a large power of two would fall on the same few cache lines.
  if (plan.keys % 256 == 0) plan.keys += kLanes;
  int64_t most = kScoreBytes / (plan.keys * 4) / kTileRows * kTileRows;
  most = most < kTileRows ? kTileRows : most > kMostRows ? kMostRows : most;
  plan.blocks = (d.q_len + most - 1) / most;
  plan.block = plan.blocks ? round_up((d.q_len + plan.blocks - 1) / plan.blocks, kTileRows) : kTileRows;
  return plan;
}

// Hands out pieces of one thread's scratch.
struct Pieces {
  float* next;

  VTL_INLINE float* take(int64_t floats) {
    float* piece = next;
    next += round_up(floats, 64);
    return piece;
  }
};

int64_t visible_keys(const AttentionDims& d, const AttentionMask& mask, int64_t b, int64_t query) {
  if (mask.kind == AttentionMask::Kind::causal) return query + 1 < d.k_len ? query + 1 : d.k_len;
  if (mask.kind == AttentionMask::Kind::key_lengths) return mask.lengths[b] < d.k_len ? mask.lengths[b] : d.k_len;
  return d.k_len;
}

template <class T>
VTL_INLINE const T* head_of(const HeadView& view, int64_t b, int64_t h) {
  return static_cast<const T*>(view.data) + b * view.strides.batch + h * view.strides.head;
}

VTL_INLINE const float* bias_row(const AttentionBias& bias, int64_t b, int64_t h, int64_t query) {
  return bias.data ? bias.data + b % bias.batches * bias.batch + h * bias.head + query * bias.query : nullptr;
}

struct Forward {
  HeadView q, k, v;
  AttentionMask mask;
  AttentionBias bias;
  void* out;
  HeadStrides out_strides;
  float* lse;
  AttentionDims d;
};

int64_t forward_floats(const Plan& plan, const AttentionDims& d) {
  return plan.dim * plan.keys + round_up(d.k_len, 64) * plan.dim + plan.block * (2 * plan.dim + plan.keys) + 6 * 64;
}

template <class T>
void forward_head(const Forward& f, const Plan& plan, int64_t b, int64_t h, float* scratch) {
  const AttentionDims& d = f.d;
  Pieces pieces{scratch};
  float* keys = pieces.take(plan.dim * plan.keys);      // [head_dim, k_len]
  float* values = pieces.take(d.k_len * plan.dim);      // [k_len, head_dim]
  float* queries = pieces.take(plan.block * plan.dim);  // [block, head_dim]
  float* scores = pieces.take(plan.block * plan.keys);  // [block, k_len]
  float* sums = pieces.take(plan.block * plan.dim);     // [block, head_dim]
  pack_columns(head_of<T>(f.k, b, h), f.k.strides.token, d.k_len, d.head_dim, keys, plan.keys);
  pack_rows(head_of<T>(f.v, b, h), f.v.strides.token, 1.0f, d.k_len, d.k_len, d.head_dim, values, plan.dim);
  const T* q = head_of<T>(f.q, b, h);
  T* out = static_cast<T*>(f.out) + b * f.out_strides.batch + h * f.out_strides.head;

  for (int64_t q0 = 0; q0 < d.q_len; q0 += plan.block) {
    const int64_t rows = d.q_len - q0 < plan.block ? d.q_len - q0 : plan.block;
    const int64_t seen = visible_keys(d, f.mask, b, q0 + rows - 1), width = round_up(seen, kLanes);
    pack_rows(q + q0 * f.q.strides.token, f.q.strides.token, d.scale, rows, round_up(rows, kTileRows), d.head_dim,
              queries, plan.dim);
    multiply<false, false>(queries, plan.dim, keys, plan.keys, scores, plan.keys, rows, seen, d.head_dim);
    float inverse[kTileRows * 8];
    for (int64_t i = 0; i < rows; ++i) {
      const float* bias = bias_row(f.bias, b, h, q0 + i);
      float* row = scores + i * plan.keys;
      const int64_t visible = visible_keys(d, f.mask, b, q0 + i);
      const RowSoftmax r =
          bias ? softmax_row<true>(row, bias, visible, width) : softmax_row<false>(row, bias, visible, width);
      inverse[i] = r.sum == 0.0f ? 0.0f : 1.0f / r.sum;
      if (f.lse)
        f.lse[(b * d.heads + h) * d.q_len + q0 + i] = r.sum == 0.0f ? -kInfinity : r.max + __builtin_logf(r.sum);
    }
    multiply<false, false>(scores, plan.keys, values, plan.dim, sums, plan.dim, rows, d.head_dim, seen);
    for (int64_t i = 0; i < rows; ++i)
      for_lanes(d.head_dim, [&](int64_t e, auto lanes) {
        store_n(out + (q0 + i) * f.out_strides.token + e, load(sums + i * plan.dim + e) * inverse[i], lanes);
      });
  }
}

struct BackwardArgs {
  HeadView dout, q, k, v, out;
  const float* lse;
  AttentionMask mask;
  AttentionBias bias;
  HeadDest dq, dk, dv;
  Dest dbias;
  AttentionDims d;
};

int64_t backward_floats(const Plan& plan, const AttentionDims& d) {
  const int64_t key_rows = round_up(d.k_len, kTileRows);
  return 2 * plan.dim * plan.keys + (d.k_len + 2 * key_rows) * plan.dim + plan.block * (3 * plan.dim + 2 * plan.keys) +
         plan.block + 10 * 64;
}

// out[t, e] = addend[t, e] + from[t, e] * scale.
template <class T>
void unpack(const HeadDest& to, int64_t b, int64_t h, int64_t token, const float* from, int64_t ld, float scale,
            int64_t tokens, int64_t dim) {
  const int64_t first = b * to.strides.batch + h * to.strides.head + token * to.strides.token;
  T* out = static_cast<T*>(to.dest.out) + first;
  const T* addend = to.dest.addend ? static_cast<const T*>(to.dest.addend) + first : nullptr;
  for (int64_t t = 0; t < tokens; ++t) {
    if (t + kPrefetchRows < tokens) prefetch_row_to_write(out + (t + kPrefetchRows) * to.strides.token, dim);
    for_lanes(dim, [&](int64_t e, auto lanes) {
      vfloat value = load(from + t * ld + e) * scale;
      if (addend) value += load_n(addend + t * to.strides.token + e, lanes);
      store_n(out + t * to.strides.token + e, value, lanes);
    });
  }
}

// dbias[j] = (first ? addend[j] : dbias[j]) + ds[j], ds being 0 from `width` on.
void add_bias_gradient(const BackwardArgs& g, int64_t b, int64_t h, int64_t query, bool first, const float* ds,
                       int64_t width) {
  const int64_t at = bias_row(g.bias, b, h, query) - g.bias.data;
  float* out = static_cast<float*>(g.dbias.out) + at;
  const float* addend = !first ? out : g.dbias.addend ? static_cast<const float*>(g.dbias.addend) + at : nullptr;
  for (int64_t j = 0; j < g.d.k_len; ++j) out[j] = (addend ? addend[j] : 0.0f) + (j < width ? ds[j] : 0.0f);
}

template <class T>
void backward_head(const BackwardArgs& g, const Plan& plan, int64_t b, int64_t h, bool first_of_bias, float* scratch) {
  const AttentionDims& d = g.d;
  const int64_t key_rows = round_up(d.k_len, kTileRows);
  const bool scores_learn = g.dq.dest.wanted() || g.dk.dest.wanted() || g.dbias.wanted();
  Pieces pieces{scratch};
  float* keys_t = pieces.take(plan.dim * plan.keys);     // [head_dim, k_len]
  float* values_t = pieces.take(plan.dim * plan.keys);   // [head_dim, k_len]
  float* keys = pieces.take(d.k_len * plan.dim);         // [k_len, head_dim]
  float* dkeys = pieces.take(key_rows * plan.dim);       // [k_len, head_dim]
  float* dvalues = pieces.take(key_rows * plan.dim);     // [k_len, head_dim]
  float* queries = pieces.take(plan.block * plan.dim);   // [block, head_dim], scaled
  float* douts = pieces.take(plan.block * plan.dim);     // [block, head_dim]
  float* dqueries = pieces.take(plan.block * plan.dim);  // [block, head_dim]
  float* p = pieces.take(plan.block * plan.keys);        // [block, k_len]: S, then P
  float* ds = pieces.take(plan.block * plan.keys);       // [block, k_len]: dP, then dS
  const T *q = head_of<T>(g.q, b, h), *k = head_of<T>(g.k, b, h), *v = head_of<T>(g.v, b, h);
  const T *dout = head_of<T>(g.dout, b, h), *out = head_of<T>(g.out, b, h);

  pack_columns(k, g.k.strides.token, d.k_len, d.head_dim, keys_t, plan.keys);
  if (scores_learn) pack_columns(v, g.v.strides.token, d.k_len, d.head_dim, values_t, plan.keys);
  if (g.dq.dest.wanted()) pack_rows(k, g.k.strides.token, 1.0f, d.k_len, d.k_len, d.head_dim, keys, plan.dim);
  const auto gradient_bytes = static_cast<size_t>(key_rows * plan.dim) * 4;
  if (g.dk.dest.wanted()) __builtin_memset(dkeys, 0, gradient_bytes);
  if (g.dv.dest.wanted()) __builtin_memset(dvalues, 0, gradient_bytes);

  for (int64_t q0 = 0; q0 < d.q_len; q0 += plan.block) {
    const int64_t rows = d.q_len - q0 < plan.block ? d.q_len - q0 : plan.block, room = round_up(rows, kTileRows);
    const int64_t seen = visible_keys(d, g.mask, b, q0 + rows - 1);
    // Tiles of dV and dK take whole kTileRows of keys: what they take beyond `seen` must be zeros.
    const int64_t width = round_up(round_up(seen, kTileRows), kLanes);
    pack_rows(q + q0 * g.q.strides.token, g.q.strides.token, d.scale, rows, room, d.head_dim, queries, plan.dim);
    pack_rows(dout + q0 * g.dout.strides.token, g.dout.strides.token, 1.0f, rows, room, d.head_dim, douts, plan.dim);
    multiply<false, false>(queries, plan.dim, keys_t, plan.keys, p, plan.keys, rows, seen, d.head_dim);
    if (scores_learn)
      multiply<false, false>(douts, plan.dim, values_t, plan.keys, ds, plan.keys, rows, seen, d.head_dim);
    for (int64_t i = 0; i < rows; ++i) {
      vfloat products{};
      for_lanes(d.head_dim, [&](int64_t e, auto lanes) {
        products += load_n(dout + (q0 + i) * g.dout.strides.token + e, lanes) *
                    load_n(out + (q0 + i) * g.out.strides.token + e, lanes);
      });
      const float delta = sum_lanes(products), lse = g.lse[(b * d.heads + h) * d.q_len + q0 + i];
      const float* bias = bias_row(g.bias, b, h, q0 + i);
      float *p_row = p + i * plan.keys, *ds_row = ds + i * plan.keys;
      const int64_t visible = visible_keys(d, g.mask, b, q0 + i);
      if (bias)
        gradient_row<true>(p_row, ds_row, bias, lse, delta, visible, width);
      else
        gradient_row<false>(p_row, ds_row, bias, lse, delta, visible, width);
      if (g.dbias.wanted())
        add_bias_gradient(g, b, h, q0 + i, first_of_bias && (g.bias.query != 0 || q0 + i == 0), ds_row, width);
    }
    if (g.dv.dest.wanted())
      multiply<true, true>(p, plan.keys, douts, plan.dim, dvalues, plan.dim, seen, d.head_dim, rows);
    if (g.dk.dest.wanted())
      multiply<true, true>(ds, plan.keys, queries, plan.dim, dkeys, plan.dim, seen, d.head_dim, rows);
    if (g.dq.dest.wanted()) {
      multiply<false, false>(ds, plan.keys, keys, plan.dim, dqueries, plan.dim, rows, d.head_dim, seen);
      unpack<T>(g.dq, b, h, q0, dqueries, plan.dim, d.scale, rows, d.head_dim);
    }
  }
  if (g.dk.dest.wanted()) unpack<T>(g.dk, b, h, 0, dkeys, plan.dim, 1.0f, d.k_len, d.head_dim);
  if (g.dv.dest.wanted()) unpack<T>(g.dv, b, h, 0, dvalues, plan.dim, 1.0f, d.k_len, d.head_dim);
}

}  // namespace

void attention_forward(Stream& stream, DType dtype, HeadView q, HeadView k, HeadView v, AttentionMask mask,
                       AttentionBias bias, void* out, HeadStrides out_strides, float* lse, AttentionDims dims) {
  const Forward f{q, k, v, mask, bias, out, out_strides, lse, dims};
  const Plan plan = plan_of(dims);
  const int64_t floats = round_up(forward_floats(plan, dims), 1024);
  const Scratch scratch = stream.scratch(static_cast<size_t>(floats) * 4 * static_cast<size_t>(compute_threads()));
  parallel_chunks(dims.batch * dims.heads, [&](int64_t task) {
    float* mine = scratch.f32() + compute_thread() * floats;
    visit_float(dtype, [&]<class T>() { forward_head<T>(f, plan, task / dims.heads, task % dims.heads, mine); });
  });
}

void attention_backward(Stream& stream, DType dtype, HeadView dout, HeadView q, HeadView k, HeadView v, HeadView out,
                        const float* lse, AttentionMask mask, AttentionBias bias, HeadDest dq, HeadDest dk, HeadDest dv,
                        Dest dbias, AttentionDims dims) {
  if (!dq.dest.wanted() && !dk.dest.wanted() && !dv.dest.wanted() && !dbias.wanted()) return;
  const BackwardArgs g{dout, q, k, v, out, lse, mask, bias, dq, dk, dv, dbias, dims};
  const Plan plan = plan_of(dims);
  const int64_t floats = round_up(backward_floats(plan, dims), 1024);
  const Scratch scratch = stream.scratch(static_cast<size_t>(floats) * 4 * static_cast<size_t>(compute_threads()));
  // (b, h) pairs that share a bias whose gradient is wanted are one task, in order.
  const int64_t batch_groups = dbias.wanted() ? (bias.batch == 0 ? 1 : bias.batches) : dims.batch;
  const int64_t head_groups = dbias.wanted() && bias.head == 0 ? 1 : dims.heads;
  parallel_chunks(batch_groups * head_groups, [&](int64_t task) {
    float* mine = scratch.f32() + compute_thread() * floats;
    const int64_t b0 = task / head_groups, h0 = task % head_groups;
    for (int64_t b = b0; b < dims.batch; b += batch_groups)
      for (int64_t h = h0; h < dims.heads; h += head_groups)
        visit_float(dtype, [&]<class T>() { backward_head<T>(g, plan, b, h, b == b0 && h == h0, mine); });
  });
}

}  // namespace vtl::kernels::VTL_CPU
