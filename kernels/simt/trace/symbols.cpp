#include "vtl/kernels/simt/trace/symbols.h"

#include <dlfcn.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <map>
#include <memory>

#include "vtl/core/error.h"
#include "vtl/kernels/simt/site.h"

namespace vtl::emulator {
namespace {

bool in_text_of_kernel(const std::string& line) {
  return line.find(".cu:") != std::string::npos || line.starts_with("tests/");
}

std::string look_up(const void* instruction) {
  const std::string number = concat(instruction);
  Dl_info info{};
  if (!dladdr(instruction, &info) || !info.dli_fname) return number;
  // The call is before the address to which it returns.
  const auto offset = reinterpret_cast<uintptr_t>(instruction) - reinterpret_cast<uintptr_t>(info.dli_fbase) - 1;
  char command[512];
  std::snprintf(command, sizeof command, "addr2line -i -e /proc/%d/exe 0x%zx 2>/dev/null", static_cast<int>(getpid()),
                offset);
  const std::unique_ptr<FILE, int (*)(FILE*)> lines(popen(command, "r"), pclose);
  if (!lines) return number;
  std::string innermost;
  char buffer[4096];
  while (std::fgets(buffer, sizeof buffer, lines.get())) {
    const std::string whole = buffer;
    const std::string line = shortened_place(whole.substr(0, whole.find_first_of(" \n")));
    if (in_text_of_kernel(line)) return line;
    if (innermost.empty() && line.find('?') == std::string::npos) innermost = line;
  }
  return innermost.empty() ? number : innermost;
}

}  // namespace

std::string place_of(const void* instruction) {
  static auto& known = *new std::map<const void*, std::string>;
  auto& place = known[instruction];
  if (place.empty()) place = look_up(instruction);
  return place;
}

}  // namespace vtl::emulator
