// Products on the tensor cores: C[i, j] = out(sum_k A[i, k] * B[k, j]), sums in f32. bf16 operands go in as they are,
// f32 ones as three products of tf32 (staged_tile.h). Where the operands come from and what becomes of the sums is up
// to three small structs that travel to the kernel by value.
//
// A source gives the lines of A (its rows) or of B (its columns):
//
//   using Element                    bf16 or float, the same for both
//   static constexpr Major kMajor    Major::k: a chunk is 16 bytes along k of one line; Major::line: along the lines
//   static constexpr int kPieceBytes 16, or 8, 4, 2 where no more are contiguous and aligned: chunk() is asked for each
//                                    piece of a chunk (2: one value, by an ordinary load)
//   void select(int64_t item)        which product of a batch; called first, once
//   Line line(int64_t line)          what a thread keeps of a line: up to 8 of them (Major::k), or of one chunk or
//   piece Depth depth(int64_t k)           what it keeps for one stage of a chunk or piece of k (Major::k), or of one k
//   Chunk<Element> chunk(Line, Depth)  both may lie beyond the end: zeros
//
// An out takes the sums:
//
//   bool wide() const                on the host: four neighbours of a row may move at once
//   void select(int64_t item)
//   read<N>(int64_t row, int64_t col)    what else is needed there (a residual), asked for ahead; N = 4 or 1, within C
//   void write<N>(int64_t row, int64_t col, Floats<N> sums, what read gave)    each element once
#pragma once

#include "vtl/kernels/device/async_copy.h"
#include "vtl/kernels/device/floats.h"
#include "vtl/kernels/device/launch.h"
#include "vtl/kernels/device/staged_tile.h"

namespace vtl::kernels::VTL_GPU {

// The first `bytes` of a chunk or piece from `from`, then zeros. With bytes = 0 `from` may be anything.
template <class T>
struct Chunk {
  const T* from;
  unsigned bytes;
};

struct ProductDims {
  int64_t m, n, k;
  int64_t batch = 1;
};

// A block computes kM x kN of C, each of its warps kWarpM x kWarpN; kBlocks of them share a multiprocessor. While one
// stage is multiplied, kStages - 1 are on their way.
template <int M, int N, int WarpM, int WarpN, int Stages, int Blocks>
struct TileShape {
  static constexpr int kM = M, kN = N, kWarpM = WarpM, kWarpN = WarpN, kStages = Stages, kBlocks = Blocks;
  static constexpr int kThreads = M / WarpM * (N / WarpN) * static_cast<int>(kWarpLanes);
  static constexpr int kStage = (M + N) * kStageBytes;
  static constexpr int kSharedBytes = max(Stages * kStage, M* N * 4);
};
// Two blocks of 96 KiB fill a Hopper and keep 128 KiB on their way. With 64 x 64 of a warp, fragments cost shared
// memory half of what the tensor cores take for the product; the halves of f32 leave registers for 64 x 32.
template <class T>
struct BigTileOf {
  using Shape = TileShape<128, 128, 64, 64, 3, 2>;
};
template <>
struct BigTileOf<float> {
  using Shape = TileShape<128, 128, 64, 32, 3, 1>;
};
template <class T>
using BigTile = typename BigTileOf<T>::Shape;
using SmallTile = TileShape<64, 64, 32, 32, 4, 3>;
// For C with few columns or few rows, where the other operand's bytes decide.
using TallTile = TileShape<128, 32, 32, 32, 4, 2>;
using WideTile = TileShape<32, 128, 32, 32, 4, 2>;

// How a product is cut into blocks: block x is column tile x % tiles_n (neighbours share rows of A), then row tile,
// then split, then item. Each split sums stages_per_split stages of k.
struct TileGrid {
  ProductDims dims;
  unsigned tiles_m, tiles_n, splits;
  int64_t stages_per_split;
  bool wide;
  float* partials;  // [batch][splits][m][n]; null: one split, straight to out
};

namespace tile_detail {

template <int Bytes, class T>
VTL_DEVICE void copy_piece(unsigned char* to, Chunk<T> piece, Site site) {
  if constexpr (Bytes >= 4) {
    copy_async<Bytes>(to, piece.from, piece.bytes, site);
  } else {
    T value{};
    if (piece.bytes) value = load(piece.from, site);
    store(reinterpret_cast<T*>(to), value);
  }
}

// A thread's share in filling stages with one operand: the same chunk of every kRowStep-th row.
template <class Source, int Lines, int Threads>
class Filler {
 public:
  using T = typename Source::Element;
  using Tile = StagedTile<T, Source::kMajor, Lines>;

  VTL_DEVICE Filler(const Source& source, int64_t first_line) : source_(source) {
    VTL_UNROLL
    for (int i = 0; i < kKept; ++i)
      lines_[i] = source.line(first_line + (kAlongK ? row() + i * kRowStep : chunk() * kChunk<T> + i * kPiece));
  }

  // `tile` gets k ... k + kStageDepth - 1.
  VTL_DEVICE void fill(unsigned char* tile, int64_t k, Site site = VTL_HERE) const {
    unsigned char* const first = tile + Tile::place(row(), chunk());
    constexpr int kApart = kRowStep * Tile::kRowChunks * kChunkBytes;
    if constexpr (kAlongK) {
      VTL_UNROLL
      for (int p = 0; p < kPieces; ++p) {
        const auto depth = source_.depth(k + chunk() * kChunk<T> + p * kPiece);
        VTL_UNROLL
        for (int i = 0; i < kCopies; ++i)
          copy_piece<Source::kPieceBytes>(first + i * kApart + p * Source::kPieceBytes, source_.chunk(lines_[i], depth),
                                          site);
      }
    } else {
      VTL_UNROLL
      for (int i = 0; i < kCopies; ++i) {
        const auto depth = source_.depth(k + row() + i * kRowStep);
        VTL_UNROLL
        for (int p = 0; p < kPieces; ++p)
          copy_piece<Source::kPieceBytes>(first + i * kApart + p * Source::kPieceBytes, source_.chunk(lines_[p], depth),
                                          site);
      }
    }
  }

 private:
  static constexpr bool kAlongK = Source::kMajor == Major::k;
  static constexpr int kRowStep = Threads / Tile::kRowChunks, kCopies = Tile::kRows / kRowStep;
  static_assert(kRowStep % (kAlongK || sizeof(T) == 2 ? 8 : 4) == 0, "a thread's rows are turned alike");
  static_assert(kCopies * kRowStep == Tile::kRows);
  static constexpr int kPieces = kChunkBytes / Source::kPieceBytes, kPiece = Source::kPieceBytes / sizeof(T);
  static constexpr int kKept = kAlongK ? kCopies : kPieces;

  VTL_DEVICE static int row() { return static_cast<int>(threadIdx.x) / Tile::kRowChunks; }
  VTL_DEVICE static int chunk() { return static_cast<int>(threadIdx.x) % Tile::kRowChunks; }

  const Source& source_;
  typename Source::Line lines_[kKept];
};

// The sums of a block, in shared memory: [M][N] with groups of 8 columns turned by the row, so that neither their
// owners (4 rows of 8 columns at a time) nor their readers (rows) meet in a bank.
template <class Shape>
VTL_DEVICE float* sum_at(float* tile, unsigned row, unsigned col) {
  return tile + row * Shape::kN + (col ^ row % 4 * 8);
}

// A warp's sums: [columns / 16][rows / 16][2] fragments of 16 x 8.
template <class Shape>
using WarpSums = float[Shape::kWarpN / 16][Shape::kWarpM / 16][2][4];

template <class Shape>
VTL_DEVICE void gather_sums(float* tile, const WarpSums<Shape>& sums, unsigned row, unsigned col) {
  VTL_UNROLL
  for (unsigned j = 0; j < Shape::kWarpN / 8; ++j) VTL_UNROLL
  for (unsigned i = 0; i < Shape::kWarpM / 16; ++i) VTL_UNROLL
  for (unsigned h = 0; h < 2; ++h) {
    const float(&fragment)[4] = sums[j / 2][i][j % 2];
    const Vec<float, 2> pair{{fragment[2 * h], fragment[2 * h + 1]}};
    store_vec<2>(sum_at<Shape>(tile, row + i * 16 + lane_index() / 4 + h * 8, col + j * 8 + lane_index() % 4 * 2),
                 pair);
  }
}

// Row by row to `out`: 4 neighbours for each thread, reads four rows ahead. Where values must move alone, neighbours
// are in neighbouring threads.
template <class Shape, class Out>
VTL_DEVICE void write_tile(float* tile, const Out& out, int64_t row0, int64_t col0, const ProductDims& d, bool wide) {
  constexpr unsigned kAcross = Shape::kN / 4, kDown = Shape::kThreads / kAcross, kAhead = 4;
  static_assert(Shape::kM % (kAhead * kDown) == 0);
  const unsigned lane = threadIdx.x % kAcross, first = threadIdx.x / kAcross;
  const auto rows = static_cast<unsigned>(min<int64_t>(Shape::kM, d.m - row0));
  const auto cols = static_cast<unsigned>(min<int64_t>(Shape::kN, d.n - col0));
  if (wide) {
    const unsigned c = lane * 4;
    if (c >= cols) return;
    VTL_UNROLL_BY(1)
    for (unsigned r0 = first; r0 < rows; r0 += kAhead * kDown) {
      decltype(out.template read<4>(0, 0)) ahead[kAhead];
      VTL_UNROLL
      for (unsigned i = 0; i < kAhead; ++i)
        if (r0 + i * kDown < rows) ahead[i] = out.template read<4>(row0 + r0 + i * kDown, col0 + c);
      VTL_UNROLL
      for (unsigned i = 0; i < kAhead; ++i) {
        const unsigned r = r0 + i * kDown;
        if (r < rows) out.write(row0 + r, col0 + c, load_floats<4>(sum_at<Shape>(tile, r, c)), ahead[i]);
      }
    }
    return;
  }
  VTL_UNROLL_BY(1)
  for (unsigned r = first; r < rows; r += kDown) {
    VTL_UNROLL_BY(1)
    for (unsigned c = lane; c < cols; c += kAcross)
      out.write(row0 + r, col0 + c, load_floats<1>(sum_at<Shape>(tile, r, c)),
                out.template read<1>(row0 + r, col0 + c));
  }
}

struct PartialOut {
  float* to;
  int64_t cols;

  struct Nothing {};
  template <int N>
  VTL_DEVICE Nothing read(int64_t, int64_t) const {
    return {};
  }
  template <int N>
  VTL_DEVICE void write(int64_t row, int64_t col, const Floats<N>& sums, Nothing) const {
    store_floats(to + row * cols + col, sums);
  }
};

template <class Shape, class A, class B, class Out>
__global__ void __launch_bounds__(Shape::kThreads, Shape::kBlocks)
    multiply_tiles(A a, B b, Out out, const TileGrid grid) {
  using T = typename A::Element;
  using FillA = Filler<A, Shape::kM, Shape::kThreads>;
  using FillB = Filler<B, Shape::kN, Shape::kThreads>;
  constexpr int kM = Shape::kWarpM / 16, kN = Shape::kWarpN / 16;  // fragments of a warp
  VTL_DYNAMIC_SHARED(unsigned char, shared);

  const ProductDims& d = grid.dims;
  unsigned index = blockIdx.x;
  const int64_t col0 = static_cast<int64_t>(index % grid.tiles_n) * Shape::kN;
  index /= grid.tiles_n;
  const int64_t row0 = static_cast<int64_t>(index % grid.tiles_m) * Shape::kM;
  index /= grid.tiles_m;
  const unsigned split = index % grid.splits, item = index / grid.splits;
  const int64_t first = split * grid.stages_per_split * kStageDepth<T>;
  const int64_t end = min(d.k, first + grid.stages_per_split * kStageDepth<T>);
  a.select(item);
  b.select(item);
  const FillA fill_a(a, row0);
  const FillB fill_b(b, col0);

  int64_t next = first;  // k of the next stage to fill
  int slot = 0;          // and where it goes
  const auto fill_next = [&] {
    if (next < end) {
      fill_a.fill(shared + slot * Shape::kStage, next);
      fill_b.fill(shared + slot * Shape::kStage + FillA::Tile::kBytes, next);
    }
    commit_async();  // groups are counted, also empty ones
    next += kStageDepth<T>;
    slot = slot + 1 == Shape::kStages ? 0 : slot + 1;
  };
  VTL_UNROLL_BY(1)
  for (int s = 0; s < Shape::kStages - 1; ++s) fill_next();

  constexpr unsigned kWarpsAcross = Shape::kN / Shape::kWarpN;
  const unsigned warp_row = warp_index() / kWarpsAcross * Shape::kWarpM;
  const unsigned warp_col = warp_index() % kWarpsAcross * Shape::kWarpN;
  WarpSums<Shape> sums = {};
  int here = 0;
  VTL_UNROLL_BY(1)
  for (int64_t k = first; k < end; k += kStageDepth<T>) {
    wait_async<Shape::kStages - 2>();
    __syncthreads();  // all have brought this stage, and are done with the one before it, which is filled again
    fill_next();
    const unsigned char* const tile_a = shared + here * Shape::kStage;
    const unsigned char* const tile_b = tile_a + FillA::Tile::kBytes;
    here = here + 1 == Shape::kStages ? 0 : here + 1;
    const auto multiply = [&](unsigned step) {
      uint32_t fragment[4];
      Halves<T, 4> left[kM];
      VTL_UNROLL
      for (unsigned i = 0; i < kM; ++i) {
        FillA::Tile::load_a(fragment, tile_a, warp_row + i * 16, step);
        left[i].set(fragment);
      }
      VTL_UNROLL
      for (unsigned j = 0; j < kN; ++j) {
        FillB::Tile::load_b(fragment, tile_b, warp_col + j * 16, step);
        multiply_columns<T>(sums[j], left, fragment);
      }
    };
    if (end - k >= kStageDepth<T>) {
      VTL_UNROLL
      for (unsigned step = 0; step < kStageSteps; ++step) multiply(step);
    } else {  // a low rank needs no whole stage
      const auto steps = static_cast<unsigned>((end - k + kStepDepth<T> - 1) / kStepDepth<T>);
      VTL_UNROLL_BY(1)
      for (unsigned step = 0; step < steps; ++step) multiply(step);
    }
  }

  wait_async<0>();
  __syncthreads();  // the stages give way to the sums
  auto* const tile = reinterpret_cast<float*>(shared);
  gather_sums<Shape>(tile, sums, warp_row, warp_col);
  __syncthreads();
  if (grid.partials) {
    const PartialOut partial{grid.partials + (static_cast<int64_t>(item) * grid.splits + split) * d.m * d.n, d.n};
    write_tile<Shape>(tile, partial, row0, col0, d, d.n % 4 == 0);
  } else {
    out.select(item);
    write_tile<Shape>(tile, out, row0, col0, d, grid.wide);
  }
}

constexpr int kSumThreads = 128;

// out(the sum over splits, in their order). One thread for N neighbours of C.
template <int N, class Out>
__global__ void __launch_bounds__(kSumThreads) sum_splits(const float* partials, Out out, ProductDims d, int splits) {
  const int64_t at = (static_cast<int64_t>(blockIdx.x) * kSumThreads + threadIdx.x) * N, size = d.m * d.n;
  if (at >= d.batch * size) return;
  const int64_t item = at / size, within = at - item * size;
  const float* from = partials + item * splits * size + within;
  Floats<N> sum{};
  VTL_UNROLL_BY(4)
  for (int s = 0; s < splits; ++s, from += size) {
    const Floats<N> part = load_floats<N>(from);
    VTL_UNROLL
    for (int i = 0; i < N; ++i) sum[i] += part[i];
  }
  out.select(item);
  const int64_t row = within / d.n, col = within - row * d.n;
  out.write(row, col, sum, out.template read<N>(row, col));
}

// What the choice of tiles goes by: an H200.
inline constexpr int64_t kMultiprocessors = 132;

// How long a product takes in tiles of some shape, in units of one 64 x 64 tile of one stage, and with how many splits.
struct TilePlan {
  double cost;
  int64_t splits;
};

// A tile of the partial sums, written and read again, costs about as much as this many of its stages.
inline constexpr int64_t kStagesPerPartial = 6, kLeastStages = 4, kMostSplits = 64;

template <class Shape>
TilePlan plan_tiles(const ProductDims& d, int64_t stages) {
  const int64_t tiles = ((d.m + Shape::kM - 1) / Shape::kM) * ((d.n + Shape::kN - 1) / Shape::kN) * d.batch;
  // The tensor cores' time, and that of shared memory for the fragments, which is less for larger warps.
  constexpr double kWarpEdges = static_cast<double>(Shape::kWarpM + Shape::kWarpN) / (Shape::kWarpM * Shape::kWarpN);
  const double stage_cost = static_cast<double>(Shape::kM * Shape::kN) / (64 * 64) * (0.5 + 8 * kWarpEdges);
  TilePlan best{0, 0};
  for (int64_t splits = 1; splits == 1 || (splits <= kMostSplits && splits * kLeastStages <= stages); ++splits) {
    const int64_t rounds = (tiles * splits + kMultiprocessors - 1) / kMultiprocessors;
    const int64_t each = (stages + splits - 1) / splits + (splits == 1 ? kStagesPerPartial / 3 : kStagesPerPartial);
    const double cost = static_cast<double>(rounds * each) * stage_cost;
    if (best.splits == 0 || cost < best.cost) best = {cost, splits};
    if (rounds >= 16) break;  // an uneven last round no longer matters
  }
  return best;
}

template <class Shape, class A, class B, class Out>
void launch_tiles(Stream& stream, const char* name, const A& a, const B& b, const Out& out, const ProductDims& d,
                  int64_t splits) {
  const int64_t stages = (d.k + kStageDepth<typename A::Element> - 1) / kStageDepth<typename A::Element>;
  const int64_t per_split = (stages + splits - 1) / splits;
  if (per_split > 0) splits = (stages + per_split - 1) / per_split;  // no empty ones
  TileGrid grid{d,
                blocks_for(d.m, Shape::kM),
                blocks_for(d.n, Shape::kN),
                static_cast<unsigned>(splits),
                per_split,
                out.wide(),
                nullptr};
  const Scratch scratch = stream.scratch(splits > 1 ? static_cast<size_t>(d.batch * splits * d.m * d.n) * 4 : 0);
  if (splits > 1) grid.partials = scratch.f32();
  const unsigned blocks = grid.tiles_m * grid.tiles_n * grid.splits * static_cast<unsigned>(d.batch);
  launch(stream, {name, blocks, Shape::kThreads, Shape::kSharedBytes}, multiply_tiles<Shape, A, B, Out>, a, b, out,
         grid);
  if (splits == 1) return;
  const int64_t size = d.batch * d.m * d.n;
  if (out.wide())
    launch(stream, {"sum_splits", blocks_for(size, kSumThreads * 4), kSumThreads}, sum_splits<4, Out>, scratch.f32(),
           out, d, static_cast<int>(splits));
  else
    launch(stream, {"sum_splits", blocks_for(size, kSumThreads), kSumThreads}, sum_splits<1, Out>, scratch.f32(), out,
           d, static_cast<int>(splits));
}

}  // namespace tile_detail

// Which tiles a product may take: each is a kernel of its own in the program.
enum class Tiles { all, small };

// `name` is that of the kernel, for errors and counts: a literal. k = 0 makes sums of 0. The tiles and the order of the
// sums depend on dims only. Takes scratch where k is split.
template <Tiles Choice = Tiles::all, class A, class B, class Out>
void tile_product(Stream& stream, const char* name, const A& a, const B& b, const Out& out, const ProductDims& d) {
  using namespace tile_detail;
  using T = typename A::Element;
  if (d.m == 0 || d.n == 0 || d.batch == 0) return;
  const int64_t stages = (d.k + kStageDepth<T> - 1) / kStageDepth<T>;
  const TilePlan small = plan_tiles<SmallTile>(d, stages);
  if constexpr (Choice == Tiles::all) {
    if (d.m <= WideTile::kM)
      return launch_tiles<WideTile>(stream, name, a, b, out, d, plan_tiles<WideTile>(d, stages).splits);
    if (d.n <= TallTile::kN)
      return launch_tiles<TallTile>(stream, name, a, b, out, d, plan_tiles<TallTile>(d, stages).splits);
    const TilePlan big = plan_tiles<BigTile<T>>(d, stages);
    if (big.cost <= small.cost) return launch_tiles<BigTile<T>>(stream, name, a, b, out, d, big.splits);
  }
  launch_tiles<SmallTile>(stream, name, a, b, out, d, small.splits);
}

}  // namespace vtl::kernels::VTL_GPU
