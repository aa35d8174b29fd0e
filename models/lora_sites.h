// The layers of a model that take adapters. Internal to models.
#pragma once

#include <string>
#include <vector>

#include "vtl/layers/conv2d.h"
#include "vtl/layers/linear.h"
#include "vtl/models/pretrained.h"

namespace vtl::models {

struct LoraSite {
  std::string name;  // of the layer
  Stage::Kind stage;
  layers::Parameter* weight;
  std::vector<layers::LowRank>* adapters;
  const layers::Conv2dShape* conv;  // null for a linear layer

  // "q", "k", "v" for a fused projection, whose rows are theirs in this order; none otherwise.
  std::vector<std::string> parts() const;
  // "blocks.0.attn.q" for part "q" of "blocks.0.attn.qkv".
  std::string part_name(const std::string& part) const;
};

// In the model's order, without the head.
std::vector<LoraSite> lora_sites(const Model& model);

struct AdapterSpec {
  std::string part;
  int64_t rank;
  float scale;
  Tensor a, b;  // f32, on the host, in the kernels' layout
};
void put_adapter(LoadedModel& loaded, const LoraSite& site, const AdapterSpec& spec);

}  // namespace vtl::models
