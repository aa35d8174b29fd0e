#include "vtl/core/rng.h"

#include <cmath>

namespace vtl {

float RandomSequence::normal() {
  const double u = (bits() + 1.0) * 0x1p-32, v = bits() * 0x1p-32;
  return static_cast<float>(std::sqrt(-2.0 * std::log(u)) * std::cos(2.0 * M_PI * v));
}

}  // namespace vtl
