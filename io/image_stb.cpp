#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "vtl/core/error.h"
#include "vtl/io/image_codecs.h"

#ifdef VTL_HAS_STB
// Only BMP and TGA go through stb, and with bounded memory: releases in use have memory bugs in JPEG, PNG and PNM.
namespace {
thread_local size_t stb_bytes_allowed = 0;

void* stb_allocate(size_t bytes) { return bytes <= stb_bytes_allowed ? std::calloc(bytes ? bytes : 1, 1) : nullptr; }
[[maybe_unused]] void* stb_reallocate(void* old, size_t bytes) {
  return bytes <= stb_bytes_allowed ? std::realloc(old, bytes) : nullptr;
}
}  // namespace

#define STB_IMAGE_IMPLEMENTATION
#define STB_IMAGE_STATIC
#define STBI_ONLY_BMP
#define STBI_ONLY_TGA
#define STBI_NO_STDIO
#define STBI_NO_LINEAR
#define STBI_NO_HDR
#define STBI_MALLOC(bytes) stb_allocate(bytes)
#define STBI_REALLOC(old, bytes) stb_reallocate(old, bytes)
#define STBI_FREE(old) std::free(old)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-function"
#pragma GCC diagnostic ignored "-Wunused-parameter"
#pragma GCC diagnostic ignored "-Wsign-compare"
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"
#include <stb_image.h>
#pragma GCC diagnostic pop
#endif

namespace vtl::io::codecs {

#ifdef VTL_HAS_STB
namespace {

// Bytes for stb, which takes a file's end for zeros or for nothing at all: here it is noted.
struct Source {
  std::span<const uint8_t> bytes;
  size_t at = 0;
  bool ended_early = false;
};

constexpr int kRefill = 128;  // what stb asks for when it only wants the next byte

int read_bytes(void* user, char* to, int count) {
  Source& source = *static_cast<Source*>(user);
  const size_t wanted = static_cast<size_t>(count), got = std::min(wanted, source.bytes.size() - source.at);
  std::memcpy(to, source.bytes.data() + source.at, got);
  std::memset(to + got, 0, wanted - got);
  source.at += got;
  if (got == 0 || (got < wanted && count != kRefill)) source.ended_early = true;
  return static_cast<int>(got);
}

void skip_bytes(void* user, int count) {
  Source& source = *static_cast<Source*>(user);
  const int64_t at = static_cast<int64_t>(source.at) + count, size = static_cast<int64_t>(source.bytes.size());
  if (at < 0 || at > size) source.ended_early = true;
  source.at = static_cast<size_t>(std::clamp<int64_t>(at, 0, size));
}

int at_end(void* user) {
  const Source& source = *static_cast<Source*>(user);
  return source.at == source.bytes.size();
}

constexpr stbi_io_callbacks kCallbacks{read_bytes, skip_bytes, at_end};

struct Free {
  void operator()(uint8_t* pixels) const { std::free(pixels); }
};

std::string reason() { return stbi_failure_reason() ? stbi_failure_reason() : "unknown"; }

}  // namespace

Header stb_header(std::span<const uint8_t> bytes, const std::string& name) {
  stb_bytes_allowed = 1 << 16;
  Source source{bytes};
  int width = 0, height = 0, channels = 0;
  if (!stbi_info_from_callbacks(&kCallbacks, &source, &width, &height, &channels))
    fail(ErrorKind::bad_data, name, ": is a broken ", io::name(sniff_format(bytes)),
         " file or of a rare kind: ", reason());
  return {width, std::abs(int64_t{height}), 1};  // a BMP with its rows from the top down says so by a negative height
}

Image decode_stb(std::span<const uint8_t> bytes, const Header& header, const std::string& name) {
  const size_t pixels = static_cast<size_t>(header.width * header.height);
  stb_bytes_allowed = pixels * 8 + (1 << 16);  // four channels of 16 bits
  Source source{bytes};
  int width = 0, height = 0, channels = 0;
  const std::unique_ptr<uint8_t, Free> decoded(
      stbi_load_from_callbacks(&kCallbacks, &source, &width, &height, &channels, 3));
  const char* format = io::name(sniff_format(bytes));
  if (source.ended_early) fail(ErrorKind::bad_data, name, ": is a truncated ", format, " file");
  if (!decoded) fail(ErrorKind::bad_data, name, ": is a broken ", format, " file or of a rare kind: ", reason());
  if (width != header.width || height != header.height)
    fail(ErrorKind::bad_data, name, ": is a broken ", format, " file");
  return {header.width, header.height, std::vector<uint8_t>(decoded.get(), decoded.get() + pixels * 3)};
}
#else
Header stb_header(std::span<const uint8_t>, const std::string& name) {
  fail(ErrorKind::unsupported, name, ": this build reads no BMP and TGA");
}
Image decode_stb(std::span<const uint8_t>, const Header&, const std::string& name) {
  fail(ErrorKind::unsupported, name, ": this build reads no BMP and TGA");
}
#endif

}  // namespace vtl::io::codecs
