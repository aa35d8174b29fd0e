#include "vtl/tools/finetune/tensor_values.h"

namespace vtl::finetune {

std::vector<float> host_values(const Tensor& tensor) {
  std::vector<float> values(static_cast<size_t>(tensor.numel()));
  if (tensor.dtype() == DType::f32) {
    tensor.copy_to_host(std::as_writable_bytes(std::span(values)));
    return values;
  }
  std::vector<bf16> narrow(values.size());
  tensor.copy_to_host(std::as_writable_bytes(std::span(narrow)));
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(narrow[i]);
  return values;
}

}  // namespace vtl::finetune
