// Vision transformers (Dosovitskiy et al. 2021) with timm's names: ViT, DeiT, distilled DeiT, DeiT III, the CLIP and
// DINOv2 towers. What tells them apart is data.
#pragma once

#include "vtl/layers/elementwise.h"
#include "vtl/models/model.h"

namespace vtl::models {

struct VitConfig {
  enum class Pool { token, average };
  enum class Norms { before /* of each branch */, after };

  int64_t height = 224, width = 224, patch = 16;
  int64_t dim = 768, depth = 12, heads = 12, mlp = 3072;
  bool qkv_bias = true;
  bool class_token = true;
  bool distilled = false;  // a second token with a head of its own; the logits of both are averaged
  int64_t registers = 0;
  bool position_on_patches = false;  // timm's no_embed_class: prefix tokens get no position embedding
  Norms norms = Norms::before;
  bool pre_norm = false;  // a norm before the first block, and patches without bias
  Pool pool = Pool::token;
  bool fc_norm = false;   // the final norm comes after pooling, as fc_norm; else before, as norm
  float layer_scale = 0;  // first value; 0: none
  double norm_eps = 1e-6;
  kernels::Activation activation = kernels::Activation::gelu_erf;
  int64_t classes = 1000;
  float dropout = 0, drop_path = 0;

  int64_t patches() const { return (height / patch) * (width / patch); }
  int64_t prefix_tokens() const { return (class_token ? 1 : 0) + (distilled ? 1 : 0) + registers; }
  int64_t features() const { return distilled ? 2 * dim : dim; }
};

// The image's sides are multiples of the patch.
Network make_vit(const VitConfig& config);

}  // namespace vtl::models
