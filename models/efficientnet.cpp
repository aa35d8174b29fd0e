#include "vtl/models/efficientnet.h"

#include <algorithm>
#include <cmath>

#include "vtl/layers/batchnorm.h"
#include "vtl/layers/dropout.h"
#include "vtl/layers/init.h"
#include "vtl/layers/linear.h"
#include "vtl/layers/pool2d.h"

namespace vtl::models {
namespace {

using kernels::Activation;
using layers::BatchNorm;
using layers::Conv2d;

// A convolution with the name timm gives it in its kind of block, and its norm; the last one has no activation.
struct Step {
  const char* conv_name;
  Conv2d conv;
  BatchNorm norm;
};

// Expand, depthwise, project; without the first step it is a depthwise-separable block.
struct Block {
  std::vector<Step> steps;
  bool skip = false;
  Activation activation;
  layers::Dropout drop_path;

  void visit(layers::Visitor& v) {
    for (size_t i = 0; i < steps.size(); ++i) {
      v(steps[i].conv_name, steps[i].conv);
      v("bn" + std::to_string(i + 1), steps[i].norm);
    }
  }
};

struct EfficientNet {
  Step stem;
  std::vector<std::vector<Block>> blocks;
  Step head;
  Activation activation;
  layers::Dropout dropout;
  layers::Linear classifier;
};

Tensor forward(const Tensor& x, const Block& block) {
  Tensor y = x;
  for (size_t i = 0; i + 1 < block.steps.size(); ++i)
    y = layers::conv_bn(y, block.steps[i].conv, block.steps[i].norm, {}, block.activation);
  const Step& last = block.steps.back();
  if (!block.skip) return layers::conv_bn(y, last.conv, last.norm);
  if (block.drop_path.p == 0 || !context().training) return layers::conv_bn(y, last.conv, last.norm, x);
  return layers::drop_path(layers::conv_bn(y, last.conv, last.norm), block.drop_path, x);
}

class Builder {
 public:
  explicit Builder(const EfficientNetConfig& config) : config_(config) {}

  std::shared_ptr<EfficientNet> build() const {
    auto net = std::make_shared<EfficientNet>();
    net->activation = config_.activation;
    int64_t in = config_.lite ? config_.stem : config_.scaled(config_.stem);
    net->stem = step("conv_stem", {.in = 3, .out = in, .kernel = 3, .stride = 2});
    for (size_t s = 0; s < config_.rows.size(); ++s) {
      const EfficientNetConfig::StageRow& row = config_.rows[s];
      std::vector<Block> stage;
      for (int64_t i = 0; i < repeats(s); ++i) {
        stage.push_back(block(in, config_.scaled(row.out), row, i == 0 ? row.stride : 1));
        in = config_.scaled(row.out);
      }
      net->blocks.push_back(std::move(stage));
    }
    spread_drop_path(*net);
    net->head = step("conv_head", {.in = in, .out = config_.features()});
    net->dropout = {config_.dropout, 0};
    if (config_.classes > 0) net->classifier = layers::Linear(config_.features(), config_.classes);
    return net;
  }

 private:
  int64_t repeats(size_t row) const {
    const int64_t plain = config_.rows[row].repeats;
    if (config_.lite && (row == 0 || row + 1 == config_.rows.size())) return plain;
    return static_cast<int64_t>(std::ceil(static_cast<double>(plain) * config_.depth));
  }

  Step step(const char* name, layers::Conv2dShape shape) const {
    shape.padding = config_.padding;
    shape.pad = shape.kernel / 2;
    return {name, Conv2d(shape),
            BatchNorm(shape.out, static_cast<float>(config_.norm_eps), static_cast<float>(config_.norm_momentum))};
  }

  Block block(int64_t in, int64_t out, const EfficientNetConfig::StageRow& row, int64_t stride) const {
    Block made;
    made.activation = config_.activation;
    made.skip = stride == 1 && in == out;
    const int64_t wide = in * row.expand;
    const bool expands = row.expand > 1;
    if (expands) made.steps.push_back(step("conv_pw", {.in = in, .out = wide}));
    made.steps.push_back(
        step("conv_dw", {.in = wide, .out = wide, .kernel = row.kernel, .stride = stride, .groups = wide}));
    made.steps.push_back(step(expands ? "conv_pwl" : "conv_pw", {.in = wide, .out = out}));
    return made;
  }

  void spread_drop_path(EfficientNet& net) const {
    size_t total = 0, index = 0;
    for (const auto& stage : net.blocks) total += stage.size();
    for (auto& stage : net.blocks)
      for (Block& block : stage) {
        block.drop_path = {config_.drop_path * static_cast<float>(index) / static_cast<float>(total),
                           static_cast<uint32_t>(index)};
        ++index;
      }
  }

  const EfficientNetConfig& config_;
};

Tensor first_value(const std::string& name, const layers::Parameter& parameter, uint64_t seed) {
  const Shape& shape = parameter.shape();
  if (shape.rank() == 4) {
    const bool depthwise = shape[3] == 1;
    return layers::init_he_fan_out(shape, shape[1] * shape[2] * (depthwise ? 1 : shape[0]), seed, name);
  }
  if (shape.rank() == 2) return layers::init_fan_in(shape, shape[1], seed, name);
  return name.ends_with(".weight") ? layers::init_ones(shape) : layers::init_zeros(shape);
}

}  // namespace

int64_t EfficientNetConfig::scaled(int64_t channels) const {
  const double wanted = static_cast<double>(channels) * width;
  const int64_t rounded = std::max<int64_t>(8, static_cast<int64_t>(wanted + 4) / 8 * 8);
  return static_cast<double>(rounded) < 0.9 * wanted ? rounded + 8 : rounded;
}

Network make_efficientnet(const EfficientNetConfig& config) {
  const std::shared_ptr<EfficientNet> net = Builder(config).build();
  EfficientNet* n = net.get();
  std::vector<Stage> stages;
  stages.push_back({"stem", Stage::Kind::stem,
                    [n](const Tensor& x) { return layers::conv_bn(x, n->stem.conv, n->stem.norm, {}, n->activation); },
                    [n](layers::Visitor& v) {
                      v("conv_stem", n->stem.conv);
                      v("bn1", n->stem.norm);
                    }});
  for (size_t s = 0; s < n->blocks.size(); ++s)
    for (size_t i = 0; i < n->blocks[s].size(); ++i) {
      Block* block = &n->blocks[s][i];
      const std::string name = "blocks." + std::to_string(s) + "." + std::to_string(i);
      stages.push_back({name, Stage::Kind::block, [block](const Tensor& x) { return forward(x, *block); },
                        [block, name](layers::Visitor& v) { v(name, *block); }});
    }
  stages.push_back({"conv_head", Stage::Kind::neck,
                    [n](const Tensor& x) {
                      return layers::global_avg_pool(layers::conv_bn(x, n->head.conv, n->head.norm, {}, n->activation));
                    },
                    [n](layers::Visitor& v) {
                      v("conv_head", n->head.conv);
                      v("bn2", n->head.norm);
                    }});
  stages.push_back({"classifier", Stage::Kind::head,
                    [n](const Tensor& x) {
                      return n->classifier.weight.present()
                                 ? layers::linear(layers::dropout(x, n->dropout), n->classifier)
                                 : x;
                    },
                    [n](layers::Visitor& v) {
                      if (n->classifier.weight.present()) v("classifier", n->classifier);
                    }});
  return {net, std::move(stages), first_value};
}

}  // namespace vtl::models
