// The data of the registry: architectures, and what their published weights expect. Facts from timm 1.0.31.
#pragma once

#include <span>
#include <string_view>
#include <variant>
#include <vector>

#include "vtl/models/efficientnet.h"
#include "vtl/models/model.h"
#include "vtl/models/resnet.h"
#include "vtl/models/vit.h"

namespace vtl::models {

struct Architecture {
  std::string_view name;
  std::variant<ResNetConfig, VitConfig, EfficientNetConfig> config;
};

enum class Normalisation { imagenet, half /* mean and std 0.5 */, zero_one /* none */, clip };

struct PretrainedTag {
  std::string_view model, tag;
  int64_t classes;  // 0: published without a head
  int64_t size;     // of the square input
  double crop_pct;
  CropMode crop_mode;
  Interpolation interpolation;
  Normalisation normalisation;
  std::string_view licence;  // empty: not known
};

const std::vector<Architecture>& architectures();
// Grouped by model, the default tag first.
std::span<const PretrainedTag> pretrained_tags();

}  // namespace vtl::models
