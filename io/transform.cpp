#include "vtl/io/transform.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "vtl/core/error.h"
#include "vtl/io/resize.h"

namespace vtl::io {
namespace {

using Colour = std::array<uint8_t, 3>;

// Python's round: halves go to the even neighbour.
int64_t round_half_even(double x) { return static_cast<int64_t>(std::nearbyint(x)); }

struct Extent {
  int64_t width, height;
};

Extent shorter_side_to(const ImageView& source, int64_t size) {  // torchvision's Resize(size)
  const int64_t shorter = std::min(source.width, source.height), longer = std::max(source.width, source.height);
  const int64_t other = static_cast<int64_t>(static_cast<double>(size * longer) / static_cast<double>(shorter));
  return source.width <= source.height ? Extent{size, other} : Extent{other, size};
}

// timm's ResizeKeepRatio: the picture just covers the target, or just fits into it.
enum class Fit { cover, inside };
Extent keep_ratio(const ImageView& source, const Extent& target, Fit fit) {
  const double by_height = static_cast<double>(source.height) / static_cast<double>(target.height);
  const double by_width = static_cast<double>(source.width) / static_cast<double>(target.width);
  const double ratio = fit == Fit::cover ? std::min(by_height, by_width) : std::max(by_height, by_width);
  return {std::max<int64_t>(1, round_half_even(static_cast<double>(source.width) / ratio)),
          std::max<int64_t>(1, round_half_even(static_cast<double>(source.height) / ratio))};
}

Extent resized_extent(const ImageView& source, const Preprocessing& p) {
  const Extent scale{static_cast<int64_t>(std::floor(static_cast<double>(p.width) / p.crop_pct)),
                     static_cast<int64_t>(std::floor(static_cast<double>(p.height) / p.crop_pct))};
  switch (p.crop_mode) {
    case CropMode::squash: return scale;
    case CropMode::border: return keep_ratio(source, scale, Fit::inside);
    case CropMode::center: break;
  }
  return scale.width == scale.height ? shorter_side_to(source, scale.width) : keep_ratio(source, scale, Fit::cover);
}

// Where a crop of `wanted` pixels begins in a side of `size`; negative when the side has to be padded first.
int64_t centre_offset(int64_t size, int64_t wanted) {
  if (wanted > size) return -((wanted - size) / 2);
  return round_half_even(static_cast<double>(size - wanted) / 2.0);
}

void fill(uint8_t* out, int64_t pixels, const Colour& colour) {
  for (int64_t i = 0; i < pixels; ++i) std::copy(colour.begin(), colour.end(), out + i * 3);
}

Colour mean_colour(const Preprocessing& p) {
  Colour colour;
  for (size_t c = 0; c < 3; ++c)
    colour[c] =
        static_cast<uint8_t>(std::clamp<int64_t>(round_half_even(255.0 * static_cast<double>(p.mean[c])), 0, 255));
  return colour;
}

void check_source(const ImageView& source) {
  VTL_CHECK(source.width > 0 && source.height > 0, "preprocess: the picture has ", source.width, " x ", source.height,
            " pixels");
}

Affine mapping(double from_left, double from_top, double scale_x, double scale_y, double to_left, double to_top) {
  return {scale_x, 0, to_left - from_left * scale_x, 0, scale_y, to_top - from_top * scale_y};
}

// ---- random crop ----------------------------------------------------------------------------------------------------

// torchvision's RandomResizedCrop: ten tries, then the largest centred crop within the range of shapes.
Window random_crop(const ImageView& source, const Augmentation& a, RandomSequence& random) {
  const double area = static_cast<double>(source.width) * static_cast<double>(source.height);
  const float log_low = std::log(a.crop_ratio[0]), log_high = std::log(a.crop_ratio[1]);
  for (int attempt = 0; attempt < 10; ++attempt) {
    const double target = area * static_cast<double>(random.uniform(a.crop_area[0], a.crop_area[1]));
    const double ratio = std::exp(static_cast<double>(random.uniform(log_low, log_high)));
    const int64_t width = round_half_even(std::sqrt(target * ratio)),
                  height = round_half_even(std::sqrt(target / ratio));
    if (width < 1 || height < 1 || width > source.width || height > source.height) continue;
    const int64_t top = random.below(static_cast<uint32_t>(source.height - height + 1));
    const int64_t left = random.below(static_cast<uint32_t>(source.width - width + 1));
    return {left, top, width, height};
  }
  const double ratio = static_cast<double>(source.width) / static_cast<double>(source.height);
  const double allowed = std::clamp(ratio, static_cast<double>(a.crop_ratio[0]), static_cast<double>(a.crop_ratio[1]));
  Window window{0, 0, source.width, source.height};
  if (ratio < allowed)
    window.height = std::clamp<int64_t>(round_half_even(static_cast<double>(source.width) / allowed), 1, source.height);
  if (ratio > allowed)
    window.width = std::clamp<int64_t>(round_half_even(static_cast<double>(source.height) * allowed), 1, source.width);
  window.left = (source.width - window.width) / 2;
  window.top = (source.height - window.height) / 2;
  return window;
}

Affine crop_into(const ImageView& source, const Window& crop, const Preprocessing& p, uint8_t* out) {
  const double crop_width = static_cast<double>(crop.width), crop_height = static_cast<double>(crop.height);
  const ImageView view = source.crop(crop.left, crop.top, crop.width, crop.height);
  resize_into(view, {{0, 0, crop_width, crop_height}, p.width, p.height, p.interpolation, {0, 0, p.width, p.height}},
              out, p.width * 3);
  return mapping(static_cast<double>(crop.left), static_cast<double>(crop.top),
                 static_cast<double>(p.width) / crop_width, static_cast<double>(p.height) / crop_height, 0, 0);
}

// ---- on the resized picture, in place -------------------------------------------------------------------------------

void mirror_columns(uint8_t* rgb, int64_t width, int64_t height) {
  for (int64_t y = 0; y < height; ++y) {
    uint8_t* left = rgb + y * width * 3;
    uint8_t* right = left + (width - 1) * 3;
    for (; left < right; left += 3, right -= 3) std::swap_ranges(left, left + 3, right);
  }
}

void mirror_rows(uint8_t* rgb, int64_t width, int64_t height) {
  for (int64_t top = 0, bottom = height - 1; top < bottom; ++top, --bottom)
    std::swap_ranges(rgb + top * width * 3, rgb + (top + 1) * width * 3, rgb + bottom * width * 3);
}

// `x` reflected into [0, size) at the outer edges of the first and last pixel.
int64_t reflect(int64_t x, int64_t size) {
  if (x >= 0 && x < size) return x;
  const int64_t period = 2 * size;
  x %= period;
  if (x < 0) x += period;
  return x < size ? x : period - 1 - x;
}

// Turns the picture about its centre, counter-clockwise as seen; bilinear, in fixed point so that every machine agrees.
Affine rotate(uint8_t* rgb, int64_t width, int64_t height, double degrees) {
  constexpr int kBits = 16, kBlendBits = 8;
  const double radians = degrees * M_PI / 180, cosine = std::cos(radians), sine = std::sin(radians);
  const double centre_x = static_cast<double>(width) / 2, centre_y = static_cast<double>(height) / 2;
  const auto fixed = [](double v) { return static_cast<int64_t>(std::llround(v * (1 << kBits))); };
  const std::vector<uint8_t> source(rgb, rgb + width * height * 3);
  const int64_t step_x = fixed(cosine), step_y = fixed(sine);  // in the source, for one column of the result
  for (int64_t y = 0; y < height; ++y) {
    const double dx = 0.5 - centre_x, dy = static_cast<double>(y) + 0.5 - centre_y;
    int64_t from_x = fixed(centre_x + cosine * dx - sine * dy - 0.5),
            from_y = fixed(centre_y + sine * dx + cosine * dy - 0.5);
    for (int64_t x = 0; x < width; ++x, from_x += step_x, from_y += step_y, rgb += 3) {
      const int64_t left = from_x >> kBits, top = from_y >> kBits;
      const int right_share = static_cast<int>(from_x >> (kBits - kBlendBits)) & 255,
                low_share = static_cast<int>(from_y >> (kBits - kBlendBits)) & 255;
      const int64_t x0 = reflect(left, width) * 3, x1 = reflect(left + 1, width) * 3;
      const uint8_t* upper = source.data() + reflect(top, height) * width * 3;
      const uint8_t* lower = source.data() + reflect(top + 1, height) * width * 3;
      for (int c = 0; c < 3; ++c) {
        const int above = upper[x0 + c] * (256 - right_share) + upper[x1 + c] * right_share;
        const int below = lower[x0 + c] * (256 - right_share) + lower[x1 + c] * right_share;
        rgb[c] = static_cast<uint8_t>((above * (256 - low_share) + below * low_share + (1 << 15)) >> 16);
      }
    }
  }
  // The loop reads source = R(result); points of the source go the other way.
  return {cosine, sine,   centre_x - cosine * centre_x - sine * centre_y,
          -sine,  cosine, centre_y + sine * centre_x - cosine * centre_y};
}

// A linear map of colours: out[c] = sum_k m[c][k] * in[k] + m[c][3].
using ColourMap = std::array<std::array<double, 4>, 3>;
constexpr std::array<double, 3> kLuma{0.299, 0.587, 0.114};

ColourMap scaled(double factor, double offset) {
  ColourMap map{};
  for (size_t c = 0; c < 3; ++c) {
    map[c][c] = factor;
    map[c][3] = offset;
  }
  return map;
}

ColourMap product(const ColourMap& second, const ColourMap& first) {
  ColourMap map{};
  for (size_t r = 0; r < 3; ++r)
    for (size_t c = 0; c < 4; ++c) {
      map[r][c] = c == 3 ? second[r][3] : 0;
      for (size_t k = 0; k < 3; ++k) map[r][c] += second[r][k] * first[k][c];
    }
  return map;
}

// grey + factor * (colour - grey)
ColourMap saturated(double factor) {
  ColourMap map = scaled(factor, 0);
  for (auto& row : map)
    for (size_t k = 0; k < 3; ++k) row[k] += (1 - factor) * kLuma[k];
  return map;
}

// Turns the chroma plane about the grey axis: luma stays.
ColourMap hue_turned(double turns) {
  const double cosine = std::cos(2 * M_PI * turns), sine = std::sin(2 * M_PI * turns);
  constexpr double u_scale = 0.492, v_scale = 0.877;  // U = 0.492 (B - Y), V = 0.877 (R - Y)
  ColourMap map{};
  for (size_t k = 0; k < 3; ++k) {
    const double luma = kLuma[k], u = u_scale * ((k == 2) - luma), v = v_scale * ((k == 0) - luma);
    const double turned_u = cosine * u - sine * v, turned_v = sine * u + cosine * v;
    const double blue = turned_u / u_scale, red = turned_v / v_scale;
    map[0][k] = luma + red;
    map[2][k] = luma + blue;
    map[1][k] = luma - (kLuma[0] * red + kLuma[2] * blue) / kLuma[1];
  }
  return map;
}

double mean_luma(const uint8_t* rgb, int64_t pixels) {
  std::array<int64_t, 3> sums{};
  for (int64_t i = 0; i < pixels; ++i)
    for (size_t c = 0; c < 3; ++c) sums[c] += rgb[i * 3 + static_cast<int64_t>(c)];
  double luma = 0;
  for (size_t c = 0; c < 3; ++c) luma += kLuma[c] * static_cast<double>(sums[c]);
  return luma / static_cast<double>(pixels);
}

void map_colours(uint8_t* rgb, int64_t pixels, const ColourMap& map) {
  constexpr int kBits = 14;
  int32_t m[3][4];
  for (size_t r = 0; r < 3; ++r)
    for (size_t c = 0; c < 4; ++c) m[r][c] = static_cast<int32_t>(std::lround(map[r][c] * (1 << kBits)));
  for (auto& row : m) row[3] += 1 << (kBits - 1);
  for (int64_t i = 0; i < pixels; ++i, rgb += 3) {
    const int32_t r = rgb[0], g = rgb[1], b = rgb[2];
    for (int c = 0; c < 3; ++c)
      rgb[c] = static_cast<uint8_t>(std::clamp((m[c][0] * r + m[c][1] * g + m[c][2] * b + m[c][3]) >> kBits, 0, 255));
  }
}

void jitter_colours(uint8_t* rgb, int64_t pixels, const Augmentation& a, RandomSequence& random) {
  if (a.brightness == 0 && a.contrast == 0 && a.saturation == 0 && a.hue == 0) return;
  const double brightness = random.uniform(1 - a.brightness, 1 + a.brightness);
  const double contrast = random.uniform(1 - a.contrast, 1 + a.contrast);
  const double saturation = random.uniform(1 - a.saturation, 1 + a.saturation);
  const double hue = random.uniform(-a.hue, a.hue);
  // One map for all, so nothing is clipped or rounded between the steps.
  ColourMap map = scaled(brightness, 0);
  map = product(scaled(contrast, (1 - contrast) * brightness * mean_luma(rgb, pixels)), map);
  map = product(hue_turned(hue), product(saturated(saturation), map));
  map_colours(rgb, pixels, map);
}

void erase_rectangle(uint8_t* rgb, const Preprocessing& p, const Augmentation& a, RandomSequence& random) {
  if (a.erase == 0 || random.uniform() >= a.erase) return;
  const double area = static_cast<double>(p.width * p.height);
  const Colour colour = mean_colour(p);
  const float log_low = std::log(0.3f), log_high = std::log(3.3f);
  for (int attempt = 0; attempt < 10; ++attempt) {
    const double target = area * static_cast<double>(random.uniform(a.erase_area[0], a.erase_area[1]));
    const double ratio = std::exp(static_cast<double>(random.uniform(log_low, log_high)));
    const int64_t width = round_half_even(std::sqrt(target * ratio)),
                  height = round_half_even(std::sqrt(target / ratio));
    if (width < 1 || height < 1 || width >= p.width || height >= p.height) continue;
    const int64_t top = random.below(static_cast<uint32_t>(p.height - height + 1));
    const int64_t left = random.below(static_cast<uint32_t>(p.width - width + 1));
    for (int64_t y = top; y < top + height; ++y) fill(rgb + (y * p.width + left) * 3, width, colour);
    return;
  }
}

}  // namespace

Affine compose(const Affine& second, const Affine& first) {
  const auto [x0, y0] = second.apply(first.x0, first.y0);
  return {second.xx * first.xx + second.xy * first.yx, second.xx * first.xy + second.xy * first.yy, x0,
          second.yx * first.xx + second.yy * first.yx, second.yx * first.xy + second.yy * first.yy, y0};
}

void check(const Preprocessing& p) {
  VTL_CHECK(p.width > 0 && p.height > 0 && p.width <= 1 << 15 && p.height <= 1 << 15, "preprocess: an input size of ",
            p.width, " x ", p.height, " pixels, expected 1 to 32768 a side");
  VTL_CHECK(p.crop_pct >= kMinCropPct && p.crop_pct <= kMaxCropPct, "preprocess: a crop_pct of ", p.crop_pct,
            ", expected ", kMinCropPct, " to ", kMaxCropPct);
}

Affine preprocess_into(const ImageView& source, const Preprocessing& p, uint8_t* out) {
  check(p);
  check_source(source);
  const Extent size = resized_extent(source, p);
  const int64_t left = centre_offset(size.width, p.width), top = centre_offset(size.height, p.height);
  const Window window{std::max<int64_t>(left, 0), std::max<int64_t>(top, 0), std::min(p.width, size.width),
                      std::min(p.height, size.height)};
  if (window.width < p.width || window.height < p.height)
    fill(out, p.width * p.height, p.crop_mode == CropMode::border ? mean_colour(p) : Colour{0, 0, 0});
  uint8_t* first = out + (std::max<int64_t>(-top, 0) * p.width + std::max<int64_t>(-left, 0)) * 3;
  const double width = static_cast<double>(source.width), height = static_cast<double>(source.height);
  resize_into(source, {{0, 0, width, height}, size.width, size.height, p.interpolation, window}, first, p.width * 3);
  return mapping(0, 0, static_cast<double>(size.width) / width, static_cast<double>(size.height) / height,
                 -static_cast<double>(left), -static_cast<double>(top));
}

Image preprocess(const ImageView& source, const Preprocessing& p) {
  check(p);
  Image image{p.width, p.height, std::vector<uint8_t>(static_cast<size_t>(p.width * p.height) * 3)};
  preprocess_into(source, p, image.rgb.data());
  return image;
}

bool Augmentation::is_random() const {
  return crops() || flip_horizontal > 0 || flip_vertical > 0 || rotation > 0 || brightness > 0 || contrast > 0 ||
         saturation > 0 || hue > 0 || erase > 0;
}

const char* name(AugmentPreset preset) {
  switch (preset) {
    case AugmentPreset::none: return "none";
    case AugmentPreset::light: return "light";
    case AugmentPreset::standard: return "standard";
    case AugmentPreset::strong: return "strong";
    case AugmentPreset::medical: return "medical";
  }
  return "none";
}

Augmentation augmentation(AugmentPreset preset) {
  Augmentation a;
  if (preset == AugmentPreset::none) return a;
  a.flip_horizontal = 0.5f;
  a.crop_ratio = {3.0f / 4, 4.0f / 3};
  switch (preset) {
    case AugmentPreset::none: break;
    case AugmentPreset::light:
      a.crop_area = {0.8f, 1};
      a.crop_ratio = {0.9f, 1 / 0.9f};
      break;
    case AugmentPreset::standard: a.crop_area = {0.35f, 1}; break;
    case AugmentPreset::strong:
      a.crop_area = {0.2f, 1};
      a.rotation = 10;
      a.brightness = a.contrast = a.saturation = 0.3f;
      a.hue = 0.02f;
      a.erase = 0.25f;
      break;
    case AugmentPreset::medical:
      a.crop_area = {0.7f, 1};
      a.crop_ratio = {0.9f, 1 / 0.9f};
      a.flip_vertical = 0.5f;
      a.rotation = 15;
      a.brightness = a.contrast = 0.1f;
      break;
  }
  return a;
}

void check(const Augmentation& a) {
  const auto within = [](const char* what, float value, float low, float high) {
    VTL_CHECK(value >= low && value <= high, "augment: ", what, " is ", value, ", expected ", low, " to ", high);
  };
  const auto range = [&](const char* what, const std::array<float, 2>& values, float low, float high) {
    for (const float value : values) within(what, value, low, high);
    VTL_CHECK(values[0] <= values[1], "augment: ", what, " goes from ", values[0], " to ", values[1],
              ", expected a lower first value");
  };
  range("crop_area", a.crop_area, 1e-4f, 1);
  range("crop_ratio", a.crop_ratio, 0.01f, 100);
  within("flip_horizontal", a.flip_horizontal, 0, 1);
  within("flip_vertical", a.flip_vertical, 0, 1);
  within("rotation", a.rotation, 0, 180);
  within("brightness", a.brightness, 0, 1);
  within("contrast", a.contrast, 0, 1);
  within("saturation", a.saturation, 0, 1);
  within("hue", a.hue, 0, 0.5f);
  within("erase", a.erase, 0, 1);
  range("erase_area", a.erase_area, 1e-4f, 1);
}

Affine augment_into(const ImageView& source, const Preprocessing& p, const Augmentation& a, RandomSequence& random,
                    uint8_t* out) {
  check(p);
  check_source(source);
  Affine map = a.crops() ? crop_into(source, random_crop(source, a, random), p, out) : preprocess_into(source, p, out);
  if (a.rotation > 0) map = compose(rotate(out, p.width, p.height, random.uniform(-a.rotation, a.rotation)), map);
  if (a.flip_horizontal > 0 && random.uniform() < a.flip_horizontal) {
    mirror_columns(out, p.width, p.height);
    map = compose({-1, 0, static_cast<double>(p.width), 0, 1, 0}, map);
  }
  if (a.flip_vertical > 0 && random.uniform() < a.flip_vertical) {
    mirror_rows(out, p.width, p.height);
    map = compose({1, 0, 0, 0, -1, static_cast<double>(p.height)}, map);
  }
  jitter_colours(out, p.width * p.height, a, random);
  erase_rectangle(out, p, a, random);
  return map;
}

}  // namespace vtl::io
