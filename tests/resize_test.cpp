#include "vtl/io/resize.h"

#include <doctest/doctest.h>

#include <cmath>

#include "vtl/core/error.h"
#include "vtl/tests/harness/pictures.h"

namespace vtl::test {
namespace {

using namespace vtl::io;

constexpr std::array<Interpolation, 2> kFilters{Interpolation::bilinear, Interpolation::bicubic};

Interpolation filter_named(const std::string& name) {
  return name == "bicubic" ? Interpolation::bicubic : Interpolation::bilinear;
}

Box whole(const Image& image) { return {0, 0, static_cast<double>(image.width), static_cast<double>(image.height)}; }

Image resized(const ImageView& source, const Resize& resize) {
  Image image{resize.window.width, resize.window.height,
              std::vector<uint8_t>(static_cast<size_t>(resize.window.width * resize.window.height * 3))};
  resize_into(source, resize, image.rgb.data(), image.width * 3);
  return image;
}

// The definition in double: the filter, widened by the reduction, over pixel centres, normalised. No rounding between axes.
double weight(Interpolation interpolation, double x) {
  x = std::abs(x);
  if (interpolation == Interpolation::bilinear) return x < 1 ? 1 - x : 0;
  if (x < 1) return 1.5 * x * x * x - 2.5 * x * x + 1;
  return x < 2 ? -0.5 * x * x * x + 2.5 * x * x - 4 * x + 2 : 0;
}

std::vector<double> weights_for(int64_t extent, double low, double high, int64_t size, int64_t at,
                                Interpolation interpolation) {
  const double scale = (high - low) / static_cast<double>(size), widening = std::max(scale, 1.0);
  const double center = low + (static_cast<double>(at) + 0.5) * scale;
  std::vector<double> weights;
  double sum = 0;
  for (int64_t x = 0; x < extent; ++x) {
    weights.push_back(weight(interpolation, (static_cast<double>(x) + 0.5 - center) / widening));
    sum += weights.back();
  }
  for (double& w : weights) w /= sum;
  return weights;
}

TEST_CASE("resizing equals Pillow on generated pictures") {
  const auto golden = golden_json("io/resize.json")["resize"];
  REQUIRE(golden.size() == 36);
  for (const auto& [id, example] : golden.items()) {
    CAPTURE(id);
    const auto box = example["box"];
    const int64_t width = example["size"][0], height = example["size"][1];
    const Resize resize{
        {box[0], box[1], box[2], box[3]}, width, height, filter_named(example["filter"]), {0, 0, width, height}};
    CHECK(largest_difference(resized(golden_picture(example["picture"]), resize).rgb,
                             bytes_of_hex(example["pixels"])) == 0);
  }
}

TEST_CASE("resizing is the normalised sum over a filter widened by the reduction") {
  // Black and white within the filter's range would clip between the axes: a narrow band of greys does not.
  Image image = generated_picture(33, 31, 1);
  for (uint8_t& value : image.rgb) value = static_cast<uint8_t>(100 + value / 8);
  for (const auto interpolation : kFilters)
    for (const auto& [width, height] : {std::pair<int64_t, int64_t>{1, 1}, {7, 9}, {33, 31}, {40, 64}, {31, 5}}) {
      CAPTURE(width);
      CAPTURE(height);
      const Image result = resize_image(image, width, height, interpolation);
      double worst = 0;
      for (int64_t y = 0; y < height; ++y)
        for (int64_t x = 0; x < width; ++x) {
          const auto across = weights_for(33, 0, 33, width, x, interpolation),
                     down = weights_for(31, 0, 31, height, y, interpolation);
          double sum = 0;
          for (size_t j = 0; j < 31; ++j)
            for (size_t i = 0; i < 33; ++i) sum += across[i] * down[j] * image.rgb[(j * 33 + i) * 3];
          worst = std::max(worst, std::abs(sum - result.rgb[static_cast<size_t>((y * width + x) * 3)]));
        }
      // Half a level of rounding at the end, half a level between the axes times the filter's absolute sum (below 1.5).
      CHECK(worst <= 0.5 + 0.75);
    }
}

TEST_CASE("a window holds the same pixels as the whole result") {
  const Image image = generated_picture(61, 90, 2);
  for (const auto interpolation : kFilters)
    for (const auto& [width, height] : {std::pair<int64_t, int64_t>{30, 40}, {60, 20}, {100, 120}}) {
      const Image all = resize_image(image, width, height, interpolation);
      const Window window{width / 3, height / 4, width / 2, height / 3};
      const Image part = resized(image, {whole(image), width, height, interpolation, window});
      bool equal = true;
      for (int64_t y = 0; y < window.height; ++y)
        equal =
            equal && std::equal(part.rgb.begin() + y * window.width * 3, part.rgb.begin() + (y + 1) * window.width * 3,
                                all.rgb.begin() + ((window.top + y) * width + window.left) * 3);
      CHECK(equal);
    }
}

TEST_CASE("the same size gives the same pixels") {
  const Image image = generated_picture(19, 5, 0);
  for (const auto interpolation : kFilters) CHECK(resize_image(image, 19, 5, interpolation).rgb == image.rgb);
}

TEST_CASE("one pixel and one colour survive any size") {
  const Image dot{1, 1, {7, 130, 255}};
  const Image large = resize_image(dot, 17, 3, Interpolation::bicubic);
  for (size_t i = 0; i < large.rgb.size(); i += 3)
    CHECK(std::equal(dot.rgb.begin(), dot.rgb.end(), large.rgb.begin() + static_cast<int64_t>(i)));
  const Image flat{5000, 2, std::vector<uint8_t>(30000, 201)};
  for (const uint8_t value : resize_image(flat, 3, 9, Interpolation::bicubic).rgb) CHECK(value == 201);
}

TEST_CASE("a view with a stride is resized without its surroundings") {
  const Image image = generated_picture(50, 40, 1);
  Image cut{20, 10, {}};
  for (int64_t y = 0; y < 10; ++y)
    cut.rgb.insert(cut.rgb.end(), image.rgb.begin() + ((y + 13) * 50 + 7) * 3,
                   image.rgb.begin() + ((y + 13) * 50 + 27) * 3);
  CHECK(resize_image(ImageView(image).crop(7, 13, 20, 10), 9, 9, Interpolation::bicubic).rgb ==
        resize_image(cut, 9, 9, Interpolation::bicubic).rgb);
}

TEST_CASE("only the result's rows and columns are written") {
  const Image image = generated_picture(40, 30, 1);
  std::vector<uint8_t> out(12 * 50, 99);
  resize_into(image, {whole(image), 10, 12, Interpolation::bicubic, {0, 0, 10, 12}}, out.data(), 50);
  for (size_t y = 0; y < 12; ++y)
    for (size_t x = 30; x < 50; ++x) CHECK(out[y * 50 + x] == 99);
}

TEST_CASE("senseless resizes are refused") {
  const Image image = generated_picture(8, 8, 0);
  std::vector<uint8_t> out(1000);
  const auto run = [&](const Box& box, int64_t width, int64_t height, const Window& window) {
    resize_into(image, {box, width, height, Interpolation::bilinear, window}, out.data(), 64);
  };
  CHECK_NOTHROW(run({0, 0, 8, 8}, 4, 4, {0, 0, 4, 4}));
  CHECK_THROWS_AS(run({0, 0, 8, 8}, 0, 4, {0, 0, 1, 1}), Error);
  CHECK_THROWS_AS(run({0, 0, 8.5, 8}, 4, 4, {0, 0, 4, 4}), Error);
  CHECK_THROWS_AS(run({3, 0, 3, 8}, 4, 4, {0, 0, 4, 4}), Error);
  CHECK_THROWS_AS(run({std::nan(""), 0, 3, 8}, 4, 4, {0, 0, 4, 4}), Error);
  CHECK_THROWS_AS(run({0, 0, 8, 8}, 4, 4, {1, 0, 4, 4}), Error);
  CHECK_THROWS_AS(run({0, 0, 8, 8}, 4, 4, {0, -1, 4, 4}), Error);
  CHECK_THROWS_AS(resize_image(ImageView(), 4, 4, Interpolation::bilinear), Error);
}

}  // namespace
}  // namespace vtl::test
