// N neighbouring values of f32 or bf16 as floats, moved in pieces of at most 16 bytes.
#pragma once

#include "vtl/kernels/device/convert.h"
#include "vtl/kernels/device/memory.h"

namespace vtl::kernels::VTL_GPU {

template <int N>
struct Floats {
  float lanes[N];

  VTL_DEVICE float& operator[](int i) { return lanes[i]; }
  VTL_DEVICE float operator[](int i) const { return lanes[i]; }
};

template <class T, int N>
VTL_DEVICE Floats<N> floats_of(const Vec<T, N>& vec) {
  Floats<N> values;
  VTL_UNROLL
  for (int i = 0; i < N; ++i) values[i] = to_float(vec[i]);
  return values;
}

// `from` and `to` are aligned to N values, or to 16 bytes where that is less.
template <int N, class T>
VTL_DEVICE Floats<N> load_floats(const T* from, Site site = VTL_HERE) {
  constexpr int kPiece = N < kVecLanes<T> ? N : kVecLanes<T>;
  Floats<N> values;
  VTL_UNROLL
  for (int p = 0; p < N; p += kPiece) {
    const auto piece = load_vec<kPiece>(from + p, site);
    VTL_UNROLL
    for (int i = 0; i < kPiece; ++i) values[p + i] = to_float(piece[i]);
  }
  return values;
}
// from[at], from[at + 1], ...; zeros when `from` is null.
template <int N, class T>
VTL_DEVICE Floats<N> load_floats_or_zero(const T* from, int64_t at, Site site = VTL_HERE) {
  return from ? load_floats<N>(from + at, site) : Floats<N>{};
}
template <int N, class T>
VTL_DEVICE void store_floats(T* to, const Floats<N>& values, Site site = VTL_HERE) {
  constexpr int kPiece = N < kVecLanes<T> ? N : kVecLanes<T>;
  VTL_UNROLL
  for (int p = 0; p < N; p += kPiece) {
    Vec<T, kPiece> piece;
    VTL_UNROLL
    for (int i = 0; i < kPiece; ++i) piece[i] = from_float<T>(values[p + i]);
    store_vec<kPiece>(to + p, piece, site);
  }
}

// Host: p may be read in vectors of N.
template <int N, class T>
bool aligned_to(const T* p) {
  constexpr size_t kBytes = sizeof(T) * N < 16 ? sizeof(T) * N : 16;
  return reinterpret_cast<uintptr_t>(p) % kBytes == 0;
}

}  // namespace vtl::kernels::VTL_GPU
