#include "vtl/tools/finetune/memory.h"

#include <fstream>
#include <string>

namespace vtl::finetune {
namespace {

// A line such as "VmHWM:    123456 kB".
size_t status_bytes(const std::string& key) {
  std::ifstream status("/proc/self/status");
  for (std::string word; status >> word;) {
    size_t kilobytes = 0;
    if (word == key && status >> kilobytes) return kilobytes * 1024;
  }
  return 0;
}

}  // namespace

size_t resident_memory_bytes() { return status_bytes("VmRSS:"); }
size_t peak_resident_memory_bytes() { return status_bytes("VmHWM:"); }

}  // namespace vtl::finetune
