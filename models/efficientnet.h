// EfficientNet (Tan, Le 2019) with timm's names: a table of stages, scaled in width and depth.
#pragma once

#include <vector>

#include "vtl/layers/conv2d.h"
#include "vtl/models/model.h"

namespace vtl::models {

struct EfficientNetConfig {
  struct StageRow {
    int64_t repeats, kernel, stride;
    int64_t expand;  // 1: a depthwise-separable block without expansion
    int64_t out;
  };

  std::vector<StageRow> rows;  // before scaling
  double width = 1, depth = 1;
  // The "lite" rule: stem and head keep their widths, the first and the last row their depth.
  bool lite = false;
  int64_t stem = 32, head = 1280;
  kernels::Activation activation = kernels::Activation::silu;
  layers::Padding padding = layers::Padding::symmetric;
  double norm_eps = 1e-5;
  double norm_momentum = 0.1;
  int64_t classes = 1000;
  float dropout = 0, drop_path = 0;

  // `channels` times width, to the nearest multiple of eight that is not below nine tenths of it.
  int64_t scaled(int64_t channels) const;
  int64_t features() const { return lite ? head : scaled(head); }
};

Network make_efficientnet(const EfficientNetConfig& config);

}  // namespace vtl::models
