// The models that vtl can make, by timm's names.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "vtl/models/model.h"

namespace vtl::models {

struct ModelOptions {
  std::optional<int64_t> classes = {};             // default: what the tag was trained for
  std::optional<int64_t> height = {}, width = {};  // default: the tag's input size
  std::optional<double> norm_eps = {};             // default: the architecture's
  std::optional<std::string> pool = {};  // "token" or "avg" (with fc_norm) of a vit; default: the architecture's
  Precision precision = Precision::fp32;
  Device device = Device::cpu();
  uint64_t seed = 0;  // of the first values
  float dropout = 0, drop_path = 0;
};

// What `vtl-finetune models` lists.
struct ModelSummary {
  std::string name, tag, family;
  int64_t parameters, input_size;
  std::vector<std::string> dialects;  // "timm", "torchvision", "huggingface"
};
std::vector<ModelSummary> list_models();
// The tags of a model, the default first.
std::vector<std::string> list_tags(std::string_view name);
// `name` is NAME or NAME.TAG.
bool is_known(std::string_view name);

// All parameters are allocated, with first values from the seed, and frozen.
// Throws bad_model for an unknown name, with the nearest ones.
Model create_model(std::string_view name, const ModelOptions& options = {});
// The same without values: parameters know their shapes only, until `initialise` or a file gives them values.
Model describe_model(std::string_view name, const ModelOptions& options = {});

}  // namespace vtl::models
