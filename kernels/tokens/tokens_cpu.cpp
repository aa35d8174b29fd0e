#include "vtl/kernels/cpu/columns.h"
#include "vtl/kernels/tokens/tokens.h"

namespace vtl::kernels::VTL_CPU {
namespace {

// The row of token t among the prefixes, whose total is above t.
VTL_INLINE const float* prefix_row(const PrefixTokens& prefix, int64_t t, int64_t dim) {
  int k = 0;
  while (t >= prefix.count[k]) t -= prefix.count[k++];
  return prefix.data[k] + t * dim;
}

// y[c] = from[c] + position[c]; position may be null.
template <class T, class From>
VTL_INLINE void put_row(const From* from, const float* position, T* y, int64_t dim) {
  for_lanes(dim, [&](int64_t c, auto lanes) VTL_INLINE_BODY {
    vfloat value = load_n(from + c, lanes);
    if (position) value += load_n(position + c, lanes);
    store_n(y + c, value, lanes);
  });
}

template <class T>
void insert(const T* patches, const PrefixTokens& prefix, const float* positions, T* y, TokensDims d) {
  const int64_t prefixes = prefix.total(), tokens = prefixes + d.patches, rows = d.batch * tokens;
  parallel_for(rows, row_grain(rows, d.dim), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const int64_t b = r / tokens, t = r % tokens, embedded = t - (tokens - d.positions);
      const float* position = positions && embedded >= 0 ? positions + embedded * d.dim : nullptr;
      if (t < prefixes)
        put_row(prefix_row(prefix, t, d.dim), position, y + r * d.dim, d.dim);
      else
        put_row(patches + (b * d.patches + t - prefixes) * d.dim, position, y + r * d.dim, d.dim);
    }
  });
}

// out[c] = addend[c] + sum[c].
VTL_INLINE void put_sum(Dest dest, int64_t row, const float* sum, int64_t begin, int64_t count, int64_t dim) {
  if (!dest.wanted()) return;
  auto* out = static_cast<float*>(dest.out) + row * dim + begin;
  const auto* addend = dest.addend ? static_cast<const float*>(dest.addend) + row * dim + begin : nullptr;
  for_lanes(count, [&](int64_t c, auto lanes) VTL_INLINE_BODY {
    const vfloat value = load_n(sum + c, lanes);
    store_n(out + c, addend ? value + load_n(addend + c, lanes) : value, lanes);
  });
}

template <class T>
void insert_gradients(const T* dy, const int64_t* prefix_count, const InsertTokensGrads& grads, TokensDims d) {
  constexpr int64_t kPiece = 1024;  // columns summed at once
  int64_t prefixes = 0;
  for (int k = 0; k < kMaxPrefixes; ++k) prefixes += prefix_count[k];
  const int64_t tokens = prefixes + d.patches;

  if (grads.dpatches.wanted()) {
    auto* out = static_cast<T*>(grads.dpatches.out);
    const auto* addend = static_cast<const T*>(grads.dpatches.addend);
    const int64_t rows = d.batch * d.patches;
    parallel_for(rows, row_grain(rows, d.dim), [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) {
        const T* from = dy + (r / d.patches * tokens + prefixes + r % d.patches) * d.dim;
        for_lanes(d.dim, [&](int64_t c, auto lanes) VTL_INLINE_BODY {
          vfloat value = load_n(from + c, lanes);
          if (addend) value += load_n(addend + r * d.dim + c, lanes);
          store_n(out + r * d.dim + c, value, lanes);
        });
      }
    });
  }

  const int64_t summed = grads.dpositions.wanted() ? tokens : prefixes;
  parallel_for(summed, 1, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      int k = 0;
      int64_t in_prefix = t;
      while (k < kMaxPrefixes && in_prefix >= prefix_count[k]) in_prefix -= prefix_count[k++];
      const Dest prefix = k < kMaxPrefixes ? grads.dprefix[k] : Dest{};
      const int64_t embedded = t - (tokens - d.positions);
      const Dest position = embedded >= 0 ? grads.dpositions : Dest{};
      if (!prefix.wanted() && !position.wanted()) continue;
      for (int64_t c0 = 0; c0 < d.dim; c0 += kPiece) {
        const int64_t count = d.dim - c0 < kPiece ? d.dim - c0 : kPiece;
        float sum[kPiece];
        sum_repeats(d.batch, count, sum, [&](int64_t b, int64_t c, auto lanes) VTL_INLINE_BODY {
          return load_n(dy + (b * tokens + t) * d.dim + c0 + c, lanes);
        });
        put_sum(prefix, in_prefix, sum, c0, count, d.dim);
        put_sum(position, embedded, sum, c0, count, d.dim);
      }
    }
  });
}

template <class T>
void pool(const T* x, T* y, PoolTokensDims d) {
  constexpr int64_t kPiece = 256;
  const float inverse = 1.0f / static_cast<float>(d.end - d.begin);
  const int64_t pieces = (d.dim + kPiece - 1) / kPiece;
  parallel_chunks(d.batch * pieces, [&](int64_t task) {
    const int64_t b = task / pieces, c0 = task % pieces * kPiece, count = d.dim - c0 < kPiece ? d.dim - c0 : kPiece;
    const T* from = x + (b * d.tokens + d.begin) * d.dim + c0;
    float sum[kPiece];
    sum_repeats(d.end - d.begin, count, sum,
                [&](int64_t t, int64_t c, auto lanes) VTL_INLINE_BODY { return load_n(from + t * d.dim + c, lanes); });
    for_lanes(count, [&](int64_t c, auto lanes)
                         VTL_INLINE_BODY { store_n(y + b * d.dim + c0 + c, load_n(sum + c, lanes) * inverse, lanes); });
  });
}

template <class T>
void pool_gradient(const T* dy, Dest dx, PoolTokensDims d) {
  auto* out = static_cast<T*>(dx.out);
  const auto* addend = static_cast<const T*>(dx.addend);
  const float inverse = 1.0f / static_cast<float>(d.end - d.begin);
  const int64_t rows = d.batch * d.tokens;
  parallel_for(rows, row_grain(rows, d.dim), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const int64_t b = r / d.tokens, t = r % d.tokens;
      const float share = t >= d.begin && t < d.end ? inverse : 0.0f;
      if (share == 0.0f && addend && addend == out) continue;
      for_lanes(d.dim, [&](int64_t c, auto lanes) VTL_INLINE_BODY {
        vfloat value = share != 0.0f ? load_n(dy + b * d.dim + c, lanes) * share : vfloat{};
        if (addend) value += load_n(addend + r * d.dim + c, lanes);
        store_n(out + r * d.dim + c, value, lanes);
      });
    }
  });
}

}  // namespace

void insert_tokens_forward(Stream&, DType dtype, const void* patches, PrefixTokens prefix, const float* positions,
                           void* y, TokensDims dims) {
  visit_float(dtype,
              [&]<class T>() { insert(static_cast<const T*>(patches), prefix, positions, static_cast<T*>(y), dims); });
}

void insert_tokens_backward(Stream&, DType dtype, const void* dy, const int64_t (&prefix_count)[kMaxPrefixes],
                            InsertTokensGrads grads, TokensDims dims) {
  visit_float(dtype, [&]<class T>() { insert_gradients(static_cast<const T*>(dy), prefix_count, grads, dims); });
}

void pool_tokens_forward(Stream&, DType dtype, const void* x, void* y, PoolTokensDims dims) {
  visit_float(dtype, [&]<class T>() { pool(static_cast<const T*>(x), static_cast<T*>(y), dims); });
}

void pool_tokens_backward(Stream&, DType dtype, const void* dy, Dest dx, PoolTokensDims dims) {
  if (!dx.wanted()) return;
  visit_float(dtype, [&]<class T>() { pool_gradient(static_cast<const T*>(dy), dx, dims); });
}

}  // namespace vtl::kernels::VTL_CPU
