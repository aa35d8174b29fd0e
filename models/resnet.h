// Residual networks (He et al. 2015) with timm's names: basic and bottleneck blocks, wide and grouped ones (Zagoruyko
// 2016, Xie 2017), and the "d" form (He et al. 2018) with a deep stem and average pooling in the shortcut.
#pragma once

#include <array>

#include "vtl/models/model.h"

namespace vtl::models {

struct ResNetConfig {
  enum class Block { basic, bottleneck };

  Block block = Block::bottleneck;
  std::array<int64_t, 4> layers{3, 4, 6, 3};  // blocks of each stage
  int64_t deep_stem = 0;                      // width of the three 3x3 convolutions; 0: one 7x7
  bool avg_down = false;                // the shortcut averages 2x2 and then projects, instead of a strided projection
  int64_t groups = 1, base_width = 64;  // of the 3x3 of a bottleneck
  double norm_eps = 1e-5;
  double norm_momentum = 0.1;
  int64_t classes = 1000;
  float dropout = 0, drop_path = 0;

  int64_t features() const { return block == Block::basic ? 512 : 2048; }
};

// In the second and later convolutions of a block that halves the image, the 3x3 carries the stride ("v1.5").
Network make_resnet(const ResNetConfig& config);

}  // namespace vtl::models
