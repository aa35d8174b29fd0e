// Portable anymaps, text and binary: bitmaps (P1, P4), greymaps (P2, P5) and pixmaps (P3, P6). Simple enough that no
// library is needed.
#include <algorithm>
#include <cmath>

#include "vtl/core/error.h"
#include "vtl/io/image_codecs.h"

namespace vtl::io::codecs {
namespace {

class PnmReader {
 public:
  PnmReader(std::span<const uint8_t> bytes, const std::string& name) : bytes_(bytes), name_(name) {
    kind_ = bytes.size() > 1 ? bytes[1] - '0' : 0;
    at_ = 2;
    width_ = number();
    height_ = number();
    if (!bitmap()) most_ = number();
    if (most_ < 1 || most_ > 65535) fail(ErrorKind::bad_data, name_, ": is a PNM file with a largest value of ", most_);
    if (binary()) ++at_;  // the one white space before the pixels
  }

  int64_t width() const { return width_; }
  int64_t height() const { return height_; }

  Image read() {
    // Every pixel takes bits or digits: what is too short is known before memory is taken.
    const int64_t channels = kind_ == 3 || kind_ == 6 ? 3 : 1, values = width_ * height_ * channels;
    const int64_t least = kind_ == 4 ? (width_ + 7) / 8 * height_ : binary() && most_ > 255 ? 2 * values : values;
    if (static_cast<int64_t>(bytes_.size()) - static_cast<int64_t>(at_) < least) truncated();
    Image image{width_, height_, std::vector<uint8_t>(static_cast<size_t>(width_ * height_ * 3))};
    uint8_t* out = image.rgb.data();
    for (int64_t y = 0; y < height_; ++y)
      for (int64_t x = 0; x < width_; ++x, out += 3) {
        for (int64_t c = 0; c < channels; ++c) out[c] = scaled(value(x));
        if (channels == 1) out[1] = out[2] = out[0];
      }
    return image;
  }

 private:
  bool bitmap() const { return kind_ == 1 || kind_ == 4; }
  bool binary() const { return kind_ >= 4; }

  [[noreturn]] void truncated() const { fail(ErrorKind::bad_data, name_, ": is a truncated PNM file"); }

  static bool is_space(uint8_t c) { return c == ' ' || (c >= '\t' && c <= '\r'); }
  static bool is_digit(uint8_t c) { return c >= '0' && c <= '9'; }

  void skip_space() {
    while (at_ < bytes_.size() && (is_space(bytes_[at_]) || bytes_[at_] == '#')) {
      if (bytes_[at_++] != '#') continue;
      while (at_ < bytes_.size() && bytes_[at_] != '\n') ++at_;
    }
    if (at_ == bytes_.size()) truncated();
  }

  int64_t number() {
    skip_space();
    if (!is_digit(bytes_[at_]))
      fail(ErrorKind::bad_data, name_, ": is a broken PNM file: expected a number at byte ", at_);
    constexpr int64_t kMost = 0x7fffffff;
    int64_t number = 0;
    for (; at_ < bytes_.size() && is_digit(bytes_[at_]); ++at_)
      number = std::min(kMost, number * 10 + bytes_[at_] - '0');
    return number;
  }

  int64_t value(int64_t x) {
    switch (kind_) {
      case 1: {  // digits need no space between them; 1 is black
        skip_space();
        const uint8_t digit = bytes_[at_++];
        if (digit > '1' || digit < '0')
          fail(ErrorKind::bad_data, name_, ": is a broken PNM file: expected 0 or 1 at byte ", at_ - 1);
        return '1' - digit;
      }
      case 4: {  // rows begin with a new byte
        const int bit = 7 - static_cast<int>(x % 8);
        const int value = bytes_[at_] >> bit & 1;
        if (bit == 0 || x == width_ - 1) ++at_;
        return 1 - value;
      }
      case 2:
      case 3: return number();
      default: break;
    }
    int64_t value = bytes_[at_++];
    if (most_ > 255) value = value << 8 | bytes_[at_++];
    return value;
  }

  uint8_t scaled(int64_t value) const {
    if (most_ == 255) return static_cast<uint8_t>(std::min(value, most_));
    return static_cast<uint8_t>(
        std::nearbyint(static_cast<double>(std::min(value, most_)) / static_cast<double>(most_) * 255));
  }

  std::span<const uint8_t> bytes_;
  const std::string& name_;
  size_t at_ = 0;
  int kind_ = 0;
  int64_t width_ = 0, height_ = 0, most_ = 1;
};

}  // namespace

Header pnm_header(std::span<const uint8_t> bytes, const std::string& name) {
  const PnmReader reader(bytes, name);
  return {reader.width(), reader.height(), 1};
}

Image decode_pnm(std::span<const uint8_t> bytes, const std::string& name) { return PnmReader(bytes, name).read(); }

}  // namespace vtl::io::codecs
