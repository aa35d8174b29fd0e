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
    for (int i = 0; i < kPiece; i += 2) {
      if constexpr (sizeof(T) == 2 && kPiece % 2 == 0) {  // two are rounded at once
        const uint32_t pair = pack_bf16(values[p + i], values[p + i + 1]);
        __builtin_memcpy(&piece[i], &pair, sizeof pair);
      } else {
        piece[i] = from_float<T>(values[p + i]);
        if (i + 1 < kPiece) piece[i + 1] = from_float<T>(values[p + i + 1]);
      }
    }
    store_vec<kPiece>(to + p, piece, site);
  }
}

// N values as they came from memory, for those that wait in registers: bf16 then takes half as many as floats do.
template <int N, class T>
struct Packed {
  Vec<T, N> values;

  VTL_DEVICE static Packed load_from(const T* from, Site site) { return {load_vec<N>(from, site)}; }
  VTL_DEVICE Floats<N> floats() const {
    Floats<N> result;
    VTL_UNROLL
    for (int i = 0; i < N; ++i) result[i] = to_float(values[i]);
    return result;
  }
};
template <int N>
requires(N % 2 == 0) struct Packed<N, bf16> {
  Vec<uint32_t, N / 2> pairs;  // the first value in the lower half

  VTL_DEVICE static Packed load_from(const bf16* from, Site site) {
    return {load_vec<N / 2>(reinterpret_cast<const uint32_t*>(from), site)};
  }
  VTL_DEVICE Floats<N> floats() const {
    Floats<N> result;
    VTL_UNROLL
    for (int i = 0; i < N / 2; ++i) {
      const uint32_t first = pairs[i] << 16, second = pairs[i] & 0xffff0000u;
      __builtin_memcpy(&result[2 * i], &first, 4);
      __builtin_memcpy(&result[2 * i + 1], &second, 4);
    }
    return result;
  }
};
// from[at], from[at + 1], ...; zeros when `from` is null. Aligned as for load_floats, at most 16 bytes.
template <int N, class T>
VTL_DEVICE Packed<N, T> load_packed(const T* from, int64_t at, Site site = VTL_HERE) {
  return from ? Packed<N, T>::load_from(from + at, site) : Packed<N, T>{};
}

// Host: p may be read in vectors of N.
template <int N, class T>
bool aligned_to(const T* p) {
  constexpr size_t kBytes = sizeof(T) * N < 16 ? sizeof(T) * N : 16;
  return reinterpret_cast<uintptr_t>(p) % kBytes == 0;
}

}  // namespace vtl::kernels::VTL_GPU
