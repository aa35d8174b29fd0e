// Sums and maxima over the rows of [outer, rows, cols]: the gradients of what was broadcast, statistics, pooling.
#pragma once

#include "vtl/core/dest.h"
#include "vtl/kernels/device/floats.h"
#include "vtl/kernels/device/launch.h"

namespace vtl::kernels::VTL_GPU {

struct RowsDims {
  int64_t outer, rows, cols;
};

inline constexpr int kRowThreads = 256;
// Blocks that fill an H200: eight for each multiprocessor.
inline constexpr int64_t kEnoughBlocks = 1056;
inline constexpr int64_t kMostGridYZ = 65535;
// The fewest rows of a partial sum, so that partial sums are few beside the rows.
inline constexpr int64_t kRowsOfSegment = 128;

struct Sum {
  static constexpr float kEmpty = 0;
  VTL_DEVICE static float combine(float a, float b) { return a + b; }
};
struct Max {
  static constexpr float kEmpty = -HUGE_VALF;
  VTL_DEVICE static float combine(float a, float b) { return a > b ? a : b > a ? b : a == b ? a : a + b; }  // NaN wins
};

// Threads of a block: x along the columns, N for each, y along the rows. No lane is idle but in the last block.
template <int N>
dim3 row_block(RowsDims d, int64_t most_lanes = kRowThreads) {
  const int64_t lanes = (d.cols + N - 1) / N, pieces = (lanes + most_lanes - 1) / most_lanes;
  int64_t x = (lanes + pieces - 1) / pieces;
  if (pieces > 1) x = min((x + 31) / 32 * 32, most_lanes);
  return dim3(static_cast<unsigned>(x), static_cast<unsigned>(max(min(kRowThreads / x, d.rows), int64_t{1})));
}

// How the rows are cut: a grid of (columns, segments, outer or less).
struct Segments {
  dim3 block, grid;
  int64_t length = 0;  // rows of a segment

  int64_t count() const { return grid.y; }
};

// Depends on the problem only, as the order of sums does. Where blocks are few they become narrow, 128 bytes of f32 at
// least, so that more of them share the columns and more threads the rows.
template <int N>
Segments row_segments(RowsDims d) {
  const auto cut = [&](int64_t most_lanes) {
    Segments s;
    s.block = row_block<N>(d, most_lanes);
    const unsigned columns = blocks_for(d.cols, static_cast<int64_t>(s.block.x) * N);
    const int64_t most = d.rows / max(kRowsOfSegment, int64_t{4} * s.block.y),
                  wanted = kEnoughBlocks / (columns * d.outer);
    const int64_t count = max(min(min(most, wanted), kMostGridYZ), int64_t{1});
    s.length = max((d.rows + count - 1) / count, int64_t{1});
    s.grid = dim3(columns, max(blocks_for(d.rows, s.length), 1u), static_cast<unsigned>(min(d.outer, kMostGridYZ)));
    return s;
  };
  int64_t lanes = kRowThreads;
  Segments s = cut(lanes);
  while (lanes * N > kWarpLanes && s.grid.x * s.count() * d.outer < kEnoughBlocks) s = cut(lanes /= 2);
  return s;
}

// Folds `mine` over threadIdx.y, in a fixed order, as a tree. threadIdx.y = 0 gets the result. `shared`: N floats for
// each thread. Holds barriers.
template <class Op, int N>
VTL_DEVICE Floats<N> fold_over_y(Floats<N> mine, float* shared) {
  constexpr int kPiece = min(N, 4);  // 16 bytes of all threads beside each other: no bank conflicts
  const unsigned here = threadIdx.y * blockDim.x + threadIdx.x, threads = blockDim.x * blockDim.y;
  for (unsigned left = blockDim.y; left > 1;) {
    const unsigned half = (left + 1) / 2;
    VTL_UNROLL
    for (int p = 0; p < N / kPiece; ++p) {
      float* const pieces = shared + p * threads * kPiece;
      Floats<kPiece> piece;
      VTL_UNROLL
      for (int k = 0; k < kPiece; ++k) piece[k] = mine[p * kPiece + k];
      if (threadIdx.y >= half && threadIdx.y < left) store_floats(pieces + here * kPiece, piece);
    }
    __syncthreads();
    if (threadIdx.y + half < left) {
      VTL_UNROLL
      for (int p = 0; p < N / kPiece; ++p) {
        const auto other = load_floats<kPiece>(shared + (p * threads + here + half * blockDim.x) * kPiece);
        VTL_UNROLL
        for (int k = 0; k < kPiece; ++k) mine[p * kPiece + k] = Op::combine(mine[p * kPiece + k], other[k]);
      }
    }
    left = half;
  }
  __syncthreads();  // the next call writes again
  return mine;
}

// y[o,c] = (addend ? addend[o,c] : 0) + factor * the fold of x[o,:,c]; the rows of one `outer` lie dense, the next one
// begins `stride` further.
template <class T, class Out>
struct RowReduction {
  const T* x;
  Out* y;
  int64_t stride;
  float factor = 1;
  const Out* addend = nullptr;

  template <int N>
  VTL_DEVICE void put(int64_t at, Floats<N> total) const {
    const auto before = load_floats_or_zero<N>(addend, at);
    VTL_UNROLL
    for (int k = 0; k < N; ++k) total[k] = before[k] + total[k] * factor;
    store_floats(y + at, total);
  }
};

// Whether columns keep their own results, or are neighbours in one long row and end in one.
enum class Columns { apart, joined };

// One result for each segment: y is [outer, segments, cols], or [outer, segments] of joined columns, of which there are
// N then. Grid and block: Segments. cols is a multiple of N.
template <class Op, int N, Columns Kind, class T, class Out>
__global__ void __launch_bounds__(kRowThreads, 4) fold_rows(RowReduction<T, Out> job, RowsDims d, int64_t length) {
  VTL_SHARED(float, shared, [kRowThreads * N]);
  const int64_t c = (static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) * N;
  const int64_t begin = blockIdx.y * length, end = min(d.rows, begin + length);
  for (int64_t o = blockIdx.z; o < d.outer; o += gridDim.z) {
    Floats<N> total;
    VTL_UNROLL
    for (int k = 0; k < N; ++k) total[k] = Op::kEmpty;
    if (c < d.cols) {
      VTL_UNROLL_BY(4)
      for (int64_t r = begin + threadIdx.y; r < end; r += blockDim.y) {
        const auto row = load_floats<N>(job.x + o * job.stride + r * d.cols + c);
        VTL_UNROLL
        for (int k = 0; k < N; ++k) total[k] = Op::combine(total[k], row[k]);
      }
    }
    total = fold_over_y<Op>(total, shared);
    if (threadIdx.y != 0 || c >= d.cols) continue;
    const int64_t segment = o * gridDim.y + blockIdx.y;
    if constexpr (Kind == Columns::apart) {
      job.put(segment * d.cols + c, total);
    } else {
      Floats<1> one{{total[0]}};
      VTL_UNROLL
      for (int k = 1; k < N; ++k) one[0] = Op::combine(one[0], total[k]);
      job.put(segment, one);
    }
  }
}

// `name` is that of the kernel, for errors and counts: a literal. Without rows the result is that of nothing, 0 or
// -infinity, times factor.
template <class Op, class T, class Out>
void reduce_rows(Stream& stream, const char* name, const RowReduction<T, Out>& job, RowsDims d) {
  if (d.outer == 0 || d.cols == 0) return;
  const auto go = [&]<int N, Columns Kind>(RowsDims rows) {
    const Segments s = row_segments<N>(rows);
    if (s.count() == 1) {
      launch(stream, {name, s.grid, s.block}, fold_rows<Op, N, Kind, T, Out>, job, rows, s.length);
      return;
    }
    const Scratch scratch = stream.scratch(static_cast<size_t>(d.outer * s.count() * d.cols) * sizeof(float));
    const RowReduction<T, float> first{job.x, scratch.f32(), job.stride};
    launch(stream, {name, s.grid, s.block}, fold_rows<Op, N, Kind, T, float>, first, rows, s.length);
    const RowReduction<float, Out> second{scratch.f32(), job.y, s.count() * d.cols, job.factor, job.addend};
    reduce_rows<Op>(stream, "fold_segments", second, {d.outer, s.count(), d.cols});
  };
  constexpr int N = kVecLanes<T>;
  const bool whole = aligned_to<N>(job.x) && job.stride % N == 0;
  if (d.cols == 1 && d.rows % N == 0 && whole)
    go.template operator()<N, Columns::joined>({d.outer, d.rows / N, N});
  else if (d.cols % N == 0 && whole && aligned_to<N>(job.y) && aligned_to<N>(job.addend))
    go.template operator()<N, Columns::apart>(d);
  else
    go.template operator()<1, Columns::apart>(d);
}

// The sum of N columns over `rows` rows, `stride` apart, in their order. One thread has 16 of them on their way.
template <int N, class T>
VTL_DEVICE Floats<N> sum_of_rows(const T* first, int64_t rows, int64_t stride) {
  Floats<N> sum{};
  VTL_UNROLL_BY(16)
  for (int64_t r = 0; r < rows; ++r) {
    const Floats<N> row = load_floats<N>(first + r * stride);
    VTL_UNROLL
    for (int k = 0; k < N; ++k) sum[k] += row[k];
  }
  return sum;
}

// sum[o,c] = sum_k partials[o,k,c] over `count` of them, of type T.
template <class T>
void sum_partials(Stream& stream, const float* partials, int64_t count, Dest sum, RowsDims d) {
  const RowReduction<float, T> job{partials, static_cast<T*>(sum.out), count * d.cols, 1,
                                   static_cast<const T*>(sum.addend)};
  reduce_rows<Sum>(stream, "sum_partials", job, {d.outer, count, d.cols});
}

}  // namespace vtl::kernels::VTL_GPU
