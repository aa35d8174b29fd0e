// The one type-erased model that the registry makes: an ordered list of stages over some family's plain structs.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "vtl/core/context.h"
#include "vtl/core/named_tensors.h"
#include "vtl/core/tensor.h"
#include "vtl/io/preprocessing.h"
#include "vtl/layers/visitor.h"

namespace vtl::models {

// What happened to the images that the weights were trained on.
using io::CropMode;
using io::Interpolation;
using io::Preprocessing;
const char* name(Interpolation interpolation);
const char* name(CropMode mode);

// Numbers and switches of the forward pass that no tensor's shape tells; stored in every file that we write.
struct Constants {
  double norm_eps = 1e-6;             // of LayerNorm or BatchNorm
  std::string activation = "gelu";    // "gelu", "gelu_tanh", "gelu_quick", "relu", "relu6", "silu"
  std::string padding = "symmetric";  // "symmetric", "same"
  std::string pool = "token";         // "token", "avg"

  friend bool operator==(const Constants&, const Constants&) = default;
};

// What is known of a model beside its tensors; stored in every file that we write.
struct ModelFacts {
  std::string name;                      // "vit_tiny_patch16_224"
  std::string tag;                       // "augreg_in21k_ft_in1k"
  std::string family;                    // "vit", "resnet", "efficientnet"
  int64_t classes = 1000;                // 0: no head, the logits are the features
  std::vector<std::string> class_names;  // empty when the weights came without a list
  int64_t features = 0;                  // width of what the head sees
  std::string classifier;                // module name of the head: "head", "fc", "classifier"
  std::string first_conv;                // "patch_embed.proj", "conv1", "conv_stem"
  std::string licence;
  Constants constants;
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

// The value a parameter begins with when no file gives one: f32, on the host, a function of name and seed.
using FirstValue = std::function<Tensor(const std::string& name, const layers::Parameter& parameter, uint64_t seed)>;

// What a family makes of its configuration.
struct Network {
  std::shared_ptr<void> owner;  // of the struct that the stages' functions refer to
  std::vector<Stage> stages;
  FirstValue first_value;
};

// Copies share the parameters.
class Model {
 public:
  ModelFacts facts;
  Precision precision = Precision::fp32;
  Device device = Device::cpu();

  Model(ModelFacts facts, Precision precision, Device device, Network network);

  const std::vector<Stage>& stages() const { return network_.stages; }
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

  Tensor first_value(const std::string& name, const layers::Parameter& parameter, uint64_t seed) const {
    return network_.first_value(name, parameter, seed);
  }
  // Gives each parameter and buffer that has no value yet its first one, in the model's precision on its device.
  void initialise(uint64_t seed) const;

 private:
  Network network_;
};

// Brings an f32 host tensor to where a model keeps this parameter: dtype by role and precision, device.
Tensor to_working(const Tensor& value, const layers::Parameter& parameter, Precision precision, Device device);

struct ParameterCount {
  int64_t total = 0, learning = 0;
};
ParameterCount count_parameters(const Model& model);

}  // namespace vtl::models
