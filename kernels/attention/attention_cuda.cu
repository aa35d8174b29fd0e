// Forward. A warp owns 32 queries and walks over the keys, 16 at a time: their scores, softmax and product with v pass
// through registers (Dao et al. 2022). Every warp reads all k and v from shared memory, so what the tensor cores wait
// for is that traffic: two row tiles of 16 share each fragment, which halves it.
//
// bf16 operands go to the tensor cores as they are, f32 ones as three products of tf32: 22 bits of mantissa at about
// three times the rate of FFMA.
#include "vtl/kernels/attention/head_dims.h"
#include "vtl/kernels/attention/head_tiles.h"
#include "vtl/kernels/device/atomic.h"
#include "vtl/kernels/device/launch.h"
#include "vtl/kernels/device/limits.h"
#include "vtl/kernels/device/math.h"
#include "vtl/kernels/device/warp.h"

namespace vtl::kernels::VTL_GPU {
namespace {

struct Forward {
  HeadView q, k, v;
  AttentionMask mask;
  AttentionBias bias;
  void* out;
  HeadStrides out_strides;
  float* lse;
  AttentionDims d;
  RowShape shape;
};

template <class T, int D>
struct ForwardTile : HeadTile<T, D> {
  static constexpr int R = sizeof(T) == 2 || D <= 64 ? 2 : 1, kRows = 16 * R;
  static constexpr int kKept = sizeof(T) == 2 ? HeadTile<T, D>::kSteps : 0;
};

// A warp's rows of the result so far: lane / 4 + 8 h + 16 m.
template <int D, int R>
struct Attended {
  float sums[R][D / 8][4] = {};  // of v, times 2^(score - max)
  float total[R][2] = {};        // of those powers, over the lane's own columns
  float max[R][2];

  VTL_DEVICE Attended() {
    VTL_UNROLL
    for (int m = 0; m < R; ++m) max[m][0] = max[m][1] = -kInfinity;
  }
};

VTL_DEVICE float quad_max(float x) {
  x = fmaxf(x, shuffle_xor(x, 1));
  return fmaxf(x, shuffle_xor(x, 2));
}
VTL_DEVICE float quad_sum(float x) {
  x += shuffle_xor(x, 1);
  return x + shuffle_xor(x, 2);
}

// A row's powers of 2 are of scores above its maximum so far, or up to this much less: sums are made smaller only when
// a score exceeds it, which later ones hardly do.
constexpr float kSlack = 8;

// Takes in 16 keys from `col` on, which `k` and `v` point to.
template <class T, int D, int R, int Kept, bool Biased>
VTL_DEVICE void attend(Attended<D, R>& rows, const LeftRows<T, D, R, Kept>& q, const T* k, const T* v,
                       const ScoreRule<Biased>& rule, int row, int col) {
  float x[R][2][4] = {};
  multiply_rows(x, q, k);
  make_scores<RowsAre::queries>(x, rule, row, col);
  float high[R][2];
  bool exceeded = false;
  VTL_UNROLL
  for (int m = 0; m < R; ++m) VTL_UNROLL
  for (int h = 0; h < 2; ++h) {
    const float(&a)[4] = x[m][0], (&b)[4] = x[m][1];
    high[m][h] = fmaxf(fmaxf(a[2 * h], a[2 * h + 1]), fmaxf(b[2 * h], b[2 * h + 1]));
    exceeded = exceeded || high[m][h] > rows.max[m][h] + kSlack;
  }
  if (any_of_warp(exceeded)) {
    VTL_UNROLL
    for (int m = 0; m < R; ++m) VTL_UNROLL
    for (int h = 0; h < 2; ++h) {
      const float max = fmaxf(rows.max[m][h], quad_max(high[m][h]));
      const float less = max == -kInfinity ? 1.0f : fast_exp2(rows.max[m][h] - max);  // -inf - -inf is no number
      rows.max[m][h] = max;
      rows.total[m][h] *= less;
      VTL_UNROLL
      for (int n = 0; n < D / 8; ++n) {
        rows.sums[m][n][2 * h] *= less;
        rows.sums[m][n][2 * h + 1] *= less;
      }
    }
  }
  VTL_UNROLL
  for (int m = 0; m < R; ++m) VTL_UNROLL
  for (int h = 0; h < 2; ++h) {
    const float base = rows.max[m][h] == -kInfinity ? 0.0f : rows.max[m][h];
    VTL_UNROLL
    for (int n = 0; n < 2; ++n) VTL_UNROLL
    for (int i = 2 * h; i < 2 * h + 2; ++i) {
      x[m][n][i] = fast_exp2(x[m][n][i] - base);
      rows.total[m][h] += x[m][n][i];
    }
  }
  multiply_across<D>(rows.sums, x, v);
}

// Keys col ... end - 1, of which k and v point to the first; their tiles are whole 16 rows.
template <class T, int D, int R, int Kept, bool Biased>
VTL_DEVICE void attend_to(Attended<D, R>& rows, const LeftRows<T, D, R, Kept>& q, const T* k, const T* v,
                          const ScoreRule<Biased>& rule, int row, int col, int end) {
  VTL_UNROLL_BY(1)
  for (; col < end; col += 16, k += 16 * D, v += 16 * D) attend(rows, q, k, v, rule, row, col);
}

template <class T, int D, int R>
VTL_DEVICE void write_attended(Attended<D, R>& rows, const Forward& f, Head head, int row, T* result) {
  const int q_len = static_cast<int>(f.d.q_len), lane = static_cast<int>(lane_index());
  float inverse[R][2];
  VTL_UNROLL
  for (int m = 0; m < R; ++m) VTL_UNROLL
  for (int i = 0; i < 2; ++i) {
    const float total = quad_sum(rows.total[m][i]);
    inverse[m][i] = total == 0.0f ? 0.0f : reciprocal(total);
    const int query = row + 16 * m + 8 * i + lane / 4;
    if (f.lse && lane % 4 == 0 && query < q_len)
      store(f.lse + (head.sample * f.d.heads + head.index) * f.d.q_len + query,
            total == 0.0f ? -kInfinity : rows.max[m][i] * kLn2 + logf(total));
  }
  const RowsOut<T> to{static_cast<T*>(f.out) + head_offset(f.out_strides, head), nullptr, f.out_strides.token};
  write_rows<T, D, R>(result, rows.sums, inverse, to, f.shape, row, q_len);
}

// Three leave 168 registers to a thread, two 255.
template <int D>
constexpr int kWholeBlocks = D <= 64 ? 3 : 2;

// One block for each (sample, head), with all its k and v in shared memory: everything is read once. Row tiles go to
// whichever warp is free, which fetches the q of its next while it works. At 197 x 64 in bf16 three blocks of 73 KiB
// share a multiprocessor: one loads while two compute.
template <class T, int D>
__global__ void __launch_bounds__(kThreads, kWholeBlocks<D>) attend_whole(Forward f) {
  using Tile = ForwardTile<T, D>;
  VTL_DYNAMIC_SHARED(T, shared);
  VTL_SHARED(int, next_tile, [1]);
  const int warp = static_cast<int>(warp_index()), q_len = static_cast<int>(f.d.q_len);
  const int key_rows = round_up(static_cast<int>(f.d.k_len), 16), tiles = (q_len + Tile::kRows - 1) / Tile::kRows;
  T* const k = shared;
  T* const v = k + key_rows * D;
  T* const q = v + key_rows * D + warp * Tile::kRows * D;
  T* const result = v + (key_rows + kWarps * Tile::kRows) * D + warp * 8 * D;

  const Head head = head_of(blockIdx.x, f.d);
  const ScoreRule rule = score_rule<false>(f.mask, f.bias, f.d, head);
  const HeadRows<T> q_rows = head_rows<T>(f.q, head);
  const auto fetch_queries = [&](int tile) {
    if (tile < tiles) Tile::fetch(q, q_rows, f.shape, tile * Tile::kRows, Tile::kRows, q_len, lane_index(), kWarpLanes);
    commit_async();
  };
  if (threadIdx.x == 0) next_tile[0] = kWarps;
  Tile::fetch(k, head_rows<T>(f.k, head), f.shape, 0, key_rows, rule.keys, threadIdx.x, kThreads);
  Tile::fetch(v, head_rows<T>(f.v, head), f.shape, 0, key_rows, rule.keys, threadIdx.x, kThreads);
  int tile = warp;
  fetch_queries(tile);
  wait_async<0>();
  __syncthreads();
  while (tile < tiles) {
    const LeftRows<T, D, Tile::R, Tile::kKept> left(q, Tile::kRows - 1);
    __syncwarp();  // all have read q
    const int next = next_for_warp(next_tile), row = tile * Tile::kRows;
    fetch_queries(next);
    Attended<D, Tile::R> rows;
    attend_to(rows, left, k, v, rule, row, 0, rule.keys_end(row + Tile::kRows));
    write_attended<T>(rows, f, head, row, result);
    wait_async<0>();
    __syncwarp();
    tile = next;
  }
}

// Any lengths: a block takes the queries of 4 warps, keys come by in stages of two.
template <class T, int D>
__global__ void __launch_bounds__(kThreads, 2) attend_by_blocks(Forward f, unsigned blocks) {
  using Tile = ForwardTile<T, D>;
  constexpr int kKeys = kStageRows<T, D>, kStage = 2 * kKeys * D;
  VTL_DYNAMIC_SHARED(T, shared);
  const int warp = static_cast<int>(warp_index()), q_len = static_cast<int>(f.d.q_len);
  T* const q = shared + 2 * kStage + warp * Tile::kRows * D;

  const Head head = head_of(blockIdx.x / blocks, f.d);
  const int first_row = static_cast<int>(blockIdx.x % blocks) * kWarps * Tile::kRows,
            row = first_row + warp * Tile::kRows;
  const ScoreRule rule = score_rule<true>(f.mask, f.bias, f.d, head);
  const HeadRows<T> k_rows = head_rows<T>(f.k, head), v_rows = head_rows<T>(f.v, head);
  const int end = rule.keys_end(min(first_row + kWarps * Tile::kRows, q_len)),
            warp_end = rule.keys_end(row + Tile::kRows);
  const auto fetch_keys = [&](int first) {
    T* const k = shared + first / kKeys % 2 * kStage;
    if (first < end) {
      Tile::fetch(k, k_rows, f.shape, first, kKeys, rule.keys, threadIdx.x, kThreads);
      Tile::fetch(k + kKeys * D, v_rows, f.shape, first, kKeys, rule.keys, threadIdx.x, kThreads);
    }
    commit_async();
  };
  Tile::fetch(q, head_rows<T>(f.q, head), f.shape, row, Tile::kRows, q_len, lane_index(), kWarpLanes);
  commit_async();
  fetch_keys(0);
  wait_async<1>();
  __syncwarp();
  const LeftRows<T, D, Tile::R, Tile::kKept> left(q, Tile::kRows - 1);
  Attended<D, Tile::R> rows;
  VTL_UNROLL_BY(1)
  for (int first = 0; first < end; first += kKeys) {
    fetch_keys(first + kKeys);
    wait_async<1>();
    __syncthreads();
    const T* const k = shared + first / kKeys % 2 * kStage;
    attend_to(rows, left, k, k + kKeys * D, rule, row, first, min(first + kKeys, warp_end));
    __syncthreads();  // the stage is filled again
  }
  __syncwarp();
  write_attended<T>(rows, f, head, row, q);
}

// Any head_dim: a warp for each query and 128 columns of the result.
template <class T>
__global__ void __launch_bounds__(kThreads) attend_any(Forward f) {
  const int64_t index = static_cast<int64_t>(blockIdx.x) * kWarps + warp_index();
  if (index >= f.d.batch * f.d.heads * f.d.q_len) return;
  const Head head = head_of(static_cast<unsigned>(index / f.d.q_len), f.d);
  const int query = static_cast<int>(index % f.d.q_len), first = static_cast<int>(blockIdx.y) * kAnyColumns;
  const ScoreRule rule = score_rule<true>(f.mask, f.bias, f.d, head);
  const HeadRows<T> k = head_rows<T>(f.k, head), v = head_rows<T>(f.v, head);
  const T* const q = head_rows<T>(f.q, head).row(query);
  float max = -kInfinity, total = 0;
  AnyColumns sums{};
  for (int key = 0; key < rule.keys_end(query + 1); ++key) {
    const float x = rule.score(warp_dot(q, k.row(key), f.shape.head_dim), query, key);
    const float high = fmaxf(max, x), base = high == -kInfinity ? 0.0f : high;
    const float keep = fast_exp2(max - base), weight = fast_exp2(x - base);
    max = high;
    total = total * keep + weight;
    sums.scale(keep);
    sums.add(weight, v.row(key), first, f.shape.head_dim);
  }
  T* const out = static_cast<T*>(f.out) + head_offset(f.out_strides, head) + query * f.out_strides.token;
  sums.write<T>(out, nullptr, total == 0.0f ? 0.0f : reciprocal(total), first, f.shape.head_dim);
  if (f.lse && lane_index() == 0 && first == 0)
    store(f.lse + index, total == 0.0f ? -kInfinity : max * kLn2 + logf(total));
}

template <class T, int D>
void forward(Stream& stream, const Forward& f) {
  using Tile = ForwardTile<T, D>;
  const int64_t heads = f.d.batch * f.d.heads;
  const size_t query_bytes = kWarps * Tile::bytes(Tile::kRows);
  if constexpr (sizeof(T) == 2 && D <= 96) {  // beyond, shared memory has room for one block only
    const int64_t key_rows = (f.d.k_len + 15) / 16 * 16;
    const size_t bytes = 2 * static_cast<size_t>(key_rows) * Tile::bytes(1) + query_bytes + kWarps * kResultBytes<T, D>;
    if (!f.bias.data && f.d.q_len <= kWholeRows && f.d.k_len <= kWholeRows &&
        bytes + kStaticShared <= most_shared_bytes(stream))
      return launch(stream, {"attention_forward", static_cast<unsigned>(heads), kThreads, bytes}, attend_whole<T, D>,
                    f);
  }
  const unsigned blocks = blocks_for(f.d.q_len, kWarps * Tile::kRows);
  launch(stream,
         {"attention_forward_blocks", static_cast<unsigned>(blocks * heads), kThreads,
          4 * Tile::bytes(kStageRows<T, D>) + query_bytes},
         attend_by_blocks<T, D>, f, blocks);
}

}  // namespace

void attention_forward(Stream& stream, DType dtype, HeadView q, HeadView k, HeadView v, AttentionMask mask,
                       AttentionBias bias, void* out, HeadStrides out_strides, float* lse, AttentionDims dims) {
  if (dims.batch == 0 || dims.heads == 0 || dims.q_len == 0 || dims.head_dim == 0) return;
  Forward f{q, k, v, mask, bias, out, out_strides, lse, dims, {static_cast<int>(dims.head_dim), true}};
  visit_float(dtype, [&]<class T>() {
    for (const HeadView& view : {q, k, v}) f.shape.vectors = f.shape.vectors && in_vectors<T>(view, dims);
    f.shape.vectors = f.shape.vectors && in_vectors<T>({out, out_strides}, dims);
    const bool tiled = visit_head_dim<T>(dims.head_dim, [&]<int D>() { forward<T, D>(stream, f); });
    if (tiled) return;
    const dim3 grid(blocks_for(dims.batch * dims.heads * dims.q_len, kWarps), blocks_for(dims.head_dim, kAnyColumns));
    launch(stream, {"attention_forward_any", grid, kThreads}, attend_any<T>, f);
  });
}

}  // namespace vtl::kernels::VTL_GPU
