#include "vtl/bench/harness/values.h"

#include <algorithm>
#include <cstring>

#include "vtl/bench/harness/bench.h"

namespace vtl::bench {

Tensor values(const Shape& shape, DType dtype) {
  constexpr int64_t kPeriod = 1000;
  const Tensor t = Tensor::empty(shape, dtype, Device::cpu());
  for (int64_t i = 0; i < std::min(t.numel(), kPeriod); ++i) {
    const float value = static_cast<float>(i * 2654435761 % kPeriod) * 2e-3f - 1;
    if (dtype == DType::bf16)
      t.data_as<bf16>()[i] = bf16(value);
    else
      t.f32()[i] = value;
  }
  auto* bytes = static_cast<char*>(t.data());
  for (size_t done = kPeriod * size_of(dtype); done < t.bytes(); done *= 2)
    std::memcpy(bytes + done, bytes, std::min(done, t.bytes() - done));
  return t.to(device());
}

Tensor zeros(const Shape& shape, DType dtype) { return Tensor::zeros(shape, dtype, device()); }

}  // namespace vtl::bench
