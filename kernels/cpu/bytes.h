// Vectors of u8, widened to as many lanes as a vector of floats.
#pragma once

#include "vtl/kernels/cpu/vec.h"

namespace vtl::kernels::VTL_CPU {

typedef uint8_t vbytes __attribute__((vector_size(kLanes)));

// In two steps: the compiler takes a conversion from 8 to 32 bits apart into single elements.
VTL_INLINE vint widen(vbytes bytes) { return __builtin_convertvector(__builtin_convertvector(bytes, vhalf), vint); }

VTL_INLINE vint load_bytes(const uint8_t* from, AllLanes) {
  vbytes bytes;
  __builtin_memcpy(&bytes, from, sizeof bytes);
  return widen(bytes);
}
VTL_INLINE vint load_bytes(const uint8_t* from, int64_t count) {
  uint8_t lanes[kLanes] = {};
  for (int64_t i = 0; i < count; ++i) lanes[i] = from[i];
  return load_bytes(lanes, AllLanes{});
}

// The lower 8 bits of each lane.
VTL_INLINE void store_bytes(uint8_t* to, vint x, AllLanes) {
  const vbytes bytes = __builtin_convertvector(__builtin_convertvector(x, vhalf), vbytes);
  __builtin_memcpy(to, &bytes, sizeof bytes);
}
VTL_INLINE void store_bytes(uint8_t* to, vint x, int64_t count) {
  uint8_t lanes[kLanes];
  store_bytes(lanes, x, AllLanes{});
  for (int64_t i = 0; i < count; ++i) to[i] = lanes[i];
}

}  // namespace vtl::kernels::VTL_CPU
