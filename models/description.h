// What a model's files say of themselves beside the tensors: config.json (timm's or Hugging Face's),
// preprocessor_config.json and the metadata of the safetensors file.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "vtl/io/weight_file.h"
#include "vtl/models/model.h"

namespace vtl::models {

// Only what was said; two places that contradict each other are a bad_model error.
struct Description {
  std::optional<std::string> architecture, tag, licence, activation, padding, pool;
  std::optional<int64_t> classes;
  std::optional<double> norm_eps;
  std::vector<std::string> class_names;
  // Each part by itself: files often leave some out.
  std::optional<int64_t> height, width;
  std::optional<double> crop_pct;
  std::optional<CropMode> crop_mode;
  std::optional<Interpolation> interpolation;
  std::optional<std::array<float, 3>> mean, std;
};

Description read_description(const io::WeightFile& weights);

// `facts` with everything that `said` knows better.
void apply(const Description& said, ModelFacts& facts);

// The text of config.json as timm loads it; `classifiers` are the modules that classify, one or two.
std::string config_json(const ModelFacts& facts, const std::vector<std::string>& classifiers);
// The metadata of the safetensors file: "format" and the facts as "vtl.…".
std::map<std::string, std::string> metadata(const ModelFacts& facts);

}  // namespace vtl::models
