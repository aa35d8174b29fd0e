#include "vtl/kernels/copy/copy.h"
#include "vtl/kernels/device/rows.h"
#include "vtl/kernels/tokens/tokens.h"

namespace vtl::kernels::VTL_GPU {
namespace {

// A thread keeps N columns of one token and goes through the batch. Prefix tokens and position embedding are f32: N
// makes 16 bytes of it.
constexpr int kLanes = kVecLanes<float>;
constexpr int kThreads = 256, kSumThreads = 64;  // small blocks where only they make many

template <int N>
VTL_DEVICE int64_t first_column(int threads) {
  return (static_cast<int64_t>(blockIdx.x) * threads + threadIdx.x) * N;
}

// Which prefix token t belongs to, or kMaxPrefixes: a patch. `row` becomes its number there.
VTL_DEVICE int prefix_of(const int64_t (&count)[kMaxPrefixes], int64_t& row) {
  int k = 0;
  while (k < kMaxPrefixes && row >= count[k]) row -= count[k++];
  return k;
}

// ---- insert_tokens --------------------------------------------------------------------------------------------------

template <class T>
struct Insert {
  const T* patches;
  PrefixTokens prefix;
  const float* positions;
  T* y;
  int64_t prefixes;
  TokensDims d;

  // What is added to the patches in columns c ... of all tokens, or stands there instead.
  template <int N>
  struct Kept {
    Floats<N> added;
    int64_t c, patch;  // column among the patches; negative: a prefix
  };
  template <int N>
  VTL_DEVICE Kept<N> kept(int64_t c) const {
    int64_t t = c / d.dim;
    const int64_t embedded = t - (prefixes + d.patches - d.positions), inside = c - t * d.dim;
    Kept<N> kept{{}, c, c - prefixes * d.dim};
    if (positions && embedded >= 0) kept.added = load_floats<N>(positions + embedded * d.dim + inside);
    if (const int k = prefix_of(prefix.count, t); k < kMaxPrefixes) {
      const Floats<N> token = load_floats<N>(prefix.data[k] + t * d.dim + inside);
      VTL_UNROLL
      for (int i = 0; i < N; ++i) kept.added[i] += token[i];
    }
    return kept;
  }
  template <int N>
  VTL_DEVICE Vec<T, N> read(int64_t b, const Kept<N>& kept) const {
    return kept.patch < 0 ? Vec<T, N>{} : load_vec<N>(patches + b * d.patches * d.dim + kept.patch);
  }
  template <int N>
  VTL_DEVICE Floats<N> at(int64_t b, const Kept<N>& kept, const Vec<T, N>& patch) const {
    Floats<N> value = floats_of(patch);
    VTL_UNROLL
    for (int i = 0; i < N; ++i) value[i] += kept.added[i];
    store_floats(y + b * (prefixes + d.patches) * d.dim + kept.c, value);
    return value;
  }
};

// Grid: (columns of all tokens, batch or less).
template <int N, class T>
__global__ void __launch_bounds__(kThreads) insert(Insert<T> body) {
  const int64_t c = first_column<N>(kThreads);
  if (c >= (body.prefixes + body.d.patches) * body.d.dim) return;
  work_through<N, 1>(body, body.template kept<N>(c), blockIdx.y, body.d.batch, gridDim.y);
}

struct PrefixCounts {
  int64_t count[kMaxPrefixes] = {}, total = 0;
};

template <int N>
VTL_DEVICE void put_sum(const Dest& dest, int64_t at, Floats<N> sum) {
  if (!dest.wanted()) return;
  const auto before = load_floats_or_zero<N>(static_cast<const float*>(dest.addend), at);
  VTL_UNROLL
  for (int k = 0; k < N; ++k) sum[k] += before[k];
  store_floats(static_cast<float*>(dest.out) + at, sum);
}

// Sums over the batch for the prefixes and the position embedding, as far as wanted. Grid: columns of all tokens, or of
// the prefixes.
template <int N, class T>
__global__ void __launch_bounds__(kSumThreads)
    sum_tokens(const T* dy, PrefixCounts prefix, InsertTokensGrads grads, TokensDims d) {
  const int64_t c = first_column<N>(kSumThreads), tokens = prefix.total + d.patches, t = c / d.dim;
  const int64_t embedded = t - (tokens - d.positions), inside = c - t * d.dim;
  if (t >= tokens) return;
  int64_t row = t;
  const int k = prefix_of(prefix.count, row);
  Dest token, position;
  VTL_UNROLL
  for (int p = 0; p < kMaxPrefixes; ++p)
    if (p == k) token = grads.dprefix[p];
  if (embedded >= 0) position = grads.dpositions;
  if (!token.wanted() && !position.wanted()) return;
  const Floats<N> sum = sum_of_rows<N>(dy + c, d.batch, tokens * d.dim);
  put_sum(token, row * d.dim + inside, sum);
  put_sum(position, embedded * d.dim + inside, sum);
}

template <class T>
void insert_gradients(Stream& stream, const T* dy, const PrefixCounts& prefix, const InsertTokensGrads& grads,
                      TokensDims d) {
  const int64_t tokens = prefix.total + d.patches;
  if (grads.dpatches.wanted()) {
    const CopyDims patches{2, {d.batch, d.patches * d.dim}, {tokens * d.dim, 1}, {d.patches * d.dim, 1}};
    kernels::copy_strided_add(stream, dtype_of<T>::value, dy + prefix.total * d.dim, grads.dpatches, patches);
  }
  bool aligned = d.dim % kLanes == 0 && aligned_to<kLanes>(dy), wanted = false;
  const auto look = [&](const Dest& dest) {
    wanted = wanted || dest.wanted();
    aligned = aligned && aligned_to<kLanes>(static_cast<const float*>(dest.out)) &&
              aligned_to<kLanes>(static_cast<const float*>(dest.addend));
  };
  for (const Dest& dest : grads.dprefix) look(dest);
  look(grads.dpositions);
  const int64_t columns = (grads.dpositions.wanted() ? tokens : prefix.total) * d.dim;
  if (!wanted || columns == 0) return;
  if (aligned)
    launch(stream, {"insert_tokens gradients", blocks_for(columns, kSumThreads * kLanes), kSumThreads},
           sum_tokens<kLanes, T>, dy, prefix, grads, d);
  else
    launch(stream, {"insert_tokens gradients", blocks_for(columns, kSumThreads), kSumThreads}, sum_tokens<1, T>, dy,
           prefix, grads, d);
}

// ---- pool_tokens ----------------------------------------------------------------------------------------------------

// dx[b,t,:] = (t in [begin, end) ? dy[b,:] / (end - begin) : 0) + (addend ? addend[b,t,:] : 0)
template <class T>
struct Unpool {
  const T *dy, *addend;
  T* dx;
  float share;
  PoolTokensDims d;

  template <int N>
  struct Kept {
    Floats<N> value;
    int64_t first;  // element of token 0
  };
  template <int N>
  VTL_DEVICE Kept<N> kept(int64_t b, int64_t c) const {
    Kept<N> kept{load_floats<N>(dy + b * d.dim + c), b * d.tokens * d.dim + c};
    VTL_UNROLL
    for (int k = 0; k < N; ++k) kept.value[k] *= share;
    return kept;
  }
  template <int N>
  VTL_DEVICE Vec<T, N> read(int64_t t, const Kept<N>& kept) const {
    return load_vec_or_zero<N>(addend, kept.first + t * d.dim);
  }
  template <int N>
  VTL_DEVICE Floats<N> at(int64_t t, const Kept<N>& kept, const Vec<T, N>& before) const {
    Floats<N> value = floats_of(before);
    if (t >= d.begin && t < d.end) {
      VTL_UNROLL
      for (int k = 0; k < N; ++k) value[k] += kept.value[k];
    }
    store_floats(dx + kept.first + t * d.dim, value);
    return value;
  }
};

// Tokens first ... last - 1. Grid: (columns, tokens or less, batch or less).
template <int N, class T>
__global__ void __launch_bounds__(kThreads) unpool(Unpool<T> body, int64_t first, int64_t last) {
  const int64_t c = first_column<N>(static_cast<int>(blockDim.x));
  if (c >= body.d.dim) return;
  for (int64_t b = blockIdx.z; b < body.d.batch; b += gridDim.z)
    work_through<N, 1>(body, body.template kept<N>(b, c),
                       first + static_cast<int64_t>(blockIdx.y) * blockDim.y + threadIdx.y, last,
                       static_cast<int64_t>(gridDim.y) * blockDim.y);
}

CopyDims token_dims(const PoolTokensDims& d) { return {2, {d.batch, d.dim}, {d.tokens * d.dim, 1}, {d.dim, 1}}; }

}  // namespace

void insert_tokens_forward(Stream& stream, DType dtype, const void* patches, PrefixTokens prefix,
                           const float* positions, void* y, TokensDims dims) {
  const int64_t tokens = prefix.total() + dims.patches, columns = tokens * dims.dim;
  if (dims.batch == 0 || columns == 0) return;
  visit_float(dtype, [&]<class T>() {
    const Insert<T> body{static_cast<const T*>(patches), prefix, positions, static_cast<T*>(y), prefix.total(), dims};
    const auto go = [&]<int N>() {
      const unsigned blocks = blocks_for(columns, kThreads * N);
      const dim3 grid(blocks, rows_detail::blocks_to_fill(dims.batch, blocks, kMostGridYZ));
      launch(stream, {"insert_tokens", grid, kThreads}, insert<N, T>, body);
    };
    bool aligned = dims.dim % kLanes == 0 && aligned_to<kLanes>(body.patches) && aligned_to<kLanes>(positions) &&
                   aligned_to<kLanes>(body.y);
    for (const float* data : prefix.data) aligned = aligned && aligned_to<kLanes>(data);
    if (aligned)
      go.template operator()<kLanes>();
    else
      go.template operator()<1>();
  });
}

void insert_tokens_backward(Stream& stream, DType dtype, const void* dy, const int64_t (&prefix_count)[kMaxPrefixes],
                            InsertTokensGrads grads, TokensDims dims) {
  PrefixCounts prefix;
  for (int k = 0; k < kMaxPrefixes; ++k) prefix.total += prefix.count[k] = prefix_count[k];
  visit_float(dtype, [&]<class T>() { insert_gradients(stream, static_cast<const T*>(dy), prefix, grads, dims); });
}

void pool_tokens_forward(Stream& stream, DType dtype, const void* x, void* y, PoolTokensDims dims) {
  visit_float(dtype, [&]<class T>() {
    const T* first = static_cast<const T*>(x) + dims.begin * dims.dim;
    const int64_t count = dims.end - dims.begin;
    if (count == 1) return kernels::copy_strided(stream, sizeof(T), first, y, token_dims(dims));
    const RowReduction<T, T> job{first, static_cast<T*>(y), dims.tokens * dims.dim, 1.0f / static_cast<float>(count)};
    reduce_rows<Sum>(stream, "pool_tokens", job, {dims.batch, count, dims.dim});
  });
}

void pool_tokens_backward(Stream& stream, DType dtype, const void* dy, Dest dx, PoolTokensDims dims) {
  if (!dx.wanted() || dims.batch == 0 || dims.dim == 0) return;
  // What is added to itself stays as it is beside the range.
  const bool in_place = dx.out == dx.addend;
  const int64_t first = in_place ? dims.begin : 0, last = in_place ? dims.end : dims.tokens;
  visit_float(dtype, [&]<class T>() {
    const Unpool<T> body{static_cast<const T*>(dy), static_cast<const T*>(dx.addend), static_cast<T*>(dx.out),
                         1.0f / static_cast<float>(dims.end - dims.begin), dims};
    const auto go = [&]<int N>() {
      const dim3 block = row_block<N>({dims.batch, last - first, dims.dim});
      const unsigned columns = blocks_for(dims.dim, static_cast<int64_t>(block.x) * N);
      const dim3 grid(columns,
                      rows_detail::blocks_to_fill(blocks_for(last - first, block.y), columns * dims.batch, kMostGridYZ),
                      static_cast<unsigned>(min(dims.batch, kMostGridYZ)));
      launch(stream, {"pool_tokens gradient", grid, dim3(block.x, block.y)}, unpool<N, T>, body, first, last);
    };
    constexpr int N = kVecLanes<T>;
    if (dims.dim % N == 0 && aligned_to<N>(body.dy) && aligned_to<N>(body.addend) && aligned_to<N>(body.dx))
      go.template operator()<N>();
    else
      go.template operator()<1>();
  });
}

}  // namespace vtl::kernels::VTL_GPU
