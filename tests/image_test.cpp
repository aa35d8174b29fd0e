#include "vtl/kernels/image/image.h"

#include <doctest/doctest.h>

#include <cmath>

#include "vtl/core/parallel.h"
#include "vtl/tests/harness/devices.h"
#include "vtl/tests/harness/op_case.h"

namespace {

using namespace vtl;
using namespace vtl::test;

std::vector<uint8_t> bytes(int64_t count) {
  std::vector<uint8_t> result(static_cast<size_t>(count));
  for (size_t i = 0; i < result.size(); ++i) result[i] = static_cast<uint8_t>(i * 37 + i / 256);
  return result;
}

}  // namespace

TEST_CASE("images are normalised channel by channel") {
  for (const auto& [pixels, channels] :
       {std::pair<int64_t, int64_t>{1, 1}, {0, 3}, {31, 3}, {33, 4}, {5, 65}, {3 * 224 * 224, 3}}) {
    const std::vector<uint8_t> image = bytes(pixels * channels);
    const Values means = rounded(random_values("mean", channels, 0.3, 0.5), DType::f32);
    const Values stds = rounded(random_values("std", channels, 0.2, 0.3), DType::f32);
    Values expected;
    for (size_t i = 0; i < image.size(); ++i)
      expected.push_back((image[i] / 255.0 - means[i % channels]) / stds[i % channels]);
    for (const Device& device : devices())
      for (const auto dtype : {DType::f32, DType::bf16}) {
        INFO(to_string(device), ", ", name(dtype), ", ", pixels, " pixels of ", channels);
        Stream stream(device);
        const Tensor x = Tensor::from<uint8_t>(image, {pixels, channels}, device);
        const Tensor mean = to_tensor(means, {channels}, DType::f32, device);
        const Tensor std = to_tensor(stds, {channels}, DType::f32, device);
        const Tensor y = Tensor::empty({pixels, channels}, dtype, device);
        kernels::image_normalize(stream, dtype, x.data_as<uint8_t>(), y.data(), mean.f32(), std.f32(),
                                 {pixels, channels});
        // Both terms are at most 5 and rounded twice; bf16 rounds once more.
        const double allowed = 5 * (4 * 0x1p-24 + (dtype == DType::bf16 ? 0x1p-8 : 0));
        CHECK(max_difference(to_values(y), expected) <= allowed);
      }
  }
}
