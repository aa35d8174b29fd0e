// The same for every element, where something may go with the columns: a bias, a gate, a sum over the rows. What an
// operation does is a struct, its body:
//
//   static constexpr int kWidth;      values that a thread takes at once, at most
//   bool aligned() const;             on the host: whether its pointers are aligned to kWidth values
//   kept<N>(c)                        what a thread reads once for N columns, the first of them c
//   at<N>(i, kept) -> Floats<N>       the work for N values, the first of them i; what it returns is summed over
//                                     rows where somebody wants the sum
#pragma once

#include "vtl/core/dest.h"
#include "vtl/kernels/device/floats.h"
#include "vtl/kernels/device/launch.h"

namespace vtl::kernels::VTL_GPU {

// [outer, rows, cols]. Columns are those of one `outer`: c runs to outer * cols.
struct RowsDims {
  int64_t outer, rows, cols;
};

// What kept() returns where nothing goes with the columns.
struct NothingKept {};

inline constexpr int kRowThreads = 256;
inline constexpr int kRowBlocks = 4;  // on a multiprocessor at once: 64 registers for a thread
inline constexpr int64_t kMostGridRows = 1024, kMostGridOuter = 65535;
// Partial sums: two blocks for each multiprocessor of an H200; many rows for each, so that partials are few beside
// them.
inline constexpr int64_t kMostPartialSums = 264, kRowsPerPartialSum = 128;

enum class RowSum { none, partial };

// sums[y][x] of all y, in their order, at threadIdx.y = 0.
template <int N>
VTL_DEVICE Floats<N> sum_over_y(const Floats<N>& mine, float* sums) {
  const unsigned here = threadIdx.y * blockDim.x + threadIdx.x;
  store_floats(sums + here * N, mine);
  __syncthreads();
  Floats<N> total{};
  if (threadIdx.y == 0)
    for (unsigned y = 0; y < blockDim.y; ++y) {
      const Floats<N> other = load_floats<N>(sums + (y * blockDim.x + threadIdx.x) * N);
      VTL_UNROLL
      for (int k = 0; k < N; ++k) total[k] += other[k];
    }
  __syncthreads();
  return total;
}

// Block: x along the columns, N for each thread, y along the rows; 256 threads. Grid: (columns, rows or less, outer or
// less). With sums: partials[outer][gridDim.y][cols]. cols is a multiple of N, or all is one row without a sum, whose
// last values are then taken one by one.
template <int N, RowSum Sum, class Body>
__global__ void __launch_bounds__(kRowThreads, kRowBlocks) each_row(Body body, RowsDims d, float* partials) {
  const int64_t c = (static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) * N;
  for (int64_t o = blockIdx.z; o < d.outer; o += gridDim.z) {
    [[maybe_unused]] Floats<N> sum{};
    if (c + N <= d.cols) {
      const auto kept = body.template kept<N>(o * d.cols + c);
      for (int64_t r = blockIdx.y * blockDim.y + threadIdx.y; r < d.rows; r += gridDim.y * blockDim.y) {
        const Floats<N> value = body.template at<N>((o * d.rows + r) * d.cols + c, kept);
        if constexpr (Sum == RowSum::partial) {
          VTL_UNROLL
          for (int k = 0; k < N; ++k) sum[k] += value[k];
        }
      }
    } else if (threadIdx.y == 0) {
      for (int64_t k = c; k < d.cols; ++k) body.template at<1>(k, body.template kept<1>(k));
    }
    if constexpr (Sum == RowSum::partial) {
      VTL_SHARED(float, sums, [kRowThreads * N]);
      sum = sum_over_y(sum, sums);
      if (threadIdx.y == 0 && c < d.cols) store_floats(partials + (o * gridDim.y + blockIdx.y) * d.cols + c, sum);
    }
  }
}

// out[o,c] = (addend ? addend[o,c] : 0) + sum_k partials[o,k,c]. Block: 32 columns, 8 slices of the partials. Grid:
// (columns, outer or less).
template <class T>
__global__ void __launch_bounds__(kRowThreads)
    sum_partial_rows(const float* partials, int64_t count, const T* addend, T* out, RowsDims d) {
  VTL_SHARED(float, sums, [kRowThreads]);
  const int64_t c = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  for (int64_t o = blockIdx.y; o < d.outer; o += gridDim.y) {
    Floats<1> sum{};
    if (c < d.cols)
      for (int64_t k = threadIdx.y; k < count; k += blockDim.y) sum[0] += load(partials + (o * count + k) * d.cols + c);
    sum = sum_over_y(sum, sums);
    if (threadIdx.y != 0 || c >= d.cols) continue;
    const float before = addend ? to_float(load(addend + o * d.cols + c)) : 0.0f;
    store(out + o * d.cols + c, from_float<T>(before + sum[0]));
  }
}

namespace rows_detail {

// 256 threads, as wide as the columns need.
template <int N>
dim3 block_for(int64_t cols) {
  unsigned x = 1;
  while (x < kRowThreads && static_cast<int64_t>(x) * N < cols) x *= 2;
  return dim3(x, kRowThreads / x);
}

template <int N, RowSum Sum, class Body>
void launch_rows(Stream& stream, const char* name, const Body& body, RowsDims d, int64_t grid_rows, float* partials) {
  const dim3 block = block_for<N>(d.cols);
  const dim3 grid(blocks_for(d.cols, static_cast<int64_t>(block.x) * N), static_cast<unsigned>(grid_rows),
                  static_cast<unsigned>(min(d.outer, kMostGridOuter)));
  launch(stream, {name, grid, block}, each_row<N, Sum, Body>, body, d, partials);
}

}  // namespace rows_detail

// `name` is that of the kernel, for errors and counts: a literal. Nothing to do is nothing done.
template <class Body>
void for_each_row(Stream& stream, const char* name, const Body& body, RowsDims d) {
  if (d.outer == 0 || d.rows == 0 || d.cols == 0) return;
  const auto go = [&]<int N>() {
    const int64_t rows_at_once = rows_detail::block_for<N>(d.cols).y;
    const int64_t grid_rows = min((d.rows + rows_at_once - 1) / rows_at_once, kMostGridRows);
    rows_detail::launch_rows<N, RowSum::none>(stream, name, body, d, grid_rows, nullptr);
  };
  const bool whole = d.cols % Body::kWidth == 0 || (d.outer == 1 && d.rows == 1);
  if (whole && body.aligned())
    go.template operator()<Body::kWidth>();
  else
    go.template operator()<1>();
}

// One long row.
template <class Body>
void for_each_element(Stream& stream, const char* name, const Body& body, int64_t count) {
  for_each_row(stream, name, body, {1, 1, count});
}

// The same, and sum[o,c] = the sum over rows of what at() returned, of type T, in an order that depends on dims only.
template <class T, class Body>
void for_each_row_with_sum(Stream& stream, const char* name, const Body& body, RowsDims d, Dest sum) {
  if (d.outer == 0 || d.cols == 0) return;
  constexpr int N = min(Body::kWidth, 4);  // f32 partials move in 16 bytes
  const int64_t count = min((d.rows + kRowsPerPartialSum - 1) / kRowsPerPartialSum, kMostPartialSums);
  const Scratch scratch = stream.scratch(static_cast<size_t>(d.outer * count * d.cols) * sizeof(float));
  if (count > 0) {
    if (d.cols % N == 0 && body.aligned())
      rows_detail::launch_rows<N, RowSum::partial>(stream, name, body, d, count, scratch.f32());
    else
      rows_detail::launch_rows<1, RowSum::partial>(stream, name, body, d, count, scratch.f32());
  }
  const dim3 grid(blocks_for(d.cols, kWarpLanes), static_cast<unsigned>(min(d.outer, kMostGridOuter)));
  launch(stream, {"sum_partial_rows", grid, dim3(kWarpLanes, kRowThreads / kWarpLanes)}, sum_partial_rows<T>,
         scratch.f32(), count, static_cast<const T*>(sum.addend), static_cast<T*>(sum.out), d);
}

}  // namespace vtl::kernels::VTL_GPU
