// Where memory lives and kernels run.
#pragma once

#include <iosfwd>
#include <string>

namespace vtl {

enum class DeviceKind { cpu, cuda, simt };

struct Device {
  DeviceKind kind = DeviceKind::cpu;
  int index = 0;

  static Device cpu() { return {}; }
  static Device cuda(int index = 0) { return {DeviceKind::cuda, index}; }
  static Device simt() { return {DeviceKind::simt, 0}; }

  friend bool operator==(const Device&, const Device&) = default;
};

// "cpu", "cuda:0", "simt"
std::string to_string(const Device& device);
std::ostream& operator<<(std::ostream& out, const Device& device);

}  // namespace vtl
