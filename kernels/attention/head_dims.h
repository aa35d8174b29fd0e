// Which kernels take which heads, and what those for the odd ones share. Device code.
#pragma once

#include "vtl/kernels/attention/head_tiles.h"
#include "vtl/kernels/device/atomic.h"
#include "vtl/kernels/device/warp.h"

namespace vtl::kernels::VTL_GPU {

inline constexpr int kWarps = 4, kThreads = kWarps * static_cast<int>(kWarpLanes);
// Up to this many queries and keys, one block may hold a whole head.
inline constexpr int64_t kWholeRows = 256;
// Room for what kernels declare as VTL_SHARED.
inline constexpr size_t kStaticShared = 64;

// Rows of k and v, or of q and dout, that come at once where they are too many for shared memory: two stages and the
// rows of the block's warps fit into 99 KiB.
template <class T, int D>
inline constexpr int kStageRows = sizeof(T) == 2 ? 64
                                  : D <= 64      ? 32
                                                 : 16;

// The next unit of work that no warp of the block has taken, for all lanes. What a unit computes does not depend on who
// does it.
VTL_DEVICE int next_for_warp(int* next) {
  int unit = 0;
  if (lane_index() == 0) unit = atomic_add(next, 1);
  return shuffle(unit, 0);
}

// body.template operator()<D>() for the least D that has room for head_dim; false when there is none.
template <class T, class Body>
bool visit_head_dim(int64_t head_dim, const Body& body) {
  if (head_dim <= 32) return body.template operator()<32>(), true;
  if (head_dim <= 64) return body.template operator()<64>(), true;
  if constexpr (sizeof(T) == 2)
    if (head_dim <= 80) return body.template operator()<80>(), true;
  if (head_dim <= 96) return body.template operator()<96>(), true;
  if constexpr (sizeof(T) == 2)  // f32 would need more registers than there are
    if (head_dim <= 128) return body.template operator()<128>(), true;
  return false;
}

// Host: rows may move in pieces of 16 bytes.
template <class T>
bool in_vectors(const HeadView& view, const AttentionDims& d) {
  const HeadStrides& s = view.strides;
  return aligned_to<kVecLanes<T>>(static_cast<const T*>(view.data)) &&
         (s.batch | s.head | s.token | d.head_dim) % kVecLanes<T> == 0;
}

// ---- larger heads: correct, not fast --------------------------------------------------------------------------------

// Columns of a warp: lane, lane + 32, ... from a first one on.
inline constexpr int kAnyColumns = 128;

template <class T>
VTL_DEVICE float warp_dot(const T* a, const T* b, int head_dim) {
  float sum = 0;
  for (int e = static_cast<int>(lane_index()); e < head_dim; e += 32)
    sum += to_float(load(a + e)) * to_float(load(b + e));
  return warp_sum(sum);
}

struct AnyColumns {
  float sums[kAnyColumns / 32];

  VTL_DEVICE void scale(float factor) {
    VTL_UNROLL
    for (float& sum : sums) sum *= factor;
  }
  template <class T>
  VTL_DEVICE void add(float weight, const T* row, int first, int head_dim) {
    VTL_UNROLL
    for (int i = 0; i < kAnyColumns / 32; ++i)
      if (column(first, i) < head_dim) sums[i] += weight * to_float(load(row + column(first, i)));
  }
  // out = addend + factor * sums; null: no addend.
  template <class T>
  VTL_DEVICE void write(T* out, const T* addend, float factor, int first, int head_dim) const {
    VTL_UNROLL
    for (int i = 0; i < kAnyColumns / 32; ++i) {
      const int at = column(first, i);
      if (at >= head_dim) continue;
      store(out + at, from_float<T>((addend ? to_float(load(addend + at)) : 0.0f) + factor * sums[i]));
    }
  }

 private:
  VTL_DEVICE static int column(int first, int i) { return first + 32 * i + static_cast<int>(lane_index()); }
};

}  // namespace vtl::kernels::VTL_GPU
