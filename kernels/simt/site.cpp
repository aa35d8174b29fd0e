#include "vtl/kernels/simt/site.h"

#include <algorithm>

namespace vtl::emulator {

std::string shortened_place(const std::string& place) {
  size_t from = 0;
  for (const char* folder : {"kernels/", "tests/"}) {
    const size_t at = place.rfind(folder);
    if (at != std::string::npos) from = std::max(from, at);
  }
  return place.substr(from);
}

std::string describe(const Site& site) { return shortened_place(site.file_name()) + ":" + std::to_string(site.line()); }

}  // namespace vtl::emulator
