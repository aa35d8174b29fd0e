// Element types. bf16 is our own struct, the same on host and device.
#pragma once

#include <cstddef>
#include <cstdint>

#include "vtl/core/macros.h"

namespace vtl {

enum class DType : uint8_t { f32, bf16, u8, i8, i32, i64 };

// "f32", "bf16", ...
const char* name(DType dtype);

constexpr size_t size_of(DType dtype) {
  switch (dtype) {
    case DType::f32: return 4;
    case DType::bf16: return 2;
    case DType::u8: return 1;
    case DType::i8: return 1;
    case DType::i32: return 4;
    case DType::i64: return 8;
  }
  return 0;
}

constexpr bool is_float(DType dtype) { return dtype == DType::f32 || dtype == DType::bf16; }

// The upper half of an f32. Conversion rounds to nearest even; NaN stays a (quiet) NaN.
struct bf16 {
  uint16_t bits;

  bf16() = default;
  VTL_INLINE explicit bf16(float value) {
    uint32_t u;
    __builtin_memcpy(&u, &value, 4);
    const uint32_t rounded = u + 0x7fffu + ((u >> 16) & 1u);
    bits = static_cast<uint16_t>(((u & 0x7fffffffu) > 0x7f800000u ? (u | 0x400000u) : rounded) >> 16);
  }
  VTL_INLINE explicit operator float() const {
    const uint32_t u = static_cast<uint32_t>(bits) << 16;
    float value;
    __builtin_memcpy(&value, &u, 4);
    return value;
  }
};

template <class T>
struct dtype_of;
template <> struct dtype_of<float> { static constexpr DType value = DType::f32; };
template <> struct dtype_of<bf16> { static constexpr DType value = DType::bf16; };
template <> struct dtype_of<uint8_t> { static constexpr DType value = DType::u8; };
template <> struct dtype_of<int8_t> { static constexpr DType value = DType::i8; };
template <> struct dtype_of<int32_t> { static constexpr DType value = DType::i32; };
template <> struct dtype_of<int64_t> { static constexpr DType value = DType::i64; };

// Calls f.template operator()<float>() or <bf16>(). The caller has checked that dtype is one of the two.
template <class F>
inline __attribute__((always_inline)) decltype(auto) visit_float(DType dtype, F&& f) {
  if (dtype == DType::bf16) return f.template operator()<bf16>();
  return f.template operator()<float>();
}

}  // namespace vtl
