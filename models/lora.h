// Low-rank adapters (Hu et al., "LoRA", 2021) on a model's linear layers and convolutions.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "vtl/layers/linear.h"
#include "vtl/models/pretrained.h"

namespace vtl::models {

struct LoraOptions {
  int64_t rank = 8;
  double alpha = 8;  // the adapter is scaled by alpha / rank
  // Full names of layers ("blocks.0.attn.qkv") or what they end with ("qkv", "attn.qkv"). Empty: qkv, proj, fc1 and fc2
  // of a vit; every groups-1, dilation-1 convolution but the stem's of a CNN. Also q, k, v for a third of qkv:
  // "attn.q".
  std::vector<std::string> targets;
  uint64_t seed = 0;
};

// The layers that adapters can be put on, by name, in the model's order.
std::vector<std::string> adaptable_layers(const Model& model);

// Puts an adapter on every target and returns the names of the layers. It changes nothing yet: A is uniform within
// 1 / sqrt(fan-in), B is zero, and both are frozen until set_learning. A target that names no layer is a bad_argument
// that lists the layers; a model that has adapters already is one, too.
std::vector<std::string> attach_lora(LoadedModel& loaded, const LoraOptions& options);
// Adds every adapter to its weight, in f32 from the weight's master, and removes it.
void merge_lora(LoadedModel& loaded);
// Takes every adapter off; the weights are what they were.
void remove_lora(LoadedModel& loaded);
bool has_lora(const Model& model);

// "blocks.0.attn.qkv.lora_A.weight": a part of an adapter, not of the model.
bool is_adapter_name(std::string_view name);
// weight + sum of scale * B A, in the kernels' layout, f32. `name` is that of the weight.
Tensor merged_weight(const LoadedModel& loaded, const std::string& name, const Tensor& weight,
                     const std::vector<layers::LowRank>& adapters);

}  // namespace vtl::models
