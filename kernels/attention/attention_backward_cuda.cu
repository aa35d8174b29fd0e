// Backward, with p recomputed from lse. Two phases, each with all its sums in the registers of one warp, so that
// nothing depends on an order between warps:
//   queries: s = q k^T, dp = dout v^T, ds = p (dp - delta), dq = scale ds k
//   keys:    the same transposed, dv = p^T dout, dk = scale ds^T q
// That is seven products where five would do. The other two would cost sums across warps or barriers, and so much
// shared memory that one block has a multiprocessor to itself, whose loads nothing hides. Two row tiles of 16 share
// each fragment of the other side where registers allow it (D <= 64), which halves shared-memory reads.
#include "vtl/kernels/attention/head_dims.h"
#include "vtl/kernels/attention/head_tiles.h"
#include "vtl/kernels/device/launch.h"
#include "vtl/kernels/device/limits.h"
#include "vtl/kernels/device/math.h"
#include "vtl/kernels/device/warp.h"

namespace vtl::kernels::VTL_GPU {
namespace {

struct Backward {
  HeadView dout, q, k, v, out;
  const float* lse;
  AttentionMask mask;
  AttentionBias bias;
  HeadDest dq, dk, dv;
  AttentionDims d;
  RowShape shape;
  // [batch, heads, q_len], from keep_statistics: lse as an exponent of 2, and delta.
  float *exponent, *delta;

  VTL_DEVICE int64_t statistics(Head head) const { return (head.sample * d.heads + head.index) * d.q_len; }
};

template <class T, int D>
struct BackwardTile : HeadTile<T, D> {
  static constexpr int R = D <= 64 ? 2 : 1, kRows = 16 * R;
  // Steps of the left rows in registers. Where dk and dv leave no room for those of v, they are read again.
  static constexpr int kKept = sizeof(T) == 2 ? HeadTile<T, D>::kSteps : 0;
  static constexpr int kKeptOfV = D == 64 || D == 128 ? 0 : kKept;
};

// ---- lse and delta --------------------------------------------------------------------------------------------------

// lse as an exponent of 2. A query that saw no key has no gradient: its p becomes 2^-inf.
VTL_DEVICE float exponent_of(float lse) { return lse == -kInfinity ? kInfinity : lse * kLog2E; }

// The product of row `query` of dout and out, for 8 lanes, which all get it. Beyond the last row: 0.
template <class T>
VTL_DEVICE float delta_of(const HeadRows<T>& dout, const HeadRows<T>& out, const RowShape& shape, int query, int end) {
  constexpr int kLanes = kVecLanes<T>;
  const int lane = static_cast<int>(lane_index() % 8);
  float sum = 0;
  if (query < end && shape.vectors) {
    for (int c = lane * kLanes; c < shape.head_dim; c += 8 * kLanes) {
      const auto a = load_floats<kLanes>(dout.row(query) + c), b = load_floats<kLanes>(out.row(query) + c);
      VTL_UNROLL
      for (int i = 0; i < kLanes; ++i) sum += a[i] * b[i];
    }
  } else if (query < end) {
    for (int e = lane; e < shape.head_dim; e += 8)
      sum += to_float(load(dout.row(query) + e)) * to_float(load(out.row(query) + e));
  }
  return warp_sum<8>(sum);
}

// Grid: batch * heads, rows of q in groups of 16, or less of them.
template <class T>
__global__ void __launch_bounds__(kThreads) keep_statistics(Backward g) {
  const Head head = head_of(blockIdx.x, g.d);
  const int64_t at = g.statistics(head);
  const HeadRows<T> dout = head_rows<T>(g.dout, head), out = head_rows<T>(g.out, head);
  const int q_len = static_cast<int>(g.d.q_len), step = static_cast<int>(gridDim.y) * kThreads / 8;
  for (int first = static_cast<int>(blockIdx.y) * kThreads / 8; first < q_len; first += step) {
    const int query = first + static_cast<int>(threadIdx.x) / 8;
    const float delta = delta_of(dout, out, g.shape, query, q_len);
    if (query >= q_len || lane_index() % 8 != 0) continue;
    store(g.delta + at + query, delta);
    store(g.exponent + at + query, exponent_of(load(g.lse + at + query)));
  }
}

// ---- the two phases -------------------------------------------------------------------------------------------------

// dq of a warp's rows takes in 16 keys from `key` on, which k and v point to.
template <class T, int D, int R, int Kept, bool Biased>
VTL_DEVICE void add_to_queries(float (&dq)[R][D / 8][4], const LeftRows<T, D, R, Kept>& q,
                               const LeftRows<T, D, R, Kept>& dout, const T* k, const T* v,
                               const ScoreRule<Biased>& rule, const float (&exponent)[R][2], const float (&delta)[R][2],
                               int query, int key) {
  float p[R][2][4] = {}, ds[R][2][4] = {};
  multiply_rows(p, q, k);
  multiply_rows(ds, dout, v);
  make_scores<RowsAre::queries>(p, rule, query, key);
  VTL_UNROLL
  for (int m = 0; m < R; ++m) VTL_UNROLL
  for (int n = 0; n < 2; ++n) VTL_UNROLL
  for (int i = 0; i < 4; ++i)
    ds[m][n][i] = fast_exp2(p[m][n][i] - exponent[m][i / 2]) * (ds[m][n][i] - delta[m][i / 2]);
  multiply_across<D>(dq, ds, k);
}

// dk and dv of a warp's rows take in 16 queries from `query` on, which q and dout, exponent and delta point to.
template <class T, int D, int R, int Kept, int KeptOfV, bool Biased>
VTL_DEVICE void add_to_keys(float (&dk)[R][D / 8][4], float (&dv)[R][D / 8][4], const LeftRows<T, D, R, Kept>& k,
                            const LeftRows<T, D, R, KeptOfV>& v, const T* q, const T* dout,
                            const ScoreRule<Biased>& rule, const float* exponent, const float* delta, int key,
                            int query) {
  float p[R][2][4] = {};
  multiply_rows(p, k, q);
  make_scores<RowsAre::keys>(p, rule, key, query);
  const unsigned column = lane_index() % 4 * 2;
  VTL_UNROLL
  for (int n = 0; n < 2; ++n) {
    const auto pair = load_vec<2>(exponent + 8 * n + column);
    VTL_UNROLL
    for (int m = 0; m < R; ++m) VTL_UNROLL
    for (int i = 0; i < 4; ++i) p[m][n][i] = fast_exp2(p[m][n][i] - pair[i % 2]);
  }
  multiply_across<D>(dv, p, dout);
  float ds[R][2][4] = {};
  multiply_rows(ds, v, dout);
  VTL_UNROLL
  for (int n = 0; n < 2; ++n) {
    const auto pair = load_vec<2>(delta + 8 * n + column);
    VTL_UNROLL
    for (int m = 0; m < R; ++m) VTL_UNROLL
    for (int i = 0; i < 4; ++i) ds[m][n][i] = p[m][n][i] * (ds[m][n][i] - pair[i % 2]);
  }
  multiply_across<D>(dk, ds, q);
}

template <class T, int D, int R>
VTL_DEVICE void write_gradient(const HeadDest& to, const Backward& g, T* result, const float (&sums)[R][D / 8][4],
                               float scale, Head head, int row, int64_t rows) {
  if (!to.dest.wanted()) return;
  float factor[R][2];
  VTL_UNROLL
  for (int m = 0; m < R; ++m) factor[m][0] = factor[m][1] = scale;
  write_rows<T, D, R>(result, sums, factor, rows_out<T>(to, head), g.shape, row, static_cast<int>(rows));
}

// exponent and delta of a warp's rows.
template <int R>
struct RowStatistics {
  float exponent[R][2], delta[R][2];

  VTL_DEVICE RowStatistics(const float* exponents, const float* deltas, int row, int end) {
    VTL_UNROLL
    for (int m = 0; m < R; ++m) VTL_UNROLL
    for (int i = 0; i < 2; ++i) {
      const int at = row + 16 * m + 8 * i + static_cast<int>(lane_index() / 4);
      exponent[m][i] = at < end ? load(exponents + at) : kInfinity;
      delta[m][i] = at < end ? load(deltas + at) : 0.0f;
    }
  }
};

// One block for each (sample, head), with q, k, v and dout in shared memory and delta made beside: everything is read
// once. Units of 32 keys, then of 32 queries, go to whichever warp is free. At 197 x 64 in bf16 two blocks of 110 KiB
// share a multiprocessor: one loads or writes while the other computes.
template <class T, int D>
__global__ void __launch_bounds__(kThreads, 2) gradients_whole(Backward g) {
  using Tile = BackwardTile<T, D>;
  constexpr int R = Tile::R;
  VTL_DYNAMIC_SHARED(T, shared);
  VTL_SHARED(int, next_unit, [1]);
  const int q_len = static_cast<int>(g.d.q_len), k_len = static_cast<int>(g.d.k_len);
  const int q_rows = round_up(q_len, 16), k_rows = round_up(k_len, 16);
  T *const q = shared, *const dout = q + q_rows * D, *const k = dout + q_rows * D, *const v = k + k_rows * D;
  float *const exponent = reinterpret_cast<float*>(v + k_rows * D), *const delta = exponent + q_rows;
  T* const result = reinterpret_cast<T*>(delta + q_rows) + warp_index() * 8 * D;

  const Head head = head_of(blockIdx.x, g.d);
  const ScoreRule rule = score_rule<false>(g.mask, g.bias, g.d, head);
  const HeadRows<T> dout_rows = head_rows<T>(g.dout, head), out_rows = head_rows<T>(g.out, head);
  if (threadIdx.x == 0) next_unit[0] = kWarps;
  Tile::fetch(q, head_rows<T>(g.q, head), g.shape, 0, q_rows, q_len, threadIdx.x, kThreads);
  Tile::fetch(k, head_rows<T>(g.k, head), g.shape, 0, k_rows, rule.keys, threadIdx.x, kThreads);
  Tile::fetch(dout, dout_rows, g.shape, 0, q_rows, q_len, threadIdx.x, kThreads);
  Tile::fetch(v, head_rows<T>(g.v, head), g.shape, 0, k_rows, rule.keys, threadIdx.x, kThreads);
  commit_async();
  VTL_UNROLL_BY(4)
  for (int first = 0; first < q_rows; first += kThreads / 8) {
    const int query = first + static_cast<int>(threadIdx.x) / 8;
    const float product = delta_of(dout_rows, out_rows, g.shape, query, q_len);
    if (lane_index() % 8 != 0) continue;
    delta[query] = product;
    exponent[query] = query < q_len ? exponent_of(load(g.lse + g.statistics(head) + query)) : kInfinity;
  }
  wait_async<0>();
  __syncthreads();

  const int key_units = g.dk.dest.wanted() || g.dv.dest.wanted() ? (k_len + Tile::kRows - 1) / Tile::kRows : 0;
  const int units = key_units + (g.dq.dest.wanted() ? (q_len + Tile::kRows - 1) / Tile::kRows : 0);
  VTL_UNROLL_BY(1)
  for (int unit = static_cast<int>(warp_index()); unit < units; unit = next_for_warp(next_unit)) {
    if (unit < key_units) {
      const int row = unit * Tile::kRows, begin = rule.causal ? min(row, q_rows) : 0;
      const unsigned last = static_cast<unsigned>(k_rows - 1 - row);
      const LeftRows<T, D, R, Tile::kKept> k_left(k + row * D, last);
      const LeftRows<T, D, R, Tile::kKeptOfV> v_left(v + row * D, last);
      float dk[R][D / 8][4] = {}, dv[R][D / 8][4] = {};
      VTL_UNROLL_BY(1)
      for (int query = begin; query < q_rows; query += 16)
        add_to_keys(dk, dv, k_left, v_left, q + query * D, dout + query * D, rule, exponent + query, delta + query, row,
                    query);
      write_gradient<T, D, R>(g.dk, g, result, dk, g.d.scale, head, row, k_len);
      write_gradient<T, D, R>(g.dv, g, result, dv, 1.0f, head, row, k_len);
    } else {
      const int row = (unit - key_units) * Tile::kRows, end = rule.keys_end(row + Tile::kRows);
      const unsigned last = static_cast<unsigned>(q_rows - 1 - row);
      const LeftRows<T, D, R, Tile::kKept> q_left(q + row * D, last), dout_left(dout + row * D, last);
      const RowStatistics<R> of_rows(exponent, delta, row, q_rows);
      float dq[R][D / 8][4] = {};
      VTL_UNROLL_BY(1)
      for (int key = 0; key < end; key += 16)
        add_to_queries(dq, q_left, dout_left, k + key * D, v + key * D, rule, of_rows.exponent, of_rows.delta, row,
                       key);
      write_gradient<T, D, R>(g.dq, g, result, dq, g.d.scale, head, row, q_len);
    }
  }
}

// Any lengths: a block takes the rows of 4 warps, the other side comes by in stages of two. The left rows lie in shared
// memory of their warp, which later holds the results.
template <class T, int D>
__global__ void __launch_bounds__(kThreads, 2) query_gradients(Backward g, unsigned blocks) {
  using Tile = BackwardTile<T, D>;
  constexpr int R = Tile::R, kStep = kStageRows<T, D>, kStage = 2 * kStep * D;
  VTL_DYNAMIC_SHARED(T, shared);
  T* const left = shared + 2 * kStage + warp_index() * 2 * Tile::kRows * D;
  const Head head = head_of(blockIdx.x / blocks, g.d);
  const int first_row = static_cast<int>(blockIdx.x % blocks) * kWarps * Tile::kRows,
            q_len = static_cast<int>(g.d.q_len);
  const int row = first_row + static_cast<int>(warp_index()) * Tile::kRows;
  const ScoreRule rule = score_rule<true>(g.mask, g.bias, g.d, head);
  const HeadRows<T> k_rows = head_rows<T>(g.k, head), v_rows = head_rows<T>(g.v, head);
  const int end = rule.keys_end(min(first_row + kWarps * Tile::kRows, q_len)),
            warp_end = rule.keys_end(row + Tile::kRows);
  const auto fetch_keys = [&](int first) {
    T* const k = shared + first / kStep % 2 * kStage;
    if (first < end) {
      Tile::fetch(k, k_rows, g.shape, first, kStep, rule.keys, threadIdx.x, kThreads);
      Tile::fetch(k + kStep * D, v_rows, g.shape, first, kStep, rule.keys, threadIdx.x, kThreads);
    }
    commit_async();
  };
  Tile::fetch(left, head_rows<T>(g.q, head), g.shape, row, Tile::kRows, q_len, lane_index(), kWarpLanes);
  Tile::fetch(left + Tile::kRows * D, head_rows<T>(g.dout, head), g.shape, row, Tile::kRows, q_len, lane_index(),
              kWarpLanes);
  commit_async();
  fetch_keys(0);
  const RowStatistics<R> of_rows(g.exponent + g.statistics(head), g.delta + g.statistics(head), row, q_len);
  wait_async<1>();
  __syncwarp();
  const LeftRows<T, D, R, Tile::kKept> q_left(left, Tile::kRows - 1),
      dout_left(left + Tile::kRows * D, Tile::kRows - 1);
  float dq[R][D / 8][4] = {};
  VTL_UNROLL_BY(1)
  for (int first = 0; first < end; first += kStep) {
    fetch_keys(first + kStep);
    wait_async<1>();
    __syncthreads();
    const T* k = shared + first / kStep % 2 * kStage;
    VTL_UNROLL_BY(1)
    for (int key = first; key < min(first + kStep, warp_end); key += 16, k += 16 * D)
      add_to_queries(dq, q_left, dout_left, k, k + kStep * D, rule, of_rows.exponent, of_rows.delta, row, key);
    __syncthreads();  // the stage is filled again
  }
  __syncwarp();
  write_gradient<T, D, R>(g.dq, g, left, dq, g.d.scale, head, row, g.d.q_len);
}

template <class T, int D>
__global__ void __launch_bounds__(kThreads, 2) key_gradients(Backward g, unsigned blocks) {
  using Tile = BackwardTile<T, D>;
  constexpr int R = Tile::R, kStep = kStageRows<T, D>, kStage = 2 * kStep * D;
  VTL_DYNAMIC_SHARED(T, shared);
  T* const left = shared + 2 * kStage + warp_index() * 2 * Tile::kRows * D;
  auto* const of_stages = reinterpret_cast<float*>(shared + 2 * kStage + kWarps * 2 * Tile::kRows * D);
  const Head head = head_of(blockIdx.x / blocks, g.d);
  const int first_row = static_cast<int>(blockIdx.x % blocks) * kWarps * Tile::kRows,
            q_len = static_cast<int>(g.d.q_len);
  const int row = first_row + static_cast<int>(warp_index()) * Tile::kRows;
  const ScoreRule rule = score_rule<true>(g.mask, g.bias, g.d, head);
  const HeadRows<T> q_rows = head_rows<T>(g.q, head), dout_rows = head_rows<T>(g.dout, head);
  const float *const exponent = g.exponent + g.statistics(head), *const delta = g.delta + g.statistics(head);
  // Queries before the first key see none of the block's.
  const int begin = rule.causal ? first_row / kStep * kStep : 0, end = first_row < rule.keys ? q_len : 0;
  const auto fetch_queries = [&](int first) {
    const int stage = first / kStep % 2;
    T* const q = shared + stage * kStage;
    if (first < end) {
      Tile::fetch(q, q_rows, g.shape, first, kStep, q_len, threadIdx.x, kThreads);
      Tile::fetch(q + kStep * D, dout_rows, g.shape, first, kStep, q_len, threadIdx.x, kThreads);
      const int at = static_cast<int>(threadIdx.x);
      if (at < kStep) {
        const unsigned taken = first + at < q_len ? 4 : 0;  // zeros do: their rows of q and dout are zeros, too
        copy_async<4>(of_stages + stage * 2 * kStep + at, exponent + (taken ? first + at : 0), taken);
        copy_async<4>(of_stages + (stage * 2 + 1) * kStep + at, delta + (taken ? first + at : 0), taken);
      }
    }
    commit_async();
  };
  Tile::fetch(left, head_rows<T>(g.k, head), g.shape, row, Tile::kRows, rule.keys, lane_index(), kWarpLanes);
  Tile::fetch(left + Tile::kRows * D, head_rows<T>(g.v, head), g.shape, row, Tile::kRows, rule.keys, lane_index(),
              kWarpLanes);
  commit_async();
  fetch_queries(begin);
  wait_async<1>();
  __syncwarp();
  const LeftRows<T, D, R, Tile::kKept> k_left(left, Tile::kRows - 1);
  const LeftRows<T, D, R, Tile::kKeptOfV> v_left(left + Tile::kRows * D, Tile::kRows - 1);
  float dk[R][D / 8][4] = {}, dv[R][D / 8][4] = {};
  VTL_UNROLL_BY(1)
  for (int first = begin; first < end; first += kStep) {
    fetch_queries(first + kStep);
    wait_async<1>();
    __syncthreads();
    const int stage = first / kStep % 2;
    const T* q = shared + stage * kStage;
    const float* statistics = of_stages + stage * 2 * kStep;
    VTL_UNROLL_BY(1)
    for (int query = first; query < first + kStep; query += 16, q += 16 * D, statistics += 16)
      add_to_keys(dk, dv, k_left, v_left, q, q + kStep * D, rule, statistics, statistics + kStep, row, query);
    __syncthreads();  // the stage is filled again
  }
  __syncwarp();
  write_gradient<T, D, R>(g.dk, g, left, dk, g.d.scale, head, row, g.d.k_len);
  write_gradient<T, D, R>(g.dv, g, left, dv, 1.0f, head, row, g.d.k_len);
}

// ---- the bias -------------------------------------------------------------------------------------------------------

// The (sample, head) pairs that share a bias are the tasks of its group. Their gradients are summed in slices, whose
// sums are then added in their order; the slices depend on the problem only.
struct BiasGroups {
  int64_t batch_groups, head_groups, tasks, slices;
  int64_t queries;   // 1 where queries share the bias
  int64_t partials;  // of each element
  int query_tiles, key_tiles;

  VTL_INLINE int64_t groups() const { return batch_groups * head_groups; }
  VTL_INLINE int64_t tasks_per_slice() const { return (tasks + slices - 1) / slices; }
  VTL_DEVICE Head head_of(int64_t group, int64_t task, const AttentionDims& d) const {
    const int64_t heads = head_groups == 1 ? d.heads : 1;  // of a sample
    return {static_cast<int>(group / head_groups + task / heads * batch_groups),
            static_cast<int>(heads == 1 ? group % head_groups : task % heads)};
  }
};
constexpr int64_t kMostSlices = 64, kTasksPerSlice = 8;

// A block makes ds of 64 queries and kStageRows keys, summed over a slice of tasks. partials:
// [partials][groups][queries] [k_len]; where queries share the bias, each warp of each tile writes one row of its own.
template <class T, int D>
__global__ void __launch_bounds__(kThreads, 2) bias_gradients(Backward g, BiasGroups groups, float* partials) {
  using Tile = HeadTile<T, D>;
  constexpr int kKeys = kStageRows<T, D>, kQueries = 16 * kWarps;
  VTL_DYNAMIC_SHARED(T, shared);
  T *const q = shared, *const dout = q + kQueries * D, *const k = dout + kQueries * D, *const v = k + kKeys * D;
  const int q_len = static_cast<int>(g.d.q_len), k_len = static_cast<int>(g.d.k_len);
  int64_t index = blockIdx.x;
  const int first_key = static_cast<int>(index % groups.key_tiles) * kKeys;
  index /= groups.key_tiles;
  const int query_tile = static_cast<int>(index % groups.query_tiles), first_query = query_tile * kQueries;
  index /= groups.query_tiles;
  const int64_t group = index % groups.groups(), slice = index / groups.groups();
  const int warp_row = static_cast<int>(warp_index()) * 16, row = first_query + warp_row;

  float sums[1][kKeys / 8][4] = {};
  const int64_t first_task = slice * groups.tasks_per_slice();
  for (int64_t task = first_task; task < min(first_task + groups.tasks_per_slice(), groups.tasks); ++task) {
    const Head head = groups.head_of(group, task, g.d);
    if (head.sample >= g.d.batch) break;
    const ScoreRule rule = score_rule<true>(g.mask, g.bias, g.d, head);
    Tile::fetch(q, head_rows<T>(g.q, head), g.shape, first_query, kQueries, q_len, threadIdx.x, kThreads);
    Tile::fetch(dout, head_rows<T>(g.dout, head), g.shape, first_query, kQueries, q_len, threadIdx.x, kThreads);
    Tile::fetch(k, head_rows<T>(g.k, head), g.shape, first_key, kKeys, rule.keys, threadIdx.x, kThreads);
    Tile::fetch(v, head_rows<T>(g.v, head), g.shape, first_key, kKeys, rule.keys, threadIdx.x, kThreads);
    commit_async();
    const RowStatistics<1> of_rows(g.exponent + g.statistics(head), g.delta + g.statistics(head), row, q_len);
    wait_async<0>();
    __syncthreads();
    const LeftRows<T, D, 1, 0> q_left(q + warp_row * D, 15), dout_left(dout + warp_row * D, 15);
    VTL_UNROLL
    for (int j = 0; j < kKeys; j += 16) {
      float p[1][2][4] = {}, dp[1][2][4] = {};
      multiply_rows(p, q_left, k + j * D);
      multiply_rows(dp, dout_left, v + j * D);
      make_scores<RowsAre::queries>(p, rule, row, first_key + j);
      VTL_UNROLL
      for (int n = 0; n < 2; ++n) VTL_UNROLL
      for (int i = 0; i < 4; ++i)
        sums[0][j / 8 + n][i] +=
            fast_exp2(p[0][n][i] - of_rows.exponent[0][i / 2]) * (dp[0][n][i] - of_rows.delta[0][i / 2]);
    }
    __syncthreads();
  }

  if (groups.queries == 1) {
    const int64_t partial = (slice * groups.query_tiles + query_tile) * kWarps + warp_index();
    float* const to = partials + (partial * groups.groups() + group) * k_len;
    VTL_UNROLL
    for (int n = 0; n < kKeys / 8; ++n) VTL_UNROLL
    for (int i = 0; i < 2; ++i) {
      float sum = sums[0][n][i] + sums[0][n][i + 2];
      for (unsigned bits = 4; bits < kWarpLanes; bits *= 2) sum += shuffle_xor(sum, bits);
      const int key = first_key + 8 * n + static_cast<int>(lane_index()) % 4 * 2 + i;
      if (lane_index() < 4 && key < k_len) store(to + key, sum);
    }
  } else {
    const float one[1][2] = {{1.0f, 1.0f}};
    const RowsOut<float> to{partials + (slice * groups.groups() + group) * groups.queries * k_len + first_key, nullptr,
                            k_len};
    write_rows<float, kKeys, 1>(reinterpret_cast<float*>(shared) + warp_index() * 8 * kKeys, sums, one, to,
                                {min(k_len - first_key, kKeys), k_len % 4 == 0}, row, q_len);
  }
}

// Any head_dim: a warp for each element of the bias sums all its tasks, and queries that share it.
template <class T>
__global__ void __launch_bounds__(kThreads) bias_gradients_any(Backward g, BiasGroups groups, float* sums) {
  const int64_t index = static_cast<int64_t>(blockIdx.x) * kWarps + warp_index();
  if (index >= groups.groups() * groups.queries * g.d.k_len) return;
  const int key = static_cast<int>(index % g.d.k_len), own_query = static_cast<int>(index / g.d.k_len % groups.queries);
  const int64_t group = index / g.d.k_len / groups.queries;
  const int first = groups.queries == 1 ? 0 : own_query;
  const int end = groups.queries == 1 ? static_cast<int>(g.d.q_len) : own_query + 1;
  float sum = 0;
  for (int64_t task = 0; task < groups.tasks; ++task) {
    const Head head = groups.head_of(group, task, g.d);
    if (head.sample >= g.d.batch) break;
    const ScoreRule rule = score_rule<true>(g.mask, g.bias, g.d, head);
    const T *const k = head_rows<T>(g.k, head).row(key), *const v = head_rows<T>(g.v, head).row(key);
    for (int query = first; query < end; ++query) {
      if (!rule.sees(query, key)) continue;
      const int64_t at = g.statistics(head) + query;
      const float score = rule.score(warp_dot(head_rows<T>(g.q, head).row(query), k, g.shape.head_dim), query, key);
      const float dp = warp_dot(head_rows<T>(g.dout, head).row(query), v, g.shape.head_dim);
      sum += fast_exp2(score - load(g.exponent + at)) * (dp - load(g.delta + at));
    }
  }
  if (lane_index() == 0) store(sums + index, sum);
}

// dbias = addend + the partial sums, in their order. One thread for each element.
__global__ void __launch_bounds__(kThreads)
    sum_bias_partials(const float* partials, BiasGroups groups, AttentionBias bias, Dest dbias, int64_t k_len) {
  const int64_t index = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  const int64_t count = groups.groups() * groups.queries * k_len;
  if (index >= count) return;
  float sum = 0;
  for (int64_t p = 0; p < groups.partials; ++p) sum += load(partials + p * count + index);
  const int64_t key = index % k_len, query = index / k_len % groups.queries, group = index / k_len / groups.queries;
  const int64_t at =
      group / groups.head_groups * bias.batch + group % groups.head_groups * bias.head + query * bias.query + key;
  const float before = dbias.addend ? load(static_cast<const float*>(dbias.addend) + at) : 0.0f;
  store(static_cast<float*>(dbias.out) + at, before + sum);
}

// ---- any head_dim ---------------------------------------------------------------------------------------------------

// A warp for each query and 128 columns of dq.
template <class T>
__global__ void __launch_bounds__(kThreads) query_gradients_any(Backward g) {
  const int64_t index = static_cast<int64_t>(blockIdx.x) * kWarps + warp_index();
  if (index >= g.d.batch * g.d.heads * g.d.q_len) return;
  const Head head = head_of(static_cast<unsigned>(index / g.d.q_len), g.d);
  const int query = static_cast<int>(index % g.d.q_len), first = static_cast<int>(blockIdx.y) * kAnyColumns;
  const ScoreRule rule = score_rule<true>(g.mask, g.bias, g.d, head);
  const HeadRows<T> k = head_rows<T>(g.k, head), v = head_rows<T>(g.v, head);
  const T *const q = head_rows<T>(g.q, head).row(query), *const dout = head_rows<T>(g.dout, head).row(query);
  const float exponent = load(g.exponent + index), delta = load(g.delta + index);
  AnyColumns dq{};
  for (int key = 0; key < rule.keys_end(query + 1); ++key) {
    const float p = fast_exp2(rule.score(warp_dot(q, k.row(key), g.shape.head_dim), query, key) - exponent);
    dq.add(p * (warp_dot(dout, v.row(key), g.shape.head_dim) - delta), k.row(key), first, g.shape.head_dim);
  }
  const RowsOut<T> to = rows_out<T>(g.dq, head);
  const int64_t at = query * to.stride;
  dq.write(to.out + at, to.addend ? to.addend + at : nullptr, g.d.scale, first, g.shape.head_dim);
}

// A warp for each key and 128 columns of dk and dv.
template <class T>
__global__ void __launch_bounds__(kThreads) key_gradients_any(Backward g) {
  const int64_t index = static_cast<int64_t>(blockIdx.x) * kWarps + warp_index();
  if (index >= g.d.batch * g.d.heads * g.d.k_len) return;
  const Head head = head_of(static_cast<unsigned>(index / g.d.k_len), g.d);
  const int key = static_cast<int>(index % g.d.k_len), first = static_cast<int>(blockIdx.y) * kAnyColumns;
  const ScoreRule rule = score_rule<true>(g.mask, g.bias, g.d, head);
  const HeadRows<T> q = head_rows<T>(g.q, head), dout = head_rows<T>(g.dout, head);
  const T *const k = head_rows<T>(g.k, head).row(key), *const v = head_rows<T>(g.v, head).row(key);
  AnyColumns dk{}, dv{};
  for (int query = 0; query < rule.queries; ++query) {
    if (!rule.sees(query, key)) continue;
    const int64_t at = g.statistics(head) + query;
    const float score = rule.score(warp_dot(q.row(query), k, g.shape.head_dim), query, key);
    const float p = fast_exp2(score - load(g.exponent + at));
    dv.add(p, dout.row(query), first, g.shape.head_dim);
    dk.add(p * (warp_dot(dout.row(query), v, g.shape.head_dim) - load(g.delta + at)), q.row(query), first,
           g.shape.head_dim);
  }
  const auto write = [&](const HeadDest& dest, const AnyColumns& sums, float scale) {
    if (!dest.dest.wanted()) return;
    const RowsOut<T> to = rows_out<T>(dest, head);
    const int64_t at = key * to.stride;
    sums.write(to.out + at, to.addend ? to.addend + at : nullptr, scale, first, g.shape.head_dim);
  };
  write(g.dk, dk, g.d.scale);
  write(g.dv, dv, 1.0f);
}

// ---- launches -------------------------------------------------------------------------------------------------------

template <class T, int D>
size_t whole_bytes(const AttentionDims& d) {
  const int64_t q_rows = (d.q_len + 15) / 16 * 16, k_rows = (d.k_len + 15) / 16 * 16;
  return static_cast<size_t>(2 * (q_rows + k_rows) * BackwardTile<T, D>::bytes(1) + 2 * q_rows * 4 +
                             kWarps * kResultBytes<T, D>);
}

// Whether one kernel makes dq, dk and dv of a whole head. Beyond D = 64 that much shared memory is rarely there, nor
// are the registers.
template <class T>
bool fits_whole(const Stream& stream, const Backward& g) {
  const AttentionDims& d = g.d;
  if (sizeof(T) != 2 || g.bias.data || d.q_len > kWholeRows || d.k_len > kWholeRows || d.head_dim > 64) return false;
  const size_t bytes = d.head_dim <= 32 ? whole_bytes<T, 32>(d) : whole_bytes<T, 64>(d);
  return bytes + kStaticShared <= most_shared_bytes(stream);
}

bool any_of_qkv(const Backward& g) { return g.dq.dest.wanted() || g.dk.dest.wanted() || g.dv.dest.wanted(); }

template <class T, int D>
void backward_whole(Stream& stream, const Backward& g) {
  if constexpr (sizeof(T) == 2 && D <= 64)
    launch(stream,
           {"attention_backward", static_cast<unsigned>(g.d.batch * g.d.heads), kThreads, whole_bytes<T, D>(g.d)},
           gradients_whole<T, D>, g);
}

template <class T, int D>
void backward_blocks(Stream& stream, const Backward& g) {
  using Tile = BackwardTile<T, D>;
  const size_t bytes = 4 * Tile::bytes(kStageRows<T, D>) + kWarps * 2 * Tile::bytes(Tile::kRows);
  const size_t statistics = 4 * kStageRows<T, D> * sizeof(float);
  const auto heads = static_cast<unsigned>(g.d.batch * g.d.heads);
  if (g.d.q_len > 0 && g.dq.dest.wanted()) {
    const unsigned blocks = blocks_for(g.d.q_len, kWarps * Tile::kRows);
    launch(stream, {"attention_query_gradients", blocks * heads, kThreads, bytes}, query_gradients<T, D>, g, blocks);
  }
  if (g.d.k_len > 0 && (g.dk.dest.wanted() || g.dv.dest.wanted())) {
    const unsigned blocks = blocks_for(g.d.k_len, kWarps * Tile::kRows);
    launch(stream, {"attention_key_gradients", blocks * heads, kThreads, bytes + statistics}, key_gradients<T, D>, g,
           blocks);
  }
}

template <class T>
void backward_any(Stream& stream, const Backward& g) {
  const unsigned columns = blocks_for(g.d.head_dim, kAnyColumns);
  const int64_t heads = g.d.batch * g.d.heads;
  if (g.d.q_len > 0 && g.dq.dest.wanted()) {
    const dim3 grid(blocks_for(heads * g.d.q_len, kWarps), columns);
    launch(stream, {"attention_query_gradients_any", grid, kThreads}, query_gradients_any<T>, g);
  }
  if (g.d.k_len > 0 && (g.dk.dest.wanted() || g.dv.dest.wanted())) {
    const dim3 grid(blocks_for(heads * g.d.k_len, kWarps), columns);
    launch(stream, {"attention_key_gradients_any", grid, kThreads}, key_gradients_any<T>, g);
  }
}

template <class T>
void backward_bias(Stream& stream, const Backward& g, Dest dbias) {
  const AttentionDims& d = g.d;
  BiasGroups groups{};
  groups.batch_groups = g.bias.batch == 0 ? 1 : g.bias.batches;
  groups.head_groups = g.bias.head == 0 ? 1 : d.heads;
  groups.queries = g.bias.query == 0 ? 1 : d.q_len;
  groups.tasks = (d.batch + groups.batch_groups - 1) / groups.batch_groups * (d.heads / groups.head_groups);
  const int64_t count = groups.groups() * groups.queries * d.k_len;
  if (count == 0) return;
  const bool tiled = visit_head_dim<T>(d.head_dim, [&]<int D>() {
    constexpr int kKeys = kStageRows<T, D>, kQueries = 16 * kWarps;
    groups.slices = max(int64_t{1}, min((groups.tasks + kTasksPerSlice - 1) / kTasksPerSlice, kMostSlices));
    groups.slices = (groups.tasks + groups.tasks_per_slice() - 1) / groups.tasks_per_slice();
    groups.query_tiles = static_cast<int>((d.q_len + kQueries - 1) / kQueries);
    groups.key_tiles = static_cast<int>((d.k_len + kKeys - 1) / kKeys);
    groups.partials = groups.slices * (groups.queries == 1 ? groups.query_tiles * kWarps : 1);
    const Scratch partials = stream.scratch(static_cast<size_t>(groups.partials * count) * 4);
    const int64_t blocks = groups.slices * groups.groups() * groups.query_tiles * groups.key_tiles;
    if (blocks > 0)
      launch(stream,
             {"attention_bias_gradients", static_cast<unsigned>(blocks), kThreads,
              2 * HeadTile<T, D>::bytes(kQueries + kKeys)},
             bias_gradients<T, D>, g, groups, partials.f32());
    launch(stream, {"attention_sum_bias", blocks_for(count, kThreads), kThreads}, sum_bias_partials, partials.f32(),
           groups, g.bias, dbias, d.k_len);
  });
  if (tiled) return;
  groups.partials = 1;
  const Scratch sums = stream.scratch(static_cast<size_t>(count) * 4);
  launch(stream, {"attention_bias_gradients_any", blocks_for(count, kWarps), kThreads}, bias_gradients_any<T>, g,
         groups, sums.f32());
  launch(stream, {"attention_sum_bias", blocks_for(count, kThreads), kThreads}, sum_bias_partials, sums.f32(), groups,
         g.bias, dbias, d.k_len);
}

template <class T>
void backward(Stream& stream, Backward g, Dest dbias) {
  const AttentionDims& d = g.d;
  for (const HeadView& view : {g.dout, g.q, g.k, g.v, g.out})
    g.shape.vectors = g.shape.vectors && in_vectors<T>(view, d);
  for (const HeadDest& to : {g.dq, g.dk, g.dv})
    g.shape.vectors = g.shape.vectors && in_vectors<T>({to.dest.out, to.strides}, d) &&
                      in_vectors<T>({to.dest.addend, to.strides}, d);

  const bool whole = fits_whole<T>(stream, g);
  const int64_t rows = d.batch * d.heads * d.q_len;
  const Scratch statistics = stream.scratch(whole && !dbias.wanted() ? 0 : static_cast<size_t>(rows) * 8);
  if (!whole || dbias.wanted()) {
    g.exponent = statistics.f32();
    g.delta = g.exponent + rows;
    const dim3 grid(static_cast<unsigned>(d.batch * d.heads), min(blocks_for(d.q_len, kThreads / 8), 65535u));
    if (rows > 0) launch(stream, {"attention_statistics", grid, kThreads}, keep_statistics<T>, g);
  }
  if (dbias.wanted()) backward_bias<T>(stream, g, dbias);
  if (!any_of_qkv(g)) return;
  const bool tiled = visit_head_dim<T>(
      d.head_dim, [&]<int D>() { whole ? backward_whole<T, D>(stream, g) : backward_blocks<T, D>(stream, g); });
  if (!tiled) backward_any<T>(stream, g);
}

}  // namespace

void attention_backward(Stream& stream, DType dtype, HeadView dout, HeadView q, HeadView k, HeadView v, HeadView out,
                        const float* lse, AttentionMask mask, AttentionBias bias, HeadDest dq, HeadDest dk, HeadDest dv,
                        Dest dbias, AttentionDims dims) {
  if (!dq.dest.wanted() && !dk.dest.wanted() && !dv.dest.wanted() && !dbias.wanted()) return;
  if (dims.batch == 0 || dims.heads == 0 || dims.head_dim == 0) return;
  const Backward g{
      dout, q, k, v, out, lse, mask, bias, dq, dk, dv, dims, {static_cast<int>(dims.head_dim), true}, nullptr, nullptr};
  visit_float(dtype, [&]<class T>() { backward<T>(stream, g, dbias); });
}

}  // namespace vtl::kernels::VTL_GPU
