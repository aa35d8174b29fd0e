// Row-wise loops and sums over rows for the CPU kernels, with partitions that depend on the problem only.
#pragma once

#include "vtl/core/dest.h"
#include "vtl/core/parallel.h"
#include "vtl/core/stream.h"
#include "vtl/kernels/cpu/vec.h"

namespace vtl::kernels::VTL_CPU {

// For lambdas that are called from several places: out of line, each vector would pay for a call.
#define VTL_INLINE_BODY __attribute__((always_inline))

// Asks for what lies 2 KiB behind p. Where a loop computes for more than a few cycles per vector, its instructions fill
// the processor's window before the next cache lines come into sight: GELU over 19 MB takes 2.2 ms with it, 3.7 ms
// without.
template <class T>
VTL_INLINE void prefetch(const T* p) {
  __builtin_prefetch(reinterpret_cast<const char*>(p) + 2048);
}
template <class T>
VTL_INLINE void prefetch_to_write(T* p) {
  __builtin_prefetch(reinterpret_cast<char*>(p) + 2048, 1);
}

// Elements of one chunk of an element-wise loop: small enough to share, large enough to hide the hand-out.
inline constexpr int64_t kElementGrain = 32768;

// Rows of one chunk: at most 64 chunks, because column sums keep a partial sum for each, and no tiny ones.
VTL_INLINE int64_t row_grain(int64_t rows, int64_t cols) {
  const int64_t few = (rows + 63) / 64, large = cols > 0 ? (kElementGrain + cols - 1) / cols : rows;
  return few > large ? few : large > 0 ? large : 1;
}

// f(i, lanes) over [0, count) on all threads, in vectors.
template <class F>
VTL_INLINE void parallel_lanes(int64_t count, F&& f) {
  parallel_for(count, kElementGrain, [&](int64_t begin, int64_t end) {
    for_lanes(end - begin, [&](int64_t i, auto lanes) VTL_INLINE_BODY { f(begin + i, lanes); });
  });
}

// sums[i] = sum over r = 0 .. repeats-1, in that order, of value(r, i, lanes) for i in [0, count). Four terms are added
// before the sum is touched, so that it stays in the cache for a quarter of the traffic. Zero for no repeats.
template <class F>
VTL_INLINE void sum_repeats(int64_t repeats, int64_t count, float* sums, F&& value) {
  if (repeats == 0) __builtin_memset(sums, 0, static_cast<size_t>(count) * 4);
  for (int64_t r = 0; r < repeats;) {
    const bool first = r == 0;
    if (repeats - r >= 4) {
      for_lanes(count, [&](int64_t i, auto lanes) VTL_INLINE_BODY {
        const vfloat two = value(r, i, lanes) + value(r + 1, i, lanes);
        const vfloat four = two + (value(r + 2, i, lanes) + value(r + 3, i, lanes));
        store_n(sums + i, first ? four : load_n(sums + i, lanes) + four, lanes);
      });
      r += 4;
    } else {
      for_lanes(count, [&](int64_t i, auto lanes) VTL_INLINE_BODY {
        const vfloat one = value(r, i, lanes);
        store_n(sums + i, first ? one : load_n(sums + i, lanes) + one, lanes);
      });
      ++r;
    }
  }
}

// Calls value(r, c, lanes) once for each vector of [rows, cols], on all threads; what it returns is summed over rows
// into `sum` (f32 [cols]) if that is wanted.
template <class F>
VTL_INLINE void rows_with_column_sum(Stream& stream, int64_t rows, int64_t cols, Dest sum, F&& value) {
  const int64_t grain = row_grain(rows, cols);
  if (!sum.wanted()) {
    parallel_for(rows, grain, [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r)
        for_lanes(cols, [&](int64_t c, auto lanes) VTL_INLINE_BODY { value(r, c, lanes); });
    });
    return;
  }
  const int64_t chunks = (rows + grain - 1) / grain;
  const Scratch scratch = stream.scratch(static_cast<size_t>(chunks * cols) * 4);
  float* const partials = scratch.f32();  // [chunks, cols]
  parallel_for(rows, grain, [&](int64_t begin, int64_t end) {
    sum_repeats(end - begin, cols, partials + begin / grain * cols,
                [&](int64_t r, int64_t c, auto lanes) VTL_INLINE_BODY { return value(begin + r, c, lanes); });
  });
  auto* out = static_cast<float*>(sum.out);
  const auto* addend = static_cast<const float*>(sum.addend);
  for_lanes(cols, [&](int64_t c, auto lanes) {
    vfloat total{};
    for (int64_t chunk = 0; chunk < chunks; ++chunk) total += load_n(partials + chunk * cols + c, lanes);
    if (addend) total += load_n(addend + c, lanes);
    store_n(out + c, total, lanes);
  });
}

}  // namespace vtl::kernels::VTL_CPU
