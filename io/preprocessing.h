// What a model wants of its input: plain facts that io applies and models store.
#pragma once

#include <array>
#include <cstdint>

namespace vtl::io {

// Pillow's filters, antialiased: the triangle, and the cubic with a = -0.5.
enum class Interpolation { bilinear, bicubic };

// center: the shorter side is resized, the centre is cropped. squash: both sides are resized, the shape is not kept.
// border: the longer side is resized, the rest is filled with the mean.
enum class CropMode { center, squash, border };

struct Preprocessing {
  int64_t height = 224, width = 224;
  double crop_pct = 0.875;  // the crop's share of the resized picture
  CropMode crop_mode = CropMode::center;
  Interpolation interpolation = Interpolation::bicubic;
  // Of values in [0, 1]; applied on the device.
  std::array<float, 3> mean{0.485f, 0.456f, 0.406f}, std{0.229f, 0.224f, 0.225f};

  friend bool operator==(const Preprocessing&, const Preprocessing&) = default;
};

}  // namespace vtl::io
