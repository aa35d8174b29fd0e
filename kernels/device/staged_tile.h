// An operand of a tile product as it lies in shared memory for a while, and how a warp takes it into registers.
#pragma once

#include "vtl/kernels/device/convert.h"
#include "vtl/kernels/device/memory.h"
#include "vtl/kernels/device/mma.h"

namespace vtl::kernels::VTL_GPU {

// What runs along an operand's memory: k, or its lines. A line is a row of A or a column of B.
enum class Major : uint8_t { k, line };

// One stage holds so many bytes of each line, in steps of one tensor-core instruction.
inline constexpr int kStageBytes = 128, kStepBytes = 32, kStageSteps = kStageBytes / kStepBytes;
template <class T>
inline constexpr int kStageDepth = kStageBytes / sizeof(T);
template <class T>
inline constexpr int kStepDepth = kStepBytes / sizeof(T);

inline constexpr int kChunkBytes = 16;
template <class T>
inline constexpr int kChunk = kChunkBytes / sizeof(T);

// `Lines` lines of one stage as rows of 16-byte chunks. Major::k: a row is a line, chunks go along k. Major::line: a
// row is one k, chunks go along the lines. A chunk's place in its row is turned by the row, so that what a warp reads
// at once lies in different banks: 8 rows of one chunk (ldmatrix), or 4 rows of two chunks (f32 fragments across rows).
template <class T, Major M, int Lines>
struct StagedTile {
  static constexpr int kBytes = Lines * kStageBytes;
  static constexpr int kRows = M == Major::k ? Lines : kStageDepth<T>;
  static constexpr int kRowChunks = kBytes / kChunkBytes / kRows;
  static_assert(kRowChunks == 4 || kRowChunks % 8 == 0);
  static_assert(kRowChunks >= 8 || sizeof(T) == 2);

  // Where a chunk begins, in bytes.
  VTL_DEVICE static unsigned place(unsigned row, unsigned chunk) {
    const unsigned turn = M == Major::line && sizeof(T) == 4 ? row % 4 * 2 : kRowChunks == 4 ? row / 2 % 4 : row % 8;
    return (row * kRowChunks + (chunk ^ turn)) * kChunkBytes;
  }

  // A fragment of A for each tensor-core instruction of 16 lines, the first of them `line`, at `step` (mma.h).
  VTL_DEVICE static void load_a(uint32_t (&a)[4], const unsigned char* tile, unsigned line, unsigned step) {
    const unsigned lane = lane_index();
    if constexpr (M == Major::k)
      ldmatrix(a, tile + place(line + lane % 16, step * 2 + lane / 16));
    else if constexpr (sizeof(T) == 2)
      ldmatrix_trans(a, tile + place(step * 16 + lane / 16 * 8 + lane % 8, line / 8 + lane / 8 % 2));
    else
      load_words(a, tile, line, step, 1, 2);
  }

  // Fragments of B for two instructions: b[0], b[1] of lines line ... line + 7, b[2], b[3] of the next 8.
  VTL_DEVICE static void load_b(uint32_t (&b)[4], const unsigned char* tile, unsigned line, unsigned step) {
    const unsigned lane = lane_index();
    if constexpr (M == Major::k)
      ldmatrix(b, tile + place(line + lane / 16 * 8 + lane % 8, step * 2 + lane / 8 % 2));
    else if constexpr (sizeof(T) == 2)
      ldmatrix_trans(b, tile + place(step * 16 + lane % 16, line / 8 + lane / 16));
    else
      load_words(b, tile, line, step, 2, 1);
  }

 private:
  // f32 that lie across the rows, which ldmatrix cannot transpose. Register h: 8 lines on where h / line_every is odd,
  // 4 of k on where h / k_every is.
  VTL_DEVICE static void load_words(uint32_t (&words)[4], const unsigned char* tile, unsigned line, unsigned step,
                                    unsigned line_every, unsigned k_every) {
    VTL_UNROLL
    for (unsigned h = 0; h < 4; ++h) {
      const unsigned l = line + lane_index() / 4 + h / line_every % 2 * 8;
      const unsigned k = step * 8 + lane_index() % 4 + h / k_every % 2 * 4;
      words[h] = load(reinterpret_cast<const uint32_t*>(tile + place(k, l / 4)) + l % 4);
    }
  }
};

// Values as the tensor cores take them: bf16 as they are; f32 as big + small, each with 11 bits of mantissa, so that
// three products of such halves are as exact as one of f32.
template <class T, int N>
struct Halves {
  uint32_t big[N], small[sizeof(T) == 4 ? N : 1];

  VTL_DEVICE void set(const uint32_t (&values)[N]) {
    VTL_UNROLL
    for (int i = 0; i < N; ++i) {
      big[i] = values[i];
      if constexpr (sizeof(T) == 4) {
        float value, upper;
        __builtin_memcpy(&value, &values[i], sizeof value);
        big[i] = to_tf32(value);
        __builtin_memcpy(&upper, &big[i], sizeof upper);
        small[i] = to_tf32(value - upper);
      }
    }
  }
};

// sums[i] += a[i] b for 16 columns, two instructions: b[0], b[1] for the first.
template <class T, int M>
VTL_DEVICE void multiply_columns(float (&sums)[M][2][4], const Halves<T, 4> (&a)[M], const uint32_t (&b)[4]) {
  VTL_UNROLL
  for (int j = 0; j < 2; ++j) {
    const uint32_t column[2] = {b[2 * j], b[2 * j + 1]};
    Halves<T, 2> right;
    right.set(column);
    if constexpr (sizeof(T) == 2) {
      VTL_UNROLL
      for (int i = 0; i < M; ++i) mma_bf16(sums[i][j], a[i].big, right.big);
    } else {  // small terms first; the products of one sum lie M instructions apart
      VTL_UNROLL
      for (int i = 0; i < M; ++i) mma_tf32(sums[i][j], a[i].small, right.big);
      VTL_UNROLL
      for (int i = 0; i < M; ++i) mma_tf32(sums[i][j], a[i].big, right.small);
      VTL_UNROLL
      for (int i = 0; i < M; ++i) mma_tf32(sums[i][j], a[i].big, right.big);
    }
  }
}

}  // namespace vtl::kernels::VTL_GPU
