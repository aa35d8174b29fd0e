// The folder of shared test material (vectors, photographs, weights) beside the source tree. Tests that need it
// skip, saying so, where it is absent.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <string>

#ifndef VTL_SOURCE_DIR
#error "VTL_SOURCE_DIR must name the source tree"
#endif

namespace vtl::test {

// The path of `relative` in the shared folder ($VTL_SHARED, else ../shared of the source tree); empty when it is not
// there, after one line on standard error that says which test material is missing:
//
//   const auto folder = shared_path("vectors/safetensors");
//   if (folder.empty()) return;
inline std::filesystem::path shared_path(const std::string& relative) {
  const char* chosen = std::getenv("VTL_SHARED");
  const std::filesystem::path root = chosen != nullptr && *chosen != '\0'
                                         ? std::filesystem::path(chosen)
                                         : std::filesystem::path(VTL_SOURCE_DIR) / ".." / "shared";
  const std::filesystem::path path = (root / relative).lexically_normal();
  std::error_code ignored;
  if (std::filesystem::exists(path, ignored)) return path;
  std::cerr << "skipped: " << path.string() << " is not there (set VTL_SHARED to the shared folder)\n";
  return {};
}

}  // namespace vtl::test
