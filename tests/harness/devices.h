// Where tests run: on every device that this build and machine have.
#pragma once

#include <vector>

#include "vtl/core/device.h"

namespace vtl::test {

// cpu first, then simt, then cuda; VTL_TEST_DEVICE=cpu|simt|cuda leaves one of them.
std::vector<Device> devices();
// Without simt, which takes minutes for a whole model, unless VTL_TEST_DEVICE asks for it.
std::vector<Device> fast_devices();

}  // namespace vtl::test
