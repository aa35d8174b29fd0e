#include "vtl/tools/finetune/memory.h"

#include <algorithm>
#include <fstream>
#include <string>

namespace vtl::finetune {
namespace {

// A line such as "VmHWM:    123456 kB".
size_t bytes_in(const char* path, const std::string& key) {
  std::ifstream status(path);
  for (std::string word; status >> word;) {
    size_t kilobytes = 0;
    if (word == key && status >> kilobytes) return kilobytes * 1024;
  }
  return 0;
}

}  // namespace

size_t resident_memory_bytes() { return bytes_in("/proc/self/status", "VmRSS:"); }
size_t peak_resident_memory_bytes() { return bytes_in("/proc/self/status", "VmHWM:"); }

size_t available_memory_bytes() {
  const size_t available = bytes_in("/proc/meminfo", "MemAvailable:"), resident = resident_memory_bytes();
  std::ifstream limit("/sys/fs/cgroup/memory.max");  // "max" where there is none
  size_t most = 0;
  return limit >> most && most > resident ? std::min(available, most - resident) : available;
}

}  // namespace vtl::finetune
