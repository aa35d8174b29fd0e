// A tensor's numbers on the host.
#pragma once

#include <vector>

#include "vtl/core/tensor.h"

namespace vtl::finetune {

// Of a dense f32 or bf16 tensor, as f32. Waits.
std::vector<float> host_values(const Tensor& tensor);

}  // namespace vtl::finetune
