#include "vtl/tests/harness/devices.h"

#include <cstdlib>
#include <string>

#include "vtl/core/error.h"
#include "vtl/core/runtime.h"

namespace vtl::test {

std::vector<Device> devices() {
  const char* wanted = std::getenv("VTL_TEST_DEVICE");
  std::vector<Device> found;
  for (const Device& device : {Device::cpu(), Device::simt(), Device::cuda()})
    if (has_runtime(device.kind) && (!wanted || to_string(device).starts_with(wanted))) found.push_back(device);
  if (found.empty()) fail(ErrorKind::bad_argument, "VTL_TEST_DEVICE=", wanted, ": this build or machine has no such device");
  return found;
}

std::vector<Device> fast_devices() {
  std::vector<Device> found = devices();
  if (found.size() > 1) std::erase(found, Device::simt());
  return found;
}

}  // namespace vtl::test
