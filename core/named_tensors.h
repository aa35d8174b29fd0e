// Names and tensors in order: what io and models exchange.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "vtl/core/tensor.h"

namespace vtl {

using NamedTensors = std::vector<std::pair<std::string, Tensor>>;

}  // namespace vtl
