// Division by a number that the host knows, as a multiplication and a shift.
#pragma once

#include "vtl/kernels/device/portable.h"

namespace vtl::kernels::VTL_GPU {

// `value` is in [1, 2^31), what it divides in [0, 2^31). With L = ceil(log2 value) the quotient is
// n * (2^32 + multiplier) >> (32 + L) for multiplier = floor(2^32 * (2^L - value) / value) + 1 (Granlund and Montgomery,
// "Division by invariant integers using multiplication", 1994).
struct Divisor {
  uint32_t value, multiplier, shift;

  Divisor() = default;
  explicit Divisor(int64_t by) : value(static_cast<uint32_t>(by)), shift(0) {
    while (uint64_t{1} << shift < value) ++shift;
    multiplier = static_cast<uint32_t>(((uint64_t{1} << 32) * ((uint64_t{1} << shift) - value)) / value + 1);
  }
};

VTL_DEVICE int operator/(int n, const Divisor& by) {
  const auto whole = static_cast<uint32_t>(n);
  const auto high = static_cast<uint32_t>(static_cast<uint64_t>(whole) * by.multiplier >> 32);
  return static_cast<int>((high + whole) >> by.shift);
}
// n % by, where the quotient is there already.
VTL_DEVICE int remainder(int n, int quotient, const Divisor& by) { return n - quotient * static_cast<int>(by.value); }

}  // namespace vtl::kernels::VTL_GPU
