#include "vtl/bench/harness/values.h"

namespace vtl::bench {

Tensor values(const Shape& shape, DType dtype) {
  Tensor t = Tensor::empty(shape, dtype, Device::cpu());
  for (int64_t i = 0; i < t.numel(); ++i) {
    const float value = static_cast<float>(i * 2654435761 % 1000) * 2e-3f - 1;
    if (dtype == DType::bf16)
      t.data_as<bf16>()[i] = bf16(value);
    else
      t.f32()[i] = value;
  }
  return t;
}

}  // namespace vtl::bench
