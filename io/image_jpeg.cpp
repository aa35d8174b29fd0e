#include <cstring>
#include <memory>
#include <string_view>

#include "vtl/core/error.h"
#include "vtl/io/image_codecs.h"

#ifdef VTL_HAS_TURBOJPEG
#include <turbojpeg.h>
#endif

namespace vtl::io::codecs {
namespace {

constexpr uint8_t kStartOfScan = 0xda, kEndOfImage = 0xd9, kApp1 = 0xe1;

// A piece of a JPEG file between two bytes 0xff.
struct Segment {
  int marker = 0;
  std::span<const uint8_t> body;
};

bool has_body(int marker) { return marker != 0x01 && !(marker >= 0xd0 && marker <= 0xd8); }
bool is_frame_header(int marker) {
  return marker >= 0xc0 && marker <= 0xcf && marker != 0xc4 /* DHT */ && marker != 0xc8 && marker != 0xcc /* DAC */;
}

// Hands out the segments up to the first scan.
class Segments {
 public:
  explicit Segments(std::span<const uint8_t> bytes) : bytes_(bytes) {}

  // False when the bytes end first.
  bool next(Segment& segment) {
    for (;;) {
      while (at_ < bytes_.size() && bytes_[at_] != 0xff) ++at_;  // libjpeg skips what lies between segments, too
      while (at_ < bytes_.size() && bytes_[at_] == 0xff) ++at_;
      if (at_ >= bytes_.size()) return false;
      segment.marker = bytes_[at_++];
      if (segment.marker != 0 && has_body(segment.marker)) break;
    }
    if (segment.marker == kEndOfImage) return true;
    if (bytes_.size() - at_ < 2) return false;
    const size_t length = static_cast<size_t>(bytes_[at_] << 8 | bytes_[at_ + 1]);
    if (length < 2 || length > bytes_.size() - at_) return false;
    segment.body = bytes_.subspan(at_ + 2, length - 2);
    at_ += length;
    return true;
  }
  // Where the next segment begins.
  size_t at() const { return at_; }

 private:
  std::span<const uint8_t> bytes_;
  size_t at_ = 2;  // after the start of the image
};

}  // namespace

bool jpeg_header_is_complete(std::span<const uint8_t> bytes) {
  Segments segments(bytes);
  for (Segment segment; segments.next(segment);)
    if (segment.marker == kStartOfScan || segment.marker == kEndOfImage) return true;
  return false;
}

Header jpeg_header(std::span<const uint8_t> bytes, const std::string& name) {
  constexpr std::string_view kExif{"Exif\0\0", 6};
  Header header;
  bool framed = false, oriented = false;
  Segments segments(bytes);
  for (Segment segment; segments.next(segment) && segment.marker != kStartOfScan && segment.marker != kEndOfImage;) {
    const auto body = segment.body;
    if (segment.marker == kApp1 && !oriented && body.size() > kExif.size() &&
        std::memcmp(body.data(), kExif.data(), kExif.size()) == 0) {
      header.orientation = exif_orientation(body.subspan(kExif.size()));
      oriented = true;
    }
    if (is_frame_header(segment.marker) && !framed && body.size() >= 6) {
      header.height = body[1] << 8 | body[2];
      header.width = body[3] << 8 | body[4];
      framed = true;
    }
  }
  if (!framed) fail(ErrorKind::bad_data, name, ": is a JPEG file without a frame header (truncated or broken)");
  return header;
}

#ifdef VTL_HAS_TURBOJPEG
namespace {

struct DestroyHandle {
  void operator()(void* handle) const { tjDestroy(handle); }
};

int components(std::span<const uint8_t> bytes) {
  Segments segments(bytes);
  for (Segment segment; segments.next(segment) && segment.marker != kStartOfScan;)
    if (is_frame_header(segment.marker) && segment.body.size() >= 6) return segment.body[5];
  return 0;
}

// The end marker follows the first scan, wherever rubbish may follow it.
bool has_end(std::span<const uint8_t> bytes) {
  Segments segments(bytes);
  for (Segment segment; segments.next(segment);)
    if (segment.marker == kStartOfScan) break;
  for (size_t i = bytes.size(); i-- > segments.at() + 1;)
    if (bytes[i] == kEndOfImage && bytes[i - 1] == 0xff) return true;
  return false;
}

uint8_t product255(int a, int b) {  // round(a * b / 255), exact for 8-bit values
  const int t = a * b + 128;
  return static_cast<uint8_t>((t + (t >> 8)) >> 8);
}

// Adobe stores ink amounts inverted, and readers take every four-component JPEG that way.
void inks_to_rgb(std::span<const uint8_t> inks, std::span<uint8_t> rgb) {
  for (size_t i = 0, o = 0; o < rgb.size(); i += 4, o += 3) {
    const int white = inks[i + 3];
    for (size_t c = 0; c < 3; ++c) rgb[o + c] = static_cast<uint8_t>(white - product255(255 - inks[i + c], white));
  }
}

}  // namespace

Image decode_jpeg(std::span<const uint8_t> bytes, const Header& header, const std::string& name) {
  const std::unique_ptr<void, DestroyHandle> handle(tjInitDecompress());
  if (!handle) fail(ErrorKind::out_of_memory, name, ": no memory for a JPEG decoder");
  const bool inks = components(bytes) == 4;
  const size_t pixels = static_cast<size_t>(header.width * header.height);
  Image image{header.width, header.height, std::vector<uint8_t>(pixels * 3)};
  std::vector<uint8_t> cmyk(inks ? pixels * 4 : 0);
  const int status = tjDecompress2(handle.get(), bytes.data(), bytes.size(), inks ? cmyk.data() : image.rgb.data(),
                                   static_cast<int>(header.width), 0, static_cast<int>(header.height),
                                   inks ? TJPF_CMYK : TJPF_RGB, TJFLAG_ACCURATEDCT | TJFLAG_LIMITSCANS);
  if (status != 0) {
    const std::string reason = tjGetErrorStr2(handle.get());
    if (tjGetErrorCode(handle.get()) != TJERR_WARNING)
      fail(ErrorKind::bad_data, name, ": is a broken JPEG file: ", reason);
    // Damage that leaves a whole picture is let pass, as other readers do; a picture that ends early is not.
    if (reason.find("Premature end of JPEG") != std::string::npos || !has_end(bytes))
      fail(ErrorKind::bad_data, name, ": is a truncated JPEG file");
  }
  if (inks) inks_to_rgb(cmyk, image.rgb);
  return image;
}
#else
Image decode_jpeg(std::span<const uint8_t>, const Header&, const std::string& name) {
  fail(ErrorKind::unsupported, name, ": this build reads no JPEG");
}
#endif

}  // namespace vtl::io::codecs
