// Pictures for tests: generated ones, and what golden files say of them.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "vtl/io/image.h"

namespace vtl::test {

// The formula of tests/reference/resize_golden.py, for any size.
inline io::Image generated_picture(int64_t width, int64_t height, int64_t n) {
  io::Image image{width, height, {}};
  for (int64_t y = 0; y < height; ++y)
    for (int64_t x = 0; x < width; ++x)
      for (int64_t c = 0; c < 3; ++c) {
        const int64_t value =
            x * (c + 2) + y * (n + 1) + ((x / 8 + y / 8) % 2) * 90 + ((x * 31 + y * 17 + c * 11 + n * 13) % 29) * 3;
        image.rgb.push_back(static_cast<uint8_t>(value % 256));
      }
  return image;
}

// The three pictures of that script.
inline io::Image golden_picture(int64_t n) {
  constexpr std::array<std::array<int64_t, 2>, 3> kSizes{{{61, 47}, {25, 58}, {70, 19}}};
  const auto size = kSizes[static_cast<size_t>(n)];
  return generated_picture(size[0], size[1], n);
}

inline std::filesystem::path golden_path(const std::string& relative) {
  return std::filesystem::path(VTL_SOURCE_DIR) / "tests" / "golden" / relative;
}

inline nlohmann::json golden_json(const std::string& relative) {
  std::ifstream file(golden_path(relative));
  return nlohmann::json::parse(file);
}

inline std::vector<uint8_t> bytes_of_hex(const std::string& hex) {
  std::vector<uint8_t> bytes;
  for (size_t i = 0; i + 1 < hex.size(); i += 2)
    bytes.push_back(static_cast<uint8_t>(std::stoi(hex.substr(i, 2), nullptr, 16)));
  return bytes;
}

// The largest difference of two values; 256 when the sizes differ.
inline int largest_difference(const std::vector<uint8_t>& a, const std::vector<uint8_t>& b) {
  if (a.size() != b.size()) return 256;
  int largest = 0;
  for (size_t i = 0; i < a.size(); ++i) largest = std::max(largest, std::abs(a[i] - b[i]));
  return largest;
}

inline std::vector<uint8_t> bytes_of_file(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

inline void write_bytes(const std::filesystem::path& path, const std::vector<uint8_t>& bytes) {
  std::filesystem::create_directories(path.parent_path());
  std::ofstream(path, std::ios::binary)
      .write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
}

// The simplest file that every reader takes: a binary PPM.
inline void write_ppm(const std::filesystem::path& path, const io::Image& image) {
  const std::string header = "P6\n" + std::to_string(image.width) + " " + std::to_string(image.height) + "\n255\n";
  std::vector<uint8_t> bytes(header.begin(), header.end());
  bytes.insert(bytes.end(), image.rgb.begin(), image.rgb.end());
  write_bytes(path, bytes);
}

}  // namespace vtl::test
