// The same for every element, where something may go with the columns: a bias, a gate, a sum over the rows. What an
// operation does is a struct, its body:
//
//   static constexpr int kWidth;          values that a thread takes at once, at most
//   bool aligned() const;                 on the host: whether its pointers are aligned to kWidth values
//   kept<N>(c)                            what a thread reads once: for N columns, the first of them c; where elements
//                                         have no columns, for all elements of group c
//   read<N>(i, kept)                      what it reads for N values, the first of them i
//   at<N>(i, kept, values) -> Floats<N>   the work for these values; what it returns is summed over rows where somebody
//                                         wants the sum
//
// A thread reads ahead: while it works on some values, the next ones are on their way. at() may overwrite what read()
// has read for these i, and nothing else that is read.
#pragma once

#include "vtl/core/dest.h"
#include "vtl/kernels/device/reduce_rows.h"

namespace vtl::kernels::VTL_GPU {

// What kept() returns where nothing goes with the columns.
struct NothingKept {};

// Where there is much to do, so many vectors for each thread.
inline constexpr int64_t kVectorsPerThread = 4;

enum class RowSum { none, partial };

// Elements first, first + step, ... before end; returns the sum of what at() returned. `Ahead` vectors are on their
// way.
template <int N, int Ahead, class Body, class Kept>
VTL_DEVICE Floats<N> work_through(const Body& body, const Kept& kept, int64_t first, int64_t end, int64_t step) {
  using Values = decltype(body.template read<N>(first, kept));
  Values coming[Ahead]{};
  VTL_UNROLL
  for (int k = 0; k < Ahead; ++k)
    if (first + k * step < end) coming[k] = body.template read<N>(first + k * step, kept);
  Floats<N> sum{};
  VTL_UNROLL_BY(1)
  for (int64_t i = first; i < end; i += step) {
    const Values now = coming[0];
    VTL_UNROLL
    for (int k = 0; k + 1 < Ahead; ++k) coming[k] = coming[k + 1];
    if (i + Ahead * step < end) coming[Ahead - 1] = body.template read<N>(i + Ahead * step, kept);
    const Floats<N> value = body.template at<N>(i, kept, now);
    VTL_UNROLL
    for (int k = 0; k < N; ++k) sum[k] += value[k];
  }
  return sum;
}

// [groups, count], dense. Grid: (count, groups or less). count is a multiple of N, or there is one group, whose last
// values are taken one by one.
template <int N, class Body>
__global__ void __launch_bounds__(kRowThreads, 3) each_element(Body body, int64_t groups, int64_t count) {
  const int64_t thread = static_cast<int64_t>(blockIdx.x) * kRowThreads + threadIdx.x, whole = count / N * N;
  for (int64_t g = blockIdx.y; g < groups; g += gridDim.y) {
    const int64_t begin = g * count;
    work_through<N, 1>(body, body.template kept<N>(g), begin + thread * N, begin + whole,
                       static_cast<int64_t>(gridDim.x) * kRowThreads * N);
    if (whole + thread >= count) continue;
    const auto kept = body.template kept<1>(g);
    body.template at<1>(whole + thread, kept, body.template read<1>(whole + thread, kept));
  }
}

// Grid: (columns, rows or less, outer or less); block: row_block. With sums: partials[outer][gridDim.y][cols]. Blocks
// that sum are few and read further ahead. cols is a multiple of N.
template <int N, RowSum Wanted, class Body>
__global__ void __launch_bounds__(kRowThreads, Wanted == RowSum::none ? 3 : 2)
    each_row(Body body, RowsDims d, float* partials) {
  const int64_t c = (static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) * N;
  const int64_t first_row = static_cast<int64_t>(blockIdx.y) * blockDim.y + threadIdx.y;
  const int64_t step = static_cast<int64_t>(gridDim.y) * blockDim.y * d.cols;
  for (int64_t o = blockIdx.z; o < d.outer; o += gridDim.z) {
    [[maybe_unused]] Floats<N> sum{};
    if (c < d.cols) {
      const int64_t begin = o * d.rows * d.cols;
      sum = work_through < N, Wanted == RowSum::none
                                  ? 1
                                  : 3 > (body, body.template kept<N>(o * d.cols + c), begin + first_row * d.cols + c,
                                         begin + d.rows * d.cols, step);
    }
    if constexpr (Wanted == RowSum::partial) {
      VTL_SHARED(float, shared, [kRowThreads * N]);
      sum = fold_over_y<Sum>(sum, shared);
      if (threadIdx.y == 0 && c < d.cols) store_floats(partials + (o * gridDim.y + blockIdx.y) * d.cols + c, sum);
    }
  }
}

namespace rows_detail {

// Blocks for work that fills `all`, `others` times over: no more than a GPU holds, or so many that each thread has
// kVectorsPerThread vectors.
inline unsigned blocks_to_fill(int64_t all, int64_t others, int64_t most) {
  const int64_t enough = (kEnoughBlocks + others - 1) / others;
  const int64_t fewer = (all + kVectorsPerThread - 1) / kVectorsPerThread;
  return static_cast<unsigned>(min(min(all, max(enough, fewer)), most));
}

}  // namespace rows_detail

// `name` is that of the kernel, for errors and counts: a literal. Nothing to do is nothing done.
template <class Body>
void for_each_row(Stream& stream, const char* name, const Body& body, RowsDims d) {
  if (d.outer == 0 || d.rows == 0 || d.cols == 0) return;
  const auto go = [&]<int N>() {
    const dim3 block = row_block<N>(d);
    const unsigned columns = blocks_for(d.cols, static_cast<int64_t>(block.x) * N);
    const unsigned rows = rows_detail::blocks_to_fill(blocks_for(d.rows, block.y), columns * d.outer, kMostGridYZ);
    const dim3 grid(columns, rows, static_cast<unsigned>(min(d.outer, kMostGridYZ)));
    launch(stream, {name, grid, block}, each_row<N, RowSum::none, Body>, body, d, nullptr);
  };
  if (d.cols % Body::kWidth == 0 && body.aligned())
    go.template operator()<Body::kWidth>();
  else
    go.template operator()<1>();
}

// The same without columns, for `groups` times `count` elements.
template <class Body>
void for_each_element(Stream& stream, const char* name, const Body& body, int64_t count, int64_t groups = 1) {
  if (count == 0 || groups == 0) return;
  const auto go = [&]<int N>() {
    const int64_t all = (count + kRowThreads * N - 1) / (kRowThreads * N);
    const dim3 grid(rows_detail::blocks_to_fill(all, groups, int64_t{1} << 30),
                    static_cast<unsigned>(min(groups, kMostGridYZ)));
    launch(stream, {name, grid, kRowThreads}, each_element<N, Body>, body, groups, count);
  };
  if ((count % Body::kWidth == 0 || groups == 1) && body.aligned())
    go.template operator()<Body::kWidth>();
  else
    go.template operator()<1>();
}

// for_each_row, and sum[o,c] = the sum over rows of what at() returned, of type T, in an order that depends on dims
// only.
template <class T, class Body>
void for_each_row_with_sum(Stream& stream, const char* name, const Body& body, RowsDims d, Dest sum) {
  if (d.outer == 0 || d.cols == 0) return;
  const auto go = [&]<int N>() {
    const Segments s = row_segments<N>(d);
    const Scratch scratch = stream.scratch(static_cast<size_t>(d.outer * s.count() * d.cols) * sizeof(float));
    launch(stream, {name, s.grid, s.block}, each_row<N, RowSum::partial, Body>, body, d, scratch.f32());
    sum_partials<T>(stream, scratch.f32(), s.count(), sum, d);
  };
  if (d.cols % Body::kWidth == 0 && body.aligned())
    go.template operator()<Body::kWidth>();
  else
    go.template operator()<1>();
}

}  // namespace vtl::kernels::VTL_GPU
