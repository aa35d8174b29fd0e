#include "vtl/core/device.h"

#include <ostream>

namespace vtl {

std::string to_string(const Device& device) {
  switch (device.kind) {
    case DeviceKind::cpu: return "cpu";
    case DeviceKind::cuda: return "cuda:" + std::to_string(device.index);
    case DeviceKind::simt: return "simt";
  }
  return "?";
}

std::ostream& operator<<(std::ostream& out, const Device& device) { return out << to_string(device); }

}  // namespace vtl
