// Loads and stores: one instruction each, and checked for alignment and bounds in the emulator. Kernels reach device
// memory only through these.
#pragma once

#include "vtl/kernels/device/portable.h"

#if !defined(__CUDACC__)
#include "vtl/kernels/simt/access.h"
#endif

namespace vtl::kernels::VTL_GPU {

// N values that move together, aligned to their size: at most 16 bytes.
template <class T, int N>
struct alignas(sizeof(T) * N) Vec {
  static_assert(sizeof(T) * N <= 16);
  T lanes[N];

  VTL_DEVICE T& operator[](int i) { return lanes[i]; }
  VTL_DEVICE const T& operator[](int i) const { return lanes[i]; }
};
// How many values of T make 16 bytes.
template <class T>
inline constexpr int kVecLanes = 16 / sizeof(T);

// On the device a vector is stored as one integer: nvcc otherwise takes some apart and writes their values one by one,
// which no test of results and no emulator sees.
#if defined(__CUDACC__)
template <size_t Bytes>
struct IntegerOf {};
template <>
struct IntegerOf<4> {
  using Type = uint32_t;
};
template <>
struct IntegerOf<8> {
  using Type = uint64_t;
};
template <>
struct IntegerOf<16> {
  using Type = unsigned __int128;
};
#endif

template <class T>
VTL_DEVICE T load(const T* from, [[maybe_unused]] Site site = VTL_HERE) {
#if defined(__CUDACC__)
  return *from;
#else
  T value;
  ::vtl::emulator::read(&value, from, sizeof(T), alignof(T), site);
  return value;
#endif
}
template <class T>
VTL_DEVICE void store(T* to, T value, [[maybe_unused]] Site site = VTL_HERE) {
#if defined(__CUDACC__)
  if constexpr (sizeof(T) >= 4 && sizeof(T) == alignof(T)) {
    typename IntegerOf<sizeof(T)>::Type bits;
    __builtin_memcpy(&bits, &value, sizeof bits);
    *reinterpret_cast<decltype(bits)*>(to) = bits;
  } else {
    *to = value;
  }
#else
  ::vtl::emulator::write(to, &value, sizeof(T), alignof(T), site);
#endif
}

// `from` and `to` are aligned to the whole vector.
template <int N, class T>
VTL_DEVICE Vec<T, N> load_vec(const T* from, Site site = VTL_HERE) {
  return load(reinterpret_cast<const Vec<T, N>*>(from), site);
}
// from[at], from[at + 1], ...; zeros when `from` is null.
template <int N, class T>
VTL_DEVICE Vec<T, N> load_vec_or_zero(const T* from, int64_t at, Site site = VTL_HERE) {
  return from ? load_vec<N>(from + at, site) : Vec<T, N>{};
}
template <int N, class T>
VTL_DEVICE void store_vec(T* to, const Vec<T, N>& value, Site site = VTL_HERE) {
  store(reinterpret_cast<Vec<T, N>*>(to), value, site);
}

}  // namespace vtl::kernels::VTL_GPU
