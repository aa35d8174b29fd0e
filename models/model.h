// The one type-erased model that the registry makes: an ordered list of stages over some family's plain structs.
#pragma once

#include <array>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "vtl/core/context.h"
#include "vtl/core/named_tensors.h"
#include "vtl/core/tensor.h"
#include "vtl/layers/visitor.h"

namespace vtl::models {

enum class Interpolation { bilinear, bicubic };
enum class CropMode { center, squash, border };

// What happened to the images that the weights were trained on.
struct Preprocessing {
  int64_t height = 224, width = 224;
  double crop_pct = 0.875;
  CropMode crop_mode = CropMode::center;
  Interpolation interpolation = Interpolation::bicubic;
  std::array<float, 3> mean{0.485f, 0.456f, 0.406f}, std{0.229f, 0.224f, 0.225f};
};

// What is known of a model beside its tensors; stored in every file that we write.
struct ModelFacts {
  std::string name;    // "vit_tiny_patch16_224"
  std::string tag;     // "augreg_in21k_ft_in1k"
  std::string family;  // "vit", "resnet", "efficientnet"
  int64_t classes = 1000;
  std::vector<std::string> class_names;  // empty when the weights came without a list
  int64_t features = 0;                  // width of what the head sees
  std::string classifier;                // module name of the head: "head", "fc", "classifier"
  std::string first_conv;                // "patch_embed.proj", "conv1", "conv_stem"
  std::string pool;                      // "token", "avg"
  std::string licence;
  Preprocessing preprocessing;
};

// A step of the forward pass with the parameters that belong to it.
struct Stage {
  enum class Kind { stem, block, neck /* final norm and pooling: features come out */, head };
  std::string name;  // "stem", "blocks.3", "layer1.0", "norm", "head"
  Kind kind;
  std::function<Tensor(const Tensor&)> forward;
  std::function<void(layers::Visitor&)> visit;
};

class Model {
 public:
  ModelFacts facts;
  Precision precision = Precision::fp32;
  Device device = Device::cpu();

  // Owns the family's struct that the stages' functions refer to.
  Model(ModelFacts facts, Precision precision, Device device, std::shared_ptr<void> network, std::vector<Stage> stages);

  const std::vector<Stage>& stages() const { return stages_; }
  // All parameters and buffers, in the order of the stages.
  void visit(layers::Visitor& visitor) const;

  // images: [batch, height, width, 3], normalised, in the model's compute dtype. Returns logits [batch, classes].
  Tensor forward(const Tensor& images) const;
  // Stages [begin, end) only: a cache of a frozen prefix enters at its boundary.
  Tensor forward(const Tensor& x, size_t begin, size_t end) const;
  // What the head sees: [batch, features].
  Tensor features(const Tensor& images) const;
  // Index of the first stage of kind head.
  size_t head_stage() const;

 private:
  std::shared_ptr<void> network_;
  std::vector<Stage> stages_;
};

struct ParameterCount {
  int64_t total = 0, learning = 0;
};
ParameterCount count_parameters(const Model& model);

}  // namespace vtl::models
