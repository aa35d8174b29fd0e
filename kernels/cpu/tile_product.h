// The inner kernel of matrix products: a tile of C in registers, from operands in packed layouts.
#pragma once

#include "vtl/kernels/cpu/vec.h"

namespace vtl::kernels::VTL_CPU {

// As many accumulators as the register file holds beside two vectors of B and a broadcast element of A.
#if defined(__AVX512F__)
inline constexpr int kTileRows = 14;
#else
inline constexpr int kTileRows = 6;
#endif
inline constexpr int kTileCols = 2 * kLanes;

enum class Sums { overwrite, add };

// sums[r * sums_stride + c] = or += sum over k of A[r, k] * B[k, c] for r < kTileRows, c < kTileCols, with
//   A[r, k] = a[(k / kLanes) * a_block + r * kLanes + k % kLanes]   (blocks of kLanes columns)
//   B[k, c] = b[k * kTileCols + c]
// `k_blocks` is the length of the sum in blocks of kLanes. `ahead`, unless null, is fetched into L2 meanwhile:
// kPrefetchFloats for each element of the sum.
inline constexpr int kPrefetchFloats = 16;
template <int Rows = kTileRows>
VTL_INLINE void tile_product(const float* a, int64_t a_block, const float* b, int64_t k_blocks, float* sums,
                             int64_t sums_stride, Sums mode, const float* ahead = nullptr) {
  vfloat left[Rows], right[Rows];
#pragma GCC unroll 16
  for (int r = 0; r < Rows; ++r) left[r] = right[r] = vfloat{};
  for (int64_t block = 0; block < k_blocks; ++block, a += a_block) {
#pragma GCC unroll 2
    for (int k = 0; k < kLanes; ++k, b += kTileCols) {
      const vfloat b_left = load(b), b_right = load(b + kLanes);
      if (ahead) __builtin_prefetch(ahead + (block * kLanes + k) * kPrefetchFloats, 0, 2);
#pragma GCC unroll 16
      for (int r = 0; r < Rows; ++r) {
        const vfloat x = broadcast(a[r * kLanes + k]);
        left[r] += x * b_left;
        right[r] += x * b_right;
      }
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < Rows; ++r) {
    float* row = sums + r * sums_stride;
    store(row, mode == Sums::add ? load(row) + left[r] : left[r]);
    store(row + kLanes, mode == Sums::add ? load(row + kLanes) + right[r] : right[r]);
  }
}

// Rows of the tile of tile_product_strided: a divisor of the usual numbers of channels.
#if defined(__AVX512F__)
inline constexpr int kStridedRows = 8;
#else
inline constexpr int kStridedRows = 4;
#endif

// The same product for kStridedRows rows and operands with rows of A^T and B: sum over k < depth of
// a[k * a_stride + r] * b[k * b_stride + c].
VTL_INLINE void tile_product_strided(const float* a, int64_t a_stride, const float* b, int64_t b_stride, int64_t depth,
                                     float* sums, int64_t sums_stride, Sums mode) {
  vfloat left[kStridedRows], right[kStridedRows];
#pragma GCC unroll 16
  for (int r = 0; r < kStridedRows; ++r) left[r] = right[r] = vfloat{};
#pragma GCC unroll 2
  for (int64_t k = 0; k < depth; ++k, a += a_stride, b += b_stride) {
    const vfloat b_left = load(b), b_right = load(b + kLanes);
#pragma GCC unroll 16
    for (int r = 0; r < kStridedRows; ++r) {
      const vfloat x = broadcast(a[r]);
      left[r] += x * b_left;
      right[r] += x * b_right;
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < kStridedRows; ++r) {
    float* row = sums + r * sums_stride;
    store(row, mode == Sums::add ? load(row) + left[r] : left[r]);
    store(row + kLanes, mode == Sums::add ? load(row + kLanes) + right[r] : right[r]);
  }
}

}  // namespace vtl::kernels::VTL_CPU
