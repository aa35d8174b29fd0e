// The element-wise activation functions that kernels can fuse.
#pragma once

#include <cstdint>

namespace vtl::kernels {

enum class Activation : uint8_t {
  none,
  relu,
  relu6,       // min(max(x, 0), 6)
  silu,        // x * sigmoid(x)
  gelu_erf,    // x * (1 + erf(x / sqrt(2))) / 2
  gelu_tanh,   // x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3))) / 2
  gelu_quick,  // x * sigmoid(1.702 x)
  sigmoid      // 1 / (1 + e^-x)
};

}  // namespace vtl::kernels
