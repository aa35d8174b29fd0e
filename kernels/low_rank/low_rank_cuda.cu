#include "vtl/kernels/low_rank/low_rank.h"

#include "vtl/kernels/device/matrix.h"
#include "vtl/kernels/device/reduce_rows.h"

namespace vtl::kernels::VTL_GPU {
namespace {

using tile_detail::Filler;

// A block takes 128 rows and reads them once: first dy, 64 columns at a time, for du and for its part of db, then x in
// the same way for its part of da. 4 warps; 64 KiB of 16-byte copies on their way in each of two blocks on a
// multiprocessor. The parts, one for each block, are f32; at rank 8 a fifth of dy's bytes and x's.
constexpr int kRows = 128, kThreads = 128, kStages = 4, kBlocks = 2;
constexpr int kCols = kStageDepth<bf16>, kMostRank = 16;
// With fewer blocks the three products, which split the rows more finely, are faster.
constexpr int64_t kLeastBlocks = 66;

// dy or x, as rows of a product (du) and as its transposed (db, da): the same place for each chunk.
using RowTile = StagedTile<bf16, Major::k, kRows>;
using TurnedTile = StagedTile<bf16, Major::line, kCols>;
static_assert(RowTile::kRowChunks == TurnedTile::kRowChunks);
// 64 rows of ranks: columns of b for a stage; two of them are u or du of all rows. Zeros beyond the rank.
constexpr int kRankLines = 32;
using RankTile = StagedTile<bf16, Major::line, kRankLines>;

constexpr int kStage = RowTile::kBytes + RankTile::kBytes;
constexpr int kSharedBytes = kStages * kStage + 4 * RankTile::kBytes;

struct LowRankPass {
  MatrixSource<bf16, Major::k> dy, x;    // [rows, out], [rows, in]
  MatrixSource<bf16, Major::line> b, u;  // [out, rank], [rows, rank]
  bf16* du;
  float scale;
  int64_t rows;
  int out, in, rank;
  float *db_parts, *da_parts;  // [blocks][out, rank], [blocks][rank, in]; null where not wanted
};

// sums = 16 columns of the tile, transposed, times the rank tile of all its rows.
VTL_DEVICE void multiply_turned(float (&sums)[1][2][4], const unsigned char* tile, const unsigned char* ranks,
                                unsigned col) {
  VTL_UNROLL
  for (unsigned step = 0; step < kRows / kStepDepth<bf16>; ++step) {
    uint32_t fragment[4];
    Halves<bf16, 4> left[1];
    TurnedTile::load_a(fragment, tile, col, step);
    left[0].set(fragment);
    RankTile::load_b(fragment, ranks, 0, step);
    multiply_columns<bf16>(sums, left, fragment);
  }
}

// Grid: rows / 128.
__global__ void __launch_bounds__(kThreads, kBlocks) low_rank_gradients(LowRankPass p) {
  VTL_DYNAMIC_SHARED(unsigned char, shared);
  unsigned char* const u_tile = shared + kStages * kStage;
  unsigned char* const du_tile = u_tile + 2 * RankTile::kBytes;
  const int64_t row0 = static_cast<int64_t>(blockIdx.x) * kRows;
  const Filler<MatrixSource<bf16, Major::k>, kRows, kThreads> fill_dy(p.dy, row0), fill_x(p.x, row0);
  const Filler<MatrixSource<bf16, Major::line>, kRankLines, kThreads> fill_b(p.b, 0), fill_u(p.u, 0);
  const int dy_end = (p.out + kCols - 1) / kCols;
  const int end = dy_end + (p.da_parts ? (p.in + kCols - 1) / kCols : 0);

  if (p.db_parts) {
    fill_u.fill(u_tile, row0);
    fill_u.fill(u_tile + RankTile::kBytes, row0 + kCols);
  }
  int next = 0;
  const auto fill_next = [&] {
    unsigned char* const stage = shared + next % kStages * kStage;
    if (next < dy_end) {
      fill_dy.fill(stage, next * kCols);
      fill_b.fill(stage + RowTile::kBytes, next * kCols);
    } else if (next < end) {
      fill_x.fill(stage, (next - dy_end) * kCols);
    }
    commit_async();
    ++next;
  };
  VTL_UNROLL_BY(1)
  for (int s = 0; s < kStages - 1; ++s) fill_next();

  const unsigned warp = warp_index(), g = lane_index() / 4, t = lane_index() % 4;
  float du_sums[2][2][4] = {};  // 32 rows of the warp by 16 ranks
  VTL_UNROLL_BY(1)
  for (int c = 0; c < end; ++c) {
    wait_async<kStages - 2>();
    __syncthreads();
    fill_next();
    const unsigned char* const tile = shared + c % kStages * kStage;
    const unsigned col = warp * 16;
    float sums[1][2][4] = {};
    if (c < dy_end) {
      VTL_UNROLL
      for (unsigned step = 0; step < kStageSteps; ++step) {
        uint32_t fragment[4];
        Halves<bf16, 4> left[2];
        VTL_UNROLL
        for (unsigned i = 0; i < 2; ++i) {
          RowTile::load_a(fragment, tile, warp * 32 + i * 16, step);
          left[i].set(fragment);
        }
        RankTile::load_b(fragment, tile + RowTile::kBytes, 0, step);
        multiply_columns<bf16>(du_sums, left, fragment);
      }
      if (p.db_parts) {
        multiply_turned(sums, tile, u_tile, col);
        float* const part = p.db_parts + static_cast<int64_t>(blockIdx.x) * p.out * p.rank;
        VTL_UNROLL
        for (unsigned j = 0; j < 2; ++j) VTL_UNROLL
        for (unsigned h = 0; h < 2; ++h) {
          const int to = c * kCols + static_cast<int>(col + g + h * 8), rank = static_cast<int>(j * 8 + t * 2);
          const Vec<float, 2> pair{{sums[0][j][2 * h], sums[0][j][2 * h + 1]}};
          if (to < p.out && rank < p.rank) store_vec<2>(part + to * p.rank + rank, pair);
        }
      }
    } else {
      multiply_turned(sums, tile, du_tile, col);
      float* const part = p.da_parts + static_cast<int64_t>(blockIdx.x) * p.rank * p.in;
      VTL_UNROLL
      for (unsigned j = 0; j < 2; ++j) VTL_UNROLL
      for (unsigned h = 0; h < 4; ++h) {
        const int to = (c - dy_end) * kCols + static_cast<int>(col + g + h / 2 * 8);
        const int rank = static_cast<int>(j * 8 + t * 2 + h % 2);
        if (to < p.in && rank < p.rank) store(part + rank * p.in + to, sums[0][j][h]);
      }
    }
    if (c != dy_end - 1) continue;
    VTL_UNROLL
    for (unsigned i = 0; i < 2; ++i) VTL_UNROLL
    for (unsigned j = 0; j < 2; ++j) VTL_UNROLL
    for (unsigned h = 0; h < 2; ++h) {
      const unsigned row = warp * 32 + i * 16 + g + h * 8, rank = j * 8 + t * 2;
      const uint32_t pair = pack_bf16(p.scale * du_sums[i][j][2 * h], p.scale * du_sums[i][j][2 * h + 1]);
      store(reinterpret_cast<uint32_t*>(du_tile + RankTile::place(row, j)) + t, pair);
      if (row0 + row < p.rows && static_cast<int>(rank) < p.rank)
        store(reinterpret_cast<uint32_t*>(p.du + (row0 + row) * p.rank + rank), pair);
    }
  }
}

bool in_one_pass(DType dtype, const LowRankDims& d, const void* dy, const void* x, const void* u, const void* b) {
  const auto aligned = [](const void* p) { return reinterpret_cast<uintptr_t>(p) % kChunkBytes == 0; };
  return dtype == DType::bf16 && d.rank > 0 && d.rank <= kMostRank && d.rank % kChunk<bf16> == 0 &&
         d.in % kChunk<bf16> == 0 && d.dy_stride % kChunk<bf16> == 0 && d.out > 0 && d.in > 0 &&
         d.rows >= kLeastBlocks * kRows && aligned(dy) && aligned(x) && aligned(u) && aligned(b);
}

}  // namespace

void low_rank_backward(Stream& stream, DType dtype, const LowRankDims& d, const void* dy, const void* x, const void* u,
                       const void* b, float scale, void* du, Dest da, Dest db) {
  if (!du || (!da.wanted() && !db.wanted()) || !in_one_pass(dtype, d, dy, x, u, b))
    return low_rank_products(stream, dtype, d, dy, x, u, b, scale, du, da, db);
  const unsigned blocks = blocks_for(d.rows, kRows);
  const int out = static_cast<int>(d.out), in = static_cast<int>(d.in), rank = static_cast<int>(d.rank);
  const int64_t db_size = db.wanted() ? d.out * d.rank : 0, da_size = da.wanted() ? d.rank * d.in : 0;
  const Scratch scratch = stream.scratch(static_cast<size_t>(blocks * (db_size + da_size)) * sizeof(float));
  float* const db_parts = scratch.f32();
  float* const da_parts = db_parts + blocks * db_size;
  const auto matrix = [](const void* data, int64_t stride, int64_t k) {
    return MatrixPart<bf16>{static_cast<const bf16*>(data), static_cast<int>(stride), k};
  };
  const int rows = static_cast<int>(d.rows);
  const LowRankPass pass{.dy = {matrix(dy, d.dy_stride, d.out), rows},
                         .x = {matrix(x, d.in, d.in), rows},
                         .b = {matrix(b, d.rank, d.out), rank},
                         .u = {matrix(u, d.rank, d.rows), rank},
                         .du = static_cast<bf16*>(du),
                         .scale = scale,
                         .rows = d.rows,
                         .out = out,
                         .in = in,
                         .rank = rank,
                         .db_parts = db.wanted() ? db_parts : nullptr,
                         .da_parts = da.wanted() ? da_parts : nullptr};
  launch(stream, {"low_rank_gradients", blocks, kThreads, kSharedBytes}, low_rank_gradients, pass);
  if (db.wanted()) sum_partials<float>(stream, db_parts, blocks, db, {1, 1, db_size});
  if (da.wanted()) sum_partials<float>(stream, da_parts, blocks, da, {1, 1, da_size});
}

}  // namespace vtl::kernels::VTL_GPU
