#include "vtl/models/resnet.h"

#include "vtl/layers/batchnorm.h"
#include "vtl/layers/conv2d.h"
#include "vtl/layers/dropout.h"
#include "vtl/layers/elementwise.h"
#include "vtl/layers/init.h"
#include "vtl/layers/linear.h"
#include "vtl/layers/pool2d.h"

namespace vtl::models {
namespace {

using kernels::Activation;
using layers::BatchNorm;
using layers::Conv2d;

struct ConvNorm {
  Conv2d conv;
  BatchNorm norm;
};

struct Shortcut {
  bool average = false;  // timm numbers the pooling too: its convolution is downsample.1 instead of .0
  ConvNorm project;

  void visit(layers::Visitor& v) {
    v(average ? "1" : "0", project.conv);
    v(average ? "2" : "1", project.norm);
  }
};

struct Block {
  std::vector<ConvNorm> convs;       // two or three; all but the last are followed by ReLU
  std::vector<Shortcut> downsample;  // one, or none: the identity
  int64_t stride = 1;
  layers::Dropout drop_path;

  void visit(layers::Visitor& v) {
    for (size_t i = 0; i < convs.size(); ++i) {
      v("conv" + std::to_string(i + 1), convs[i].conv);
      v("bn" + std::to_string(i + 1), convs[i].norm);
    }
    if (!downsample.empty()) v("downsample", downsample[0]);
  }
};

struct ResNet {
  std::vector<ConvNorm> stem;
  std::vector<Block> blocks;
  layers::Dropout dropout;
  layers::Linear fc;
};

Tensor shortcut(const Tensor& x, const Block& block) {
  if (block.downsample.empty()) return x;
  const Shortcut& down = block.downsample[0];
  const Tensor pooled = down.average && block.stride > 1 ? layers::avg_pool2d(x, {2, block.stride, 0}) : x;
  return layers::conv_bn(pooled, down.project.conv, down.project.norm);
}

Tensor forward(const Tensor& x, const Block& block) {
  Tensor y = x;
  for (size_t i = 0; i + 1 < block.convs.size(); ++i)
    y = layers::conv_bn(y, block.convs[i].conv, block.convs[i].norm, {}, Activation::relu);
  const ConvNorm& last = block.convs.back();
  if (block.drop_path.p == 0 || !context().training)
    return layers::conv_bn(y, last.conv, last.norm, shortcut(x, block), Activation::relu);
  y = layers::conv_bn(y, last.conv, last.norm);
  return layers::activation(layers::drop_path(y, block.drop_path, shortcut(x, block)), Activation::relu);
}

Tensor forward_stem(const Tensor& images, const std::vector<ConvNorm>& stem) {
  Tensor y = images;
  for (const ConvNorm& step : stem) y = layers::conv_bn(y, step.conv, step.norm, {}, Activation::relu);
  return layers::max_pool2d(y, {3, 2, 1});
}

void visit_stem(layers::Visitor& v, std::vector<ConvNorm>& stem) {
  if (stem.size() == 1) {
    v("conv1", stem[0].conv);
  } else {
    v("conv1.0", stem[0].conv);
    v("conv1.1", stem[0].norm);
    v("conv1.3", stem[1].conv);
    v("conv1.4", stem[1].norm);
    v("conv1.6", stem[2].conv);
  }
  v("bn1", stem.back().norm);
}

class Builder {
 public:
  explicit Builder(const ResNetConfig& config) : config_(config) {}

  std::shared_ptr<ResNet> build() const {
    auto net = std::make_shared<ResNet>();
    net->stem = stem();
    int64_t in = 64, total = 0;
    for (const int64_t count : config_.layers) total += count;
    for (int stage = 0; stage < 4; ++stage)
      for (int64_t i = 0; i < config_.layers[stage]; ++i) {
        const int64_t index = static_cast<int64_t>(net->blocks.size());
        const int64_t stride = stage > 0 && i == 0 ? 2 : 1;
        net->blocks.push_back(block(in, int64_t{64} << stage, stride));
        net->blocks.back().drop_path = {
            total > 1 ? config_.drop_path * static_cast<float>(index) / static_cast<float>(total - 1) : 0.0f,
            static_cast<uint32_t>(index)};
        in = (int64_t{64} << stage) * expansion();
      }
    net->dropout = {config_.dropout, 0};
    if (config_.classes > 0) net->fc = layers::Linear(in, config_.classes);
    return net;
  }

 private:
  int64_t expansion() const { return config_.block == ResNetConfig::Block::basic ? 1 : 4; }

  ConvNorm conv_norm(const layers::Conv2dShape& shape) const {
    return {Conv2d(shape),
            BatchNorm(shape.out, static_cast<float>(config_.norm_eps), static_cast<float>(config_.norm_momentum))};
  }

  std::vector<ConvNorm> stem() const {
    const int64_t width = config_.deep_stem;
    if (width == 0) return {conv_norm({.in = 3, .out = 64, .kernel = 7, .stride = 2, .pad = 3})};
    return {conv_norm({.in = 3, .out = width, .kernel = 3, .stride = 2, .pad = 1}),
            conv_norm({.in = width, .out = width, .kernel = 3, .pad = 1}),
            conv_norm({.in = width, .out = 64, .kernel = 3, .pad = 1})};
  }

  Block block(int64_t in, int64_t planes, int64_t stride) const {
    Block made;
    made.stride = stride;
    const int64_t out = planes * expansion();
    if (config_.block == ResNetConfig::Block::basic) {
      made.convs = {conv_norm({.in = in, .out = planes, .kernel = 3, .stride = stride, .pad = 1}),
                    conv_norm({.in = planes, .out = planes, .kernel = 3, .pad = 1})};
    } else {
      const int64_t width = planes * config_.base_width / 64 * config_.groups;
      made.convs = {
          conv_norm({.in = in, .out = width}),
          conv_norm({.in = width, .out = width, .kernel = 3, .stride = stride, .pad = 1, .groups = config_.groups}),
          conv_norm({.in = width, .out = out})};
    }
    if (stride > 1 || in != out)
      made.downsample = {
          {config_.avg_down, conv_norm({.in = in, .out = out, .stride = config_.avg_down ? 1 : stride})}};
    return made;
  }

  const ResNetConfig& config_;
};

// He et al.'s deviations for convolutions, and zero for the last scale of each block: it begins as the identity.
Tensor first_value(const ResNetConfig& config, const std::string& name, const layers::Parameter& parameter,
                   uint64_t seed) {
  const Shape& shape = parameter.shape();
  if (shape.rank() == 4) return layers::init_he_fan_out(shape, shape[0] * shape[1] * shape[2], seed, name);
  if (shape.rank() == 2) return layers::init_fan_in(shape, shape[1], seed, name);
  const bool last = name.ends_with(config.block == ResNetConfig::Block::basic ? ".bn2.weight" : ".bn3.weight");
  return name.ends_with(".weight") && !last ? layers::init_ones(shape) : layers::init_zeros(shape);
}

}  // namespace

Network make_resnet(const ResNetConfig& config) {
  const std::shared_ptr<ResNet> net = Builder(config).build();
  ResNet* n = net.get();
  std::vector<Stage> stages;
  stages.push_back({"stem", Stage::Kind::stem, [n](const Tensor& x) { return forward_stem(x, n->stem); },
                    [n](layers::Visitor& v) { visit_stem(v, n->stem); }});
  size_t index = 0;
  for (int stage = 0; stage < 4; ++stage)
    for (int64_t i = 0; i < config.layers[stage]; ++i) {
      Block* block = &n->blocks[index++];
      const std::string name = "layer" + std::to_string(stage + 1) + "." + std::to_string(i);
      stages.push_back({name, Stage::Kind::block, [block](const Tensor& x) { return forward(x, *block); },
                        [block, name](layers::Visitor& v) { v(name, *block); }});
    }
  stages.push_back({"global_pool", Stage::Kind::neck, [](const Tensor& x) { return layers::global_avg_pool(x); },
                    [](layers::Visitor&) {}});
  stages.push_back({"fc", Stage::Kind::head,
                    [n](const Tensor& x) {
                      return n->fc.weight.present() ? layers::linear(layers::dropout(x, n->dropout), n->fc) : x;
                    },
                    [n](layers::Visitor& v) {
                      if (n->fc.weight.present()) v("fc", n->fc);
                    }});
  return {net, std::move(stages), [config](const std::string& name, const layers::Parameter& parameter, uint64_t seed) {
            return first_value(config, name, parameter, seed);
          }};
}

}  // namespace vtl::models
