// Rows of one head as tiles in shared memory, and a warp's products on them. Device code.
#pragma once

#include "vtl/kernels/attention/attention.h"
#include "vtl/kernels/device/async_copy.h"
#include "vtl/kernels/device/floats.h"
#include "vtl/kernels/device/staged_tile.h"

namespace vtl::kernels::VTL_GPU {

// One head of a [batch, heads, tokens, head_dim] operand: `stride` values from row to row.
template <class T>
struct HeadRows {
  const T* first;
  int64_t stride;

  VTL_DEVICE const T* row(int token) const { return first + token * stride; }
};

// Which sample and which of its heads: number sample * heads + index.
struct Head {
  int sample, index;
};
VTL_DEVICE Head head_of(unsigned number, const AttentionDims& d) {
  const auto heads = static_cast<unsigned>(d.heads);
  return {static_cast<int>(number / heads), static_cast<int>(number % heads)};
}

VTL_DEVICE int64_t head_offset(const HeadStrides& s, Head head) { return head.sample * s.batch + head.index * s.head; }

template <class T>
VTL_DEVICE HeadRows<T> head_rows(const HeadView& view, Head head) {
  return {static_cast<const T*>(view.data) + head_offset(view.strides, head), view.strides.token};
}

// How rows move: `head_dim` values, in vectors where all operands allow it.
struct RowShape {
  int head_dim;
  bool vectors;
};

VTL_INLINE constexpr int round_up(int value, int multiple) { return (value + multiple - 1) / multiple * multiple; }

// [rows, D] of T in chunks of 16 bytes. A chunk's place in its row is turned by the row, so that 8 rows of one chunk
// lie in different banks. A pointer to a tile may point to any row of it that is a multiple of 16. Products take 32
// bytes of a row, one step, at a time.
template <class T, int D>
struct HeadTile {
  static_assert(D % 16 == 0);
  static constexpr int kLanes = kVecLanes<T>, kChunks = D / kLanes, kSteps = kChunks / 2, kDepth = 2 * kLanes;
  static constexpr unsigned kTurns = kChunks % 8 == 0 ? 8 : kChunks % 4 == 0 ? 4 : 2;

  VTL_INLINE static constexpr int bytes(int rows) { return rows * D * static_cast<int>(sizeof(T)); }

  VTL_DEVICE static unsigned place(unsigned row, unsigned chunk) {
    return (row * kChunks + (chunk ^ row / (8 / kTurns) % kTurns)) * kLanes;
  }

  // Rows first ... first + rows - 1 of `from`: zeros from row `end` and from column head_dim on. Done by `threads`
  // threads, of which this is number `thread`; there when they have waited for their asynchronous copies.
  VTL_DEVICE static void fetch(T* tile, const HeadRows<T>& from, const RowShape& shape, int first, int rows, int end,
                               unsigned thread, unsigned threads) {
    VTL_UNROLL_BY(4)
    for (unsigned i = thread; i < static_cast<unsigned>(rows * kChunks); i += threads) {
      const unsigned row = i / kChunks, chunk = i % kChunks;
      const int token = first + static_cast<int>(row), column = static_cast<int>(chunk) * kLanes;
      T* const to = tile + place(row, chunk);
      const T* const source = from.row(token) + column;
      if (shape.vectors) {
        const bool there = token < end && column < shape.head_dim;
        copy_async<16>(to, there ? source : from.first, there ? 16 : 0);
      } else {
        VTL_UNROLL_BY(1)
        for (int e = 0; e < kLanes; ++e) to[e] = token < end && column + e < shape.head_dim ? load(source + e) : T{};
      }
    }
  }

  // A of mma: 16 rows from `row`; rows behind `last` are `last` again.
  VTL_DEVICE static void load_a(uint32_t (&a)[4], const T* tile, unsigned row, unsigned last, unsigned step) {
    const unsigned lane = lane_index();
    ldmatrix(a, tile + place(min(row + lane % 16, last), step * 2 + lane / 16));
  }
  // B of two mma, transposed rows: b[0], b[1] of rows 0 ... 7, b[2], b[3] of the next 8.
  VTL_DEVICE static void load_b(uint32_t (&b)[4], const T* tile, unsigned step) {
    const unsigned lane = lane_index();
    ldmatrix(b, tile + place(lane / 16 * 8 + lane % 8, step * 2 + lane / 8 % 2));
  }
  // B of two mma: the step's kDepth rows of the first 16, 16 columns from 16 * col. f32: rows 2t and 2t + 1 stand where
  // mma has t and t + 4, as in pack_left.
  VTL_DEVICE static void load_b_across(uint32_t (&b)[4], const T* tile, unsigned step, unsigned col) {
    const unsigned lane = lane_index();
    if constexpr (sizeof(T) == 2) {
      ldmatrix_trans(b, tile + place(lane % 16, col * 2 + lane / 16));
    } else {
      VTL_UNROLL
      for (unsigned h = 0; h < 4; ++h) {
        const unsigned row = step * 8 + lane % 4 * 2 + h % 2, column = col * 16 + h / 2 * 8 + lane / 4;
        const T value = tile[place(row, column / 4) + column % 4];
        __builtin_memcpy(&b[h], &value, sizeof value);
      }
    }
  }
};

// sums[m][n], sums[m][n + 1] += a[m] times the two halves of b.
template <class T, int R, int N>
VTL_DEVICE void multiply_pair(float (&sums)[R][N][4], int n, const uint32_t (&a)[R][4], const uint32_t (&b)[4]) {
  if constexpr (sizeof(T) == 2) {
    VTL_UNROLL
    for (int h = 0; h < 2; ++h) {
      const uint32_t half[2] = {b[2 * h], b[2 * h + 1]};
      VTL_UNROLL
      for (int m = 0; m < R; ++m) mma_bf16(sums[m][n + h], a[m], half);
    }
  } else {
    Halves<T, 4> right;
    right.set(b);
    VTL_UNROLL
    for (int m = 0; m < R; ++m) {
      Halves<T, 4> left;
      left.set(a[m]);
      VTL_UNROLL
      for (int h = 0; h < 2; ++h) {
        const uint32_t big[2] = {right.big[2 * h], right.big[2 * h + 1]};
        const uint32_t small[2] = {right.small[2 * h], right.small[2 * h + 1]};
        mma_tf32(sums[m][n + h], left.small, big);
        mma_tf32(sums[m][n + h], left.big, small);
        mma_tf32(sums[m][n + h], left.big, big);
      }
    }
  }
}

// 16 R rows of a tile as the left side of products. The first Kept steps stay in registers, the others are read again
// for each product.
template <class T, int D, int R, int Kept>
struct LeftRows {
  using Tile = HeadTile<T, D>;
  static_assert(Kept <= Tile::kSteps);

  VTL_DEVICE LeftRows(const T* tile, unsigned last) : tile_(tile), last_(last) {
    VTL_UNROLL
    for (int s = 0; s < Kept; ++s) read(kept_[s], s);
  }

  VTL_DEVICE void get(uint32_t (&a)[R][4], int step) const {
    if (step < Kept)
      __builtin_memcpy(a, kept_[step], sizeof a);
    else
      read(a, step);
  }

 private:
  VTL_DEVICE void read(uint32_t (&a)[R][4], int step) const {
    VTL_UNROLL
    for (int m = 0; m < R; ++m) Tile::load_a(a[m], tile_, m * 16, last_, step);
  }

  const T* tile_;
  unsigned last_;
  uint32_t kept_[Kept > 0 ? Kept : 1][R][4];
};

// The sum over D of left[16 R, D] and rows[16, D], as [16 R, 16].
template <class T, int D, int R, int Kept>
VTL_DEVICE void multiply_rows(float (&sums)[R][2][4], const LeftRows<T, D, R, Kept>& left, const T* rows) {
  using Tile = HeadTile<T, D>;
  [[maybe_unused]] constexpr int kUnrolled = Kept > 0 ? Tile::kSteps : 2;  // what is read ahead needs registers
  VTL_UNROLL_BY(kUnrolled)
  for (int s = 0; s < Tile::kSteps; ++s) {
    uint32_t a[R][4], b[4];
    left.get(a, s);
    Tile::load_b(b, rows, s);
    multiply_pair<T>(sums, 0, a, b);
  }
}

// 16 rows, kDepth columns of weights as the left side of a product.
template <class T>
VTL_DEVICE void pack_left(uint32_t (&a)[4], const float (&weights)[2][4], int step) {
  if constexpr (sizeof(T) == 2) {
    VTL_UNROLL
    for (int h = 0; h < 4; ++h) a[h] = pack_bf16(weights[h / 2][h % 2 * 2], weights[h / 2][h % 2 * 2 + 1]);
  } else {
    VTL_UNROLL
    for (int h = 0; h < 4; ++h) __builtin_memcpy(&a[h], &weights[step][h % 2 * 2 + h / 2], 4);
  }
}

// sums[16 R, D] += weights[16 R, 16] rows[16, D].
template <int D, class T, int R>
VTL_DEVICE void multiply_across(float (&sums)[R][D / 8][4], const float (&weights)[R][2][4], const T* rows) {
  using Tile = HeadTile<T, D>;
  VTL_UNROLL
  for (int s = 0; s < 16 / Tile::kDepth; ++s) {
    uint32_t a[R][4];
    VTL_UNROLL
    for (int m = 0; m < R; ++m) pack_left<T>(a[m], weights[m], s);
    VTL_UNROLL
    for (int c = 0; c < D / 16; ++c) {
      uint32_t b[4];
      Tile::load_b_across(b, rows, s, c);
      multiply_pair<T>(sums, 2 * c, a, b);
    }
  }
}

// ---- scores ---------------------------------------------------------------------------------------------------------

inline constexpr float kLog2E = 1.44269504088896341f, kLn2 = 0.693147180559945309f;
inline constexpr float kInfinity = __builtin_inff();

// What makes scores, as exponents of 2, of the products of one head's queries and keys. Without a bias at compile time
// its rows need no registers.
template <bool Biased>
struct ScoreRule {
  float scale;
  int queries, keys;  // keys that this sample has
  bool causal;
  const float* bias;  // null: none, as when not Biased
  int64_t bias_stride;

  VTL_DEVICE bool sees(int query, int key) const { return key < keys && (!causal || key <= query); }
  // Of one pair, from its product; the query sees the key.
  VTL_DEVICE float score(float product, int query, int key) const {
    return product * scale + (Biased && bias ? load(bias + query * bias_stride + key) * kLog2E : 0.0f);
  }
  // Behind the last key that a query before `query` sees.
  VTL_DEVICE int keys_end(int query) const { return causal && query < keys ? query : keys; }
};

template <bool Biased>
VTL_DEVICE ScoreRule<Biased> score_rule(const AttentionMask& mask, const AttentionBias& bias, const AttentionDims& d,
                                        Head head) {
  const int k_len = static_cast<int>(d.k_len);
  const bool has_lengths = mask.kind == AttentionMask::Kind::key_lengths;
  return {d.scale * kLog2E,
          static_cast<int>(d.q_len),
          has_lengths ? min(static_cast<int>(load(mask.lengths + head.sample)), k_len) : k_len,
          mask.kind == AttentionMask::Kind::causal,
          bias.data ? bias.data + head.sample % bias.batches * bias.batch + head.index * bias.head : nullptr,
          bias.query};
}

// Products of 16 R rows from `row` and 16 columns from `col` become scores, -inf where the query does not see the key.
enum class RowsAre { queries, keys };
template <RowsAre Rows, int R, bool Biased>
VTL_DEVICE void make_scores(float (&x)[R][2][4], const ScoreRule<Biased>& rule, int row, int col) {
  VTL_UNROLL
  for (int m = 0; m < R; ++m) VTL_UNROLL
  for (int n = 0; n < 2; ++n) VTL_UNROLL
  for (int i = 0; i < 4; ++i) x[m][n][i] *= rule.scale;
  const int first_query = Rows == RowsAre::queries ? row : col;
  const int last_key = Rows == RowsAre::queries ? col + 15 : row + 16 * R - 1;
  if (!(Biased && rule.bias) && rule.sees(first_query, last_key)) return;
  const int lane = static_cast<int>(lane_index());
  VTL_UNROLL
  for (int m = 0; m < R; ++m) VTL_UNROLL
  for (int n = 0; n < 2; ++n) VTL_UNROLL
  for (int i = 0; i < 4; ++i) {
    const int r = row + 16 * m + lane / 4 + i / 2 * 8, c = col + 8 * n + lane % 4 * 2 + i % 2;
    const int query = Rows == RowsAre::queries ? r : c, key = Rows == RowsAre::queries ? c : r;
    const bool seen = rule.sees(query, key);
    if (Biased && rule.bias && seen && query < rule.queries)
      x[m][n][i] += load(rule.bias + query * rule.bias_stride + key) * kLog2E;
    if (!seen) x[m][n][i] = -kInfinity;
  }
}

// ---- results --------------------------------------------------------------------------------------------------------

// Where one head's rows of a result go.
template <class T>
struct RowsOut {
  T* out;
  const T* addend;
  int64_t stride;
};

template <class T>
VTL_DEVICE RowsOut<T> rows_out(const HeadDest& to, Head head) {
  const int64_t at = head_offset(to.strides, head);
  return {static_cast<T*>(to.dest.out) + at, to.dest.addend ? static_cast<const T*>(to.dest.addend) + at : nullptr,
          to.strides.token};
}

// A warp's result waits in shared memory, 8 rows at a time, to be written in whole rows.
template <class T, int D>
inline constexpr int kResultBytes = 8 * D* static_cast<int>(sizeof(T));

// out[row + r] = addend + scale[r] * sums[r] for the 16 R rows of a warp, those before row `end`. scale[m][h] is that
// of rows 16 m + 8 h + lane / 4. The addend, which hardly anybody has, is read in pairs: half of each sector.
template <class T, int D, int R>
VTL_DEVICE void write_rows(T* result, const float (&sums)[R][D / 8][4], const float (&scale)[R][2],
                           const RowsOut<T>& to, const RowShape& shape, int row, int end) {
  using Tile = HeadTile<T, D>;
  constexpr int kLanes = Tile::kLanes;
  const unsigned lane = lane_index(), g = lane / 4, t = lane % 4;
  VTL_UNROLL
  for (int m = 0; m < R; ++m) VTL_UNROLL
  for (int h = 0; h < 2; ++h) {
    const int first = row + 16 * m + 8 * h, own = first + static_cast<int>(g);
    VTL_UNROLL
    for (unsigned n = 0; n < D / 8; ++n) {
      const unsigned column = n * 8 + t * 2;
      float pair[2] = {sums[m][n][2 * h] * scale[m][h], sums[m][n][2 * h + 1] * scale[m][h]};
      VTL_UNROLL
      for (int i = 0; i < 2; ++i)
        if (to.addend && own < end && static_cast<int>(column) + i < shape.head_dim)
          pair[i] += to_float(load(to.addend + own * to.stride + column + i));
      store_vec<2>(result + Tile::place(g, column / kLanes) + column % kLanes,
                   Vec<T, 2>{{from_float<T>(pair[0]), from_float<T>(pair[1])}});
    }
    __syncwarp();
    VTL_UNROLL
    for (unsigned i = lane; i < 8 * Tile::kChunks; i += kWarpLanes) {
      const unsigned r = i / Tile::kChunks, chunk = i % Tile::kChunks;
      const int token = first + static_cast<int>(r), column = static_cast<int>(chunk) * kLanes;
      if (token >= end || column >= shape.head_dim) continue;
      const T* const from = result + Tile::place(r, chunk);
      T* const out = to.out + token * to.stride + column;
      if (shape.vectors) {
        store_vec<kLanes>(out, load_vec<kLanes>(from));
      } else {
        VTL_UNROLL_BY(1)
        for (int e = 0; e < kLanes && column + e < shape.head_dim; ++e) store(out + e, from[e]);
      }
    }
    __syncwarp();
  }
}

}  // namespace vtl::kernels::VTL_GPU
