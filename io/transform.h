// From a decoded picture to the pixels that a model is fed: the fixed preprocessing of evaluation and the random one of
// training. 8-bit RGB throughout; mean and deviation are applied on the device.
#pragma once

#include <array>
#include <cstdint>

#include "vtl/core/rng.h"
#include "vtl/io/image.h"
#include "vtl/io/preprocessing.h"

namespace vtl::io {

// Where a point of the source ends in the result: x' = xx * x + xy * y + x0, y' = yx * x + yy * y + y0. In pixels from
// the upper left corner of each picture (the centre of the first pixel is 0.5, 0.5). Boxes and masks move by it.
struct Affine {
  double xx = 1, xy = 0, x0 = 0;
  double yx = 0, yy = 1, y0 = 0;

  std::array<double, 2> apply(double x, double y) const { return {xx * x + xy * y + x0, yx * x + yy * y + y0}; }
};
// First `first`, then `second`.
Affine compose(const Affine& second, const Affine& first);

// What the crop's share of the resized picture may be.
inline constexpr double kMinCropPct = 0.01, kMaxCropPct = 1;

// Throws bad_argument for an input size outside 1 .. 32768 or a crop_pct outside those limits.
void check(const Preprocessing& preprocessing);

// Evaluation, as timm does it; result pixels equal those of Pillow. Writes [height, width, 3].
Affine preprocess_into(const ImageView& source, const Preprocessing& preprocessing, uint8_t* out);
Image preprocess(const ImageView& source, const Preprocessing& preprocessing);

// The random part of training. Each field's neutral value leaves its step out.
struct Augmentation {
  // A crop of a random share of the area and a random shape (width / height, log-uniform), resized to the input size;
  // with both at {1, 1} the picture is preprocessed as in evaluation instead.
  std::array<float, 2> crop_area{1, 1}, crop_ratio{1, 1};
  float flip_horizontal = 0, flip_vertical = 0;  // probabilities
  float rotation = 0;                            // degrees, uniform in +-; what comes into view is mirrored
  // Factors uniform in 1 +- the value (in [0, 1]), applied in this order; hue is in turns, uniform in +- (in [0, 0.5]).
  float brightness = 0, contrast = 0, saturation = 0, hue = 0;
  // The probability that a rectangle of shape 0.3 to 3.3 is painted over with the mean, and its share of the area.
  float erase = 0;
  std::array<float, 2> erase_area{0.02f, 0.33f};

  // Some step is random: two epochs differ.
  bool is_random() const;
  bool crops() const { return crop_area != std::array<float, 2>{1, 1} || crop_ratio != std::array<float, 2>{1, 1}; }
};

// none      evaluation's preprocessing
// light     crops of 80 to 100 % of the area with nearly the whole shape, mirrored half of the time
// standard  crops of 35 to 100 %, shapes 3:4 to 4:3, mirrored: for fine-tuning on hundreds to thousands of pictures.
//           The 8 % of training on ImageNet often cut the object away, which a small set does not average out
// strong    crops of 20 to 100 %, rotation of 10 degrees, colours, erasing: for long runs and training from scratch
// medical   crops of 70 to 100 %, mirrored both ways, rotation of 15 degrees, a little brightness and contrast; the hue
//           and every part of the picture may carry the finding, so no hue, saturation or erasing
enum class AugmentPreset { none, light, standard, strong, medical };
const char* name(AugmentPreset preset);
Augmentation augmentation(AugmentPreset preset);
// Throws bad_argument for values outside the ranges above.
void check(const Augmentation& augmentation);

// The numbers of one picture in one epoch, whatever worker draws them.
inline RandomSequence augment_sequence(uint64_t seed, int64_t epoch, int64_t sample) {
  return {seed, RandomStream::augment, static_cast<uint32_t>(epoch), static_cast<uint32_t>(sample)};
}

// Training: writes [height, width, 3] and returns where the source's points went.
Affine augment_into(const ImageView& source, const Preprocessing& preprocessing, const Augmentation& augmentation,
                    RandomSequence& random, uint8_t* out);

}  // namespace vtl::io
