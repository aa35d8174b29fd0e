#include "vtl/io/transform.h"

#include <doctest/doctest.h>

#include <cmath>
#include <cstdlib>
#include <iostream>
#include <numeric>
#include <set>

#include "vtl/core/error.h"
#include "vtl/io/resize.h"
#include "vtl/tests/harness/pictures.h"
#include "vtl/tests/harness/shared.h"

namespace vtl::test {
namespace {

using namespace vtl::io;

Preprocessing preprocessing(int64_t height, int64_t width, double crop_pct = 0.875, CropMode mode = CropMode::center,
                            Interpolation interpolation = Interpolation::bicubic) {
  Preprocessing p;
  p.height = height;
  p.width = width;
  p.crop_pct = crop_pct;
  p.crop_mode = mode;
  p.interpolation = interpolation;
  return p;
}

struct Augmented {
  Image image;
  Affine map;
};

Augmented augmented(const Image& source, const Preprocessing& p, const Augmentation& a, int64_t sample,
                    uint64_t seed = 1, int64_t epoch = 0) {
  Augmented result{{p.width, p.height, std::vector<uint8_t>(static_cast<size_t>(p.width * p.height * 3))}, {}};
  RandomSequence random = augment_sequence(seed, epoch, sample);
  result.map = augment_into(source, p, a, random, result.image.rgb.data());
  return result;
}

// Red rises along x, green along y: where a pixel came from can be read off its colour.
Image gradient(int64_t width, int64_t height) {
  Image image{width, height, {}};
  for (int64_t y = 0; y < height; ++y)
    for (int64_t x = 0; x < width; ++x)
      for (const int64_t v : {x * 256 / width, y * 256 / height, int64_t{128}})
        image.rgb.push_back(static_cast<uint8_t>(v));
  return image;
}

std::vector<std::filesystem::path> photographs() {
  const auto folder = shared_path("data/imagenet_samples");
  std::vector<std::filesystem::path> paths;
  if (!folder.empty())
    for (const auto& entry : std::filesystem::directory_iterator(folder))
      if (entry.path().extension() == ".JPEG") paths.push_back(entry.path());
  std::sort(paths.begin(), paths.end());
  return paths;
}

TEST_CASE("evaluation preprocessing equals timm's in every crop mode") {
  const auto golden = golden_json("io/resize.json")["evaluation"];
  REQUIRE(golden.size() == 36);
  for (const auto& [id, example] : golden.items()) {
    CAPTURE(id);
    const std::string mode = example["mode"];
    const Preprocessing p =
        preprocessing(example["size"][0], example["size"][1], example["crop_pct"],
                      mode == "squash"   ? CropMode::squash
                      : mode == "border" ? CropMode::border
                                         : CropMode::center,
                      example["filter"] == "bicubic" ? Interpolation::bicubic : Interpolation::bilinear);
    CHECK(largest_difference(preprocess(golden_picture(example["picture"]), p).rgb, bytes_of_hex(example["pixels"])) ==
          0);
  }
}

TEST_CASE("photographs are preprocessed as timm does it") {
  const auto paths = photographs();
  if (paths.empty()) return;
  const auto golden = golden_json("io/imagenet_samples.json");
  CHECK(paths.size() == golden.size());
  for (const auto& path : paths) {
    CAPTURE(path.string());
    const Image image = read_image(path.string());
    for (const auto& [name, interpolation] :
         {std::pair{"bilinear", Interpolation::bilinear}, std::pair{"bicubic", Interpolation::bicubic}}) {
      const Image result = preprocess(image, preprocessing(224, 224, 0.875, CropMode::center, interpolation));
      std::vector<uint8_t> samples;
      for (size_t i = 0; i < 64; ++i) samples.push_back(result.rgb[(i * 2357 + 11) % result.rgb.size()]);
      CHECK(largest_difference(samples, bytes_of_hex(golden[path.filename().string()][name])) <= 1);
    }
  }
}

// For tests/reference/resize_golden.py --check, which compares every pixel.
TEST_CASE("dump the preprocessed photographs" * doctest::skip()) {
  const char* folder = std::getenv("VTL_DUMP");
  REQUIRE(folder != nullptr);
  for (const auto& path : photographs()) {
    const Image image = read_image(path.string());
    const std::filesystem::path stem = std::filesystem::path(folder) / path.filename();
    write_bytes(stem.string() + ".decoded", image.rgb);
    write_bytes(stem.string() + ".bicubic", preprocess(image, preprocessing(224, 224)).rgb);
    write_bytes(stem.string() + ".bilinear",
                preprocess(image, preprocessing(224, 224, 0.875, CropMode::center, Interpolation::bilinear)).rgb);
  }
}

TEST_CASE("the map says where the source's points went") {
  const Image source = gradient(120, 90);
  const auto agrees = [&](const Augmented& result, double tolerance) {
    // The inverse of the map brings each result pixel back to its source position, which its colour tells.
    const Affine& m = result.map;
    const double determinant = m.xx * m.yy - m.xy * m.yx;
    double worst = 0;
    for (int64_t y = 3; y < result.image.height - 3; ++y)
      for (int64_t x = 3; x < result.image.width - 3; ++x) {
        const double dx = static_cast<double>(x) + 0.5 - m.x0, dy = static_cast<double>(y) + 0.5 - m.y0;
        const double from_x = (m.yy * dx - m.xy * dy) / determinant, from_y = (m.xx * dy - m.yx * dx) / determinant;
        if (from_x < 3 || from_x > 117 || from_y < 3 || from_y > 87) continue;
        const uint8_t* pixel = result.image.rgb.data() + (y * result.image.width + x) * 3;
        worst = std::max(
            {worst, std::abs((from_x - 0.5) * 256 / 120 - pixel[0]), std::abs((from_y - 0.5) * 256 / 90 - pixel[1])});
      }
    CHECK(worst <= tolerance);
  };
  // The ramps are rounded down when drawn (1 level); resizing and rotating round three times (1.5 levels) and average that.
  Image image{48, 40, std::vector<uint8_t>(48 * 40 * 3)};
  for (const auto mode : {CropMode::center, CropMode::squash, CropMode::border}) {
    const Preprocessing p = preprocessing(40, 48, 0.9, mode);
    const Affine map = preprocess_into(source, p, image.rgb.data());
    if (mode != CropMode::border) agrees({image, map}, 2.5);
  }
  for (int64_t sample = 0; sample < 20; ++sample) {
    CAPTURE(sample);
    Augmentation a = augmentation(AugmentPreset::standard);
    agrees(augmented(source, preprocessing(40, 48), a, sample), 2.5);
    a.flip_vertical = 0.5f;
    agrees(augmented(source, preprocessing(40, 48), a, sample), 2.5);
  }
}

TEST_CASE("a rotated picture follows its map") {
  const Image source = gradient(100, 100);
  Augmentation a;
  a.rotation = 30;
  bool turned = false;
  for (int64_t sample = 0; sample < 10; ++sample) {
    const Augmented result = augmented(source, preprocessing(50, 50, 1.0), a, sample);
    turned = turned || std::abs(result.map.xy) > 0.05;
    // The point in the middle stays; a point right of it moves by the map.
    for (const auto& [x, y] : {std::pair{50.0, 50.0}, {70.0, 50.0}, {50.0, 35.0}}) {
      const auto [to_x, to_y] = result.map.apply(x, y);
      const uint8_t* pixel =
          result.image.rgb.data() + (static_cast<int64_t>(to_y) * 50 + static_cast<int64_t>(to_x)) * 3;
      // Within the pixel that holds the point: half a result pixel is one source pixel and a quarter, 3 levels, a side.
      CHECK(std::abs(pixel[0] - x * 2.56) <= 6);
      CHECK(std::abs(pixel[1] - y * 2.56) <= 6);
    }
  }
  CHECK(turned);
}

TEST_CASE("random crops keep to their range of area and shape") {
  const Image source = gradient(200, 160);
  const Augmentation a = augmentation(AugmentPreset::standard);
  double smallest = 2, largest = 0;
  int mirrored = 0;
  constexpr int kDraws = 300;
  for (int64_t sample = 0; sample < kDraws; ++sample) {
    const Affine map = augmented(source, preprocessing(32, 32), a, sample).map;
    const double width = 32 / std::abs(map.xx), height = 32 / map.yy, share = width * height / (200 * 160);
    smallest = std::min(smallest, share);
    largest = std::max(largest, share);
    mirrored += map.xx < 0;
    // Whole pixels: a side may be off by half a pixel of 90 at least.
    CHECK(share >= 0.35 * 0.98);
    CHECK(share <= 1.0 + 1e-6);
    CHECK(width / height >= 0.75 * 0.98);
    CHECK(width / height <= 4.0 / 3 * 1.02);
  }
  CHECK(smallest < 0.42);
  CHECK(largest > 0.85);
  // Binomial with p = 1/2: five deviations of sqrt(300) / 2.
  CHECK(std::abs(mirrored - kDraws / 2) <= 44);
}

TEST_CASE("a crop is the resized rectangle that the map names") {
  const Image source = generated_picture(90, 70, 1);
  Augmentation a = augmentation(AugmentPreset::standard);
  a.flip_horizontal = 0;
  for (int64_t sample = 0; sample < 5; ++sample) {
    const Augmented result = augmented(source, preprocessing(24, 24), a, sample);
    const int64_t width = std::llround(24 / result.map.xx), height = std::llround(24 / result.map.yy);
    const int64_t left = std::llround(-result.map.x0 / result.map.xx),
                  top = std::llround(-result.map.y0 / result.map.yy);
    CHECK(result.image.rgb ==
          resize_image(ImageView(source).crop(left, top, width, height), 24, 24, Interpolation::bicubic).rgb);
  }
}

TEST_CASE("extreme shapes fall back to the centred crop") {
  const Image strip = generated_picture(600, 3, 0);
  const Affine map = augmented(strip, preprocessing(8, 8), augmentation(AugmentPreset::standard), 0).map;
  CHECK(std::abs(8 / map.yy - 3) < 1e-9);
  CHECK(std::abs(8 / std::abs(map.xx) - 4) < 1e-9);
  for (const auto preset : {AugmentPreset::none, AugmentPreset::light, AugmentPreset::standard, AugmentPreset::strong,
                            AugmentPreset::medical})
    for (const auto& [width, height] : {std::pair<int64_t, int64_t>{1, 1}, {1, 500}, {500, 1}, {2, 3}})
      CHECK_NOTHROW(augmented(generated_picture(width, height, 0), preprocessing(16, 12), augmentation(preset), 3));
}

TEST_CASE("random numbers depend on seed, epoch and sample alone") {
  const Image source = generated_picture(64, 64, 2);
  const Preprocessing p = preprocessing(32, 32);
  const Augmentation a = augmentation(AugmentPreset::strong);
  const auto reference = augmented(source, p, a, 5).image.rgb;
  CHECK(augmented(source, p, a, 5).image.rgb == reference);
  CHECK(augmented(source, p, a, 6).image.rgb != reference);
  CHECK(augmented(source, p, a, 5, 2).image.rgb != reference);
  CHECK(augmented(source, p, a, 5, 1, 1).image.rgb != reference);
}

TEST_CASE("without augmentation training sees what evaluation sees") {
  const Image source = generated_picture(64, 50, 2);
  CHECK(augmented(source, preprocessing(32, 32), augmentation(AugmentPreset::none), 1).image.rgb ==
        preprocess(source, preprocessing(32, 32)).rgb);
  CHECK_FALSE(augmentation(AugmentPreset::none).is_random());
  for (const auto preset :
       {AugmentPreset::light, AugmentPreset::standard, AugmentPreset::strong, AugmentPreset::medical})
    CHECK(augmentation(preset).is_random());
}

TEST_CASE("colour steps do what their names say") {
  const Image source = generated_picture(32, 32, 1);
  const Preprocessing p = preprocessing(32, 32, 1.0);
  const auto luma = [](const std::vector<uint8_t>& rgb) {
    double sum = 0;
    for (size_t i = 0; i < rgb.size(); i += 3) sum += 0.299 * rgb[i] + 0.587 * rgb[i + 1] + 0.114 * rgb[i + 2];
    return sum / static_cast<double>(rgb.size() / 3);
  };
  const auto with = [&](float Augmentation::*step, float amount, int64_t sample, const Image& picture) {
    Augmentation a;
    a.*step = amount;
    return augmented(picture, p, a, sample).image.rgb;
  };
  const Image grey{32, 32, std::vector<uint8_t>(32 * 32 * 3, 90)};
  for (int64_t sample = 0; sample < 10; ++sample) {
    // Brightness multiplies; on one grey, contrast, saturation and hue change nothing.
    const auto bright = with(&Augmentation::brightness, 0.5f, sample, grey);
    RandomSequence random = augment_sequence(1, 0, sample);
    CHECK(std::abs(bright[0] - 90 * random.uniform(0.5f, 1.5f)) <= 0.51);
    CHECK(with(&Augmentation::contrast, 0.5f, sample, grey) == grey.rgb);
    CHECK(with(&Augmentation::saturation, 0.5f, sample, grey) == grey.rgb);
    CHECK(with(&Augmentation::hue, 0.5f, sample, grey) == grey.rgb);
    // A dull picture does not clip: luma stays under saturation and hue.
    Image dull = source;
    for (uint8_t& value : dull.rgb) value = static_cast<uint8_t>(110 + value / 8);
    CHECK(std::abs(luma(with(&Augmentation::saturation, 0.5f, sample, dull)) - luma(dull.rgb)) < 0.5);
    CHECK(std::abs(luma(with(&Augmentation::hue, 0.5f, sample, dull)) - luma(dull.rgb)) < 0.5);
    CHECK(std::abs(luma(with(&Augmentation::contrast, 0.5f, sample, dull)) - luma(dull.rgb)) < 0.5);
    CHECK(with(&Augmentation::hue, 0.5f, sample, dull) != dull.rgb);
  }
}

TEST_CASE("erasing paints one rectangle of the mean") {
  const Image source{64, 64, std::vector<uint8_t>(64 * 64 * 3, 5)};
  Preprocessing p = preprocessing(64, 64, 1.0);
  p.mean = {0.5f, 0.25f, 0.75f};
  Augmentation a;
  a.erase = 1;
  std::set<int64_t> sizes;
  for (int64_t sample = 0; sample < 20; ++sample) {
    const auto rgb = augmented(source, p, a, sample).image.rgb;
    int64_t left = 64, top = 64, right = -1, bottom = -1, painted = 0;
    for (int64_t i = 0; i < 64 * 64; ++i) {
      const uint8_t* pixel = rgb.data() + i * 3;
      if (pixel[0] == 5) continue;
      CHECK(pixel[0] == 128);
      CHECK(pixel[1] == 64);
      CHECK(pixel[2] == 191);
      left = std::min(left, i % 64), right = std::max(right, i % 64), top = std::min(top, i / 64),
      bottom = std::max(bottom, i / 64);
      ++painted;
    }
    CHECK(painted == (right - left + 1) * (bottom - top + 1));
    CHECK(painted >= 64 * 64 * 0.02 * 0.8);
    CHECK(painted <= 64 * 64 * 0.33 * 1.1);
    sizes.insert(painted);
  }
  CHECK(sizes.size() > 10);
}

TEST_CASE("augmentation presets are in range") {
  for (const auto preset : {AugmentPreset::none, AugmentPreset::light, AugmentPreset::standard, AugmentPreset::strong,
                            AugmentPreset::medical}) {
    CHECK_NOTHROW(check(augmentation(preset)));
  }
  const Augmentation medical = augmentation(AugmentPreset::medical);
  CHECK(medical.hue == 0);
  CHECK(medical.erase == 0);
}

TEST_CASE("senseless transforms are refused") {
  Augmentation a;
  a.crop_area = {0.5f, 0.2f};
  CHECK_THROWS_AS(check(a), Error);
  a = {};
  a.flip_horizontal = std::nanf("");
  CHECK_THROWS_AS(check(a), Error);
  a = {};
  a.hue = 0.6f;
  CHECK_THROWS_AS(check(a), Error);
  CHECK_THROWS_AS(preprocess(generated_picture(4, 4, 0), preprocessing(0, 4)), Error);
  CHECK_THROWS_AS(preprocess(generated_picture(4, 4, 0), preprocessing(4, 4, 0.0)), Error);
  CHECK_THROWS_AS(preprocess(generated_picture(4, 4, 0), preprocessing(4, 4, std::nan(""))), Error);
  CHECK_THROWS_AS(preprocess(Image{}, preprocessing(4, 4)), Error);
}

}  // namespace
}  // namespace vtl::test
