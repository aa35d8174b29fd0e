// SHA-256 (FIPS 180-4).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace vtl::io {

class File;

class Sha256 {
 public:
  void update(std::span<const std::byte> bytes);
  // The 64 hexadecimal digits, in lower case, of all bytes so far. Nothing may follow.
  std::string finish();

 private:
  std::array<uint32_t, 8> state_{0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  std::array<std::byte, 64> block_{};
  uint64_t bytes_ = 0;
};

// Of `bytes` bytes of a file from `offset` on. Throws io when the file ends before.
std::string sha256(const File& file, uint64_t offset, uint64_t bytes);
// Of the whole file.
std::string sha256(const File& file);

}  // namespace vtl::io
