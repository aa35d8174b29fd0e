#include "vtl/models/vit.h"

#include "vtl/core/error.h"
#include "vtl/layers/attention.h"
#include "vtl/layers/conv2d.h"
#include "vtl/layers/dropout.h"
#include "vtl/layers/elementwise.h"
#include "vtl/layers/init.h"
#include "vtl/layers/layernorm.h"
#include "vtl/layers/linear.h"
#include "vtl/layers/shape_ops.h"
#include "vtl/layers/tokens.h"

namespace vtl::models {
namespace {

using layers::LayerNorm;
using layers::Linear;
using layers::Parameter;

struct Attention {
  Linear qkv, proj;

  void visit(layers::Visitor& v) {
    v("qkv", qkv);
    v("proj", proj);
  }
};

struct Mlp {
  Linear fc1, fc2;

  void visit(layers::Visitor& v) {
    v("fc1", fc1);
    v("fc2", fc2);
  }
};

struct Block {
  LayerNorm norm1, norm2;
  Attention attn;
  Mlp mlp;
  Parameter scale1, scale2;  // [dim] or absent
  layers::Dropout drop_path1, drop_path2;

  void visit(layers::Visitor& v) {
    v("norm1", norm1);
    v("attn", attn);
    v("ls1.gamma", scale1);
    v("norm2", norm2);
    v("mlp", mlp);
    v("ls2.gamma", scale2);
  }
};

struct Vit {
  VitConfig config;
  layers::Conv2d patch_embed;
  Parameter cls_token, dist_token, reg_token, pos_embed;
  LayerNorm norm_pre;  // absent weights unless config.pre_norm
  std::vector<Block> blocks;
  LayerNorm norm;  // `norm` or `fc_norm`
  layers::Dropout dropout;
  Linear head, head_dist;
};

// residual + drop_path(scale * (x W^T + b)) in as few passes as there are parts.
Tensor add_branch(const Tensor& x, const Linear& last, const Parameter& scale, const layers::Dropout& drop,
                  const Tensor& residual) {
  const bool drops = drop.p > 0 && context().training;
  if (!drops && !scale.present()) return layers::linear(x, last, residual);
  const Tensor branch = layers::linear(x, last);
  if (!drops) return layers::layer_scale(branch, scale.value(), residual);
  return layers::drop_path(scale.present() ? layers::layer_scale(branch, scale.value(), {}) : branch, drop, residual);
}

Tensor hidden(const Tensor& x, const Block& block, const VitConfig& config) {
  return layers::linear(x, block.mlp.fc1, {}, config.activation);
}

Tensor attend(const Tensor& x, const Block& block, const VitConfig& config) {
  return layers::self_attention(layers::linear(x, block.attn.qkv), config.heads);
}

Tensor forward_norms_before(const Tensor& x, const Block& block, const VitConfig& config) {
  const Tensor attended = attend(layers::layernorm(x, block.norm1), block, config);
  const Tensor y = add_branch(attended, block.attn.proj, block.scale1, block.drop_path1, x);
  return add_branch(hidden(layers::layernorm(y, block.norm2), block, config), block.mlp.fc2, block.scale2,
                    block.drop_path2, y);
}

Tensor forward_norms_after(const Tensor& x, const Block& block, const VitConfig& config) {
  const Tensor attended = layers::layernorm(layers::linear(attend(x, block, config), block.attn.proj), block.norm1);
  const Tensor y = layers::drop_path(attended, block.drop_path1, x);
  const Tensor mlp = layers::layernorm(layers::linear(hidden(y, block, config), block.mlp.fc2), block.norm2);
  return layers::drop_path(mlp, block.drop_path2, y);
}

Tensor embed(const Tensor& images, const Vit& net) {
  const VitConfig& config = net.config;
  VTL_CHECK(images.dim(1) == config.height && images.dim(2) == config.width, "vit: images of ", images.dim(1), " x ",
            images.dim(2), ", but the position embedding is for ", config.height, " x ", config.width,
            "; make the model with the images' input size");
  const Tensor grid = layers::conv2d(images, net.patch_embed);
  std::vector<Tensor> prefix;
  for (const Parameter* token : {&net.cls_token, &net.dist_token, &net.reg_token})
    if (token->present()) prefix.push_back(token->value());
  const Tensor tokens =
      layers::insert_tokens(grid.reshape({grid.dim(0), config.patches(), config.dim}), prefix, net.pos_embed.value());
  return config.pre_norm ? layers::layernorm(tokens, net.norm_pre) : tokens;
}

// The norm is per token, so a pooled token is picked before it, which leaves the others out of the work.
Tensor pool(const Tensor& x, const Vit& net) {
  const VitConfig& config = net.config;
  if (config.distilled)
    return layers::layernorm(layers::slice(x, 1, 0, 2), net.norm).reshape({x.dim(0), 2 * config.dim});
  if (config.pool == VitConfig::Pool::token) return layers::layernorm(layers::pool_tokens(x, 0, 1), net.norm);
  const int64_t begin = config.prefix_tokens(), end = x.dim(1);
  if (config.fc_norm) return layers::layernorm(layers::pool_tokens(x, begin, end), net.norm);
  return layers::pool_tokens(layers::layernorm(x, net.norm), begin, end);
}

Tensor classify(const Tensor& features, const Vit& net) {
  const VitConfig& config = net.config;
  if (config.classes == 0) return features;
  const Tensor x = layers::dropout(features, net.dropout);
  if (!config.distilled) return layers::linear(x, net.head);
  const Tensor own = layers::linear(layers::slice(x, 1, 0, config.dim), net.head);
  return layers::scale(layers::linear(layers::slice(x, 1, config.dim, 2 * config.dim), net.head_dist, own), 0.5f);
}

Block make_block(const VitConfig& config, int64_t index) {
  const float eps = static_cast<float>(config.norm_eps);
  const float drop =
      config.depth > 1 ? config.drop_path * static_cast<float>(index) / static_cast<float>(config.depth - 1) : 0;
  const uint32_t layer = 2 * static_cast<uint32_t>(index);
  Block block;
  block.norm1 = LayerNorm(config.dim, eps);
  block.norm2 = LayerNorm(config.dim, eps);
  block.attn.qkv = Linear(config.dim, 3 * config.dim, config.qkv_bias ? Linear::Bias::yes : Linear::Bias::no);
  block.attn.proj = Linear(config.dim, config.dim);
  block.mlp.fc1 = Linear(config.dim, config.mlp);
  block.mlp.fc2 = Linear(config.mlp, config.dim);
  if (config.layer_scale > 0) {
    block.scale1 = Parameter({config.dim}, layers::Role::vector);
    block.scale2 = Parameter({config.dim}, layers::Role::vector);
  }
  block.drop_path1 = {drop, layer};
  block.drop_path2 = {drop, layer + 1};
  return block;
}

std::shared_ptr<Vit> build(const VitConfig& config) {
  VTL_CHECK(
      config.height % config.patch == 0 && config.width % config.patch == 0 && config.height > 0 && config.width > 0,
      "vit: an input of ", config.height, " x ", config.width, " is not made of patches of ", config.patch, " x ",
      config.patch, "; choose multiples of ", config.patch);
  auto net = std::make_shared<Vit>();
  const int64_t dim = config.dim;
  const float eps = static_cast<float>(config.norm_eps);
  const auto token = [dim](int64_t count) { return Parameter({1, count, dim}, layers::Role::token); };
  net->config = config;
  net->patch_embed = layers::Conv2d({.in = 3, .out = dim, .kernel = config.patch, .stride = config.patch},
                                    config.pre_norm ? Linear::Bias::no : Linear::Bias::yes);
  if (config.class_token) net->cls_token = token(1);
  if (config.distilled) net->dist_token = token(1);
  if (config.registers > 0) net->reg_token = token(config.registers);
  net->pos_embed = token(config.patches() + (config.position_on_patches ? 0 : config.prefix_tokens()));
  if (config.pre_norm) net->norm_pre = LayerNorm(dim, eps);
  for (int64_t i = 0; i < config.depth; ++i) net->blocks.push_back(make_block(config, i));
  net->norm = LayerNorm(dim, eps);
  net->dropout = {config.dropout, 0};
  if (config.classes > 0) net->head = Linear(dim, config.classes);
  if (config.classes > 0 && config.distilled) net->head_dist = Linear(dim, config.classes);
  return net;
}

// timm's choices: deviations of 0.02 for matrices and positions, next to nothing for class and register tokens.
Tensor first_value(const VitConfig& config, const std::string& name, const Parameter& parameter, uint64_t seed) {
  const Shape& shape = parameter.shape();
  if (name.ends_with(".gamma")) return layers::init_constant(shape, config.layer_scale);
  if (name == "cls_token" || name == "reg_token") return layers::init_trunc_normal(shape, 1e-6f, seed, name);
  if (parameter.role() == layers::Role::token) return layers::init_trunc_normal(shape, 0.02f, seed, name);
  if (shape.rank() == 4) return layers::init_fan_in(shape, shape[1] * shape[2] * shape[3], seed, name);
  if (shape.rank() == 2) return layers::init_trunc_normal(shape, 0.02f, seed, name);
  return name.ends_with(".weight") ? layers::init_ones(shape) : layers::init_zeros(shape);
}

}  // namespace

Network make_vit(const VitConfig& config) {
  const std::shared_ptr<Vit> net = build(config);
  Vit* n = net.get();
  std::vector<Stage> stages;
  stages.push_back({"stem", Stage::Kind::stem, [n](const Tensor& x) { return embed(x, *n); },
                    [n](layers::Visitor& v) {
                      v("cls_token", n->cls_token);
                      v("dist_token", n->dist_token);
                      v("reg_token", n->reg_token);
                      v("pos_embed", n->pos_embed);
                      v("patch_embed.proj", n->patch_embed);
                      if (n->config.pre_norm) v("norm_pre", n->norm_pre);
                    }});
  for (int64_t i = 0; i < config.depth; ++i) {
    Block* block = &n->blocks[static_cast<size_t>(i)];
    const std::string name = "blocks." + std::to_string(i);
    stages.push_back({name, Stage::Kind::block,
                      [n, block](const Tensor& x) {
                        return n->config.norms == VitConfig::Norms::before ? forward_norms_before(x, *block, n->config)
                                                                           : forward_norms_after(x, *block, n->config);
                      },
                      [block, name](layers::Visitor& v) { v(name, *block); }});
  }
  const std::string norm_name = config.fc_norm ? "fc_norm" : "norm";
  stages.push_back({norm_name, Stage::Kind::neck, [n](const Tensor& x) { return pool(x, *n); },
                    [n, norm_name](layers::Visitor& v) { v(norm_name, n->norm); }});
  stages.push_back({"head", Stage::Kind::head, [n](const Tensor& x) { return classify(x, *n); },
                    [n](layers::Visitor& v) {
                      if (n->config.classes == 0) return;
                      v("head", n->head);
                      if (n->config.distilled) v("head_dist", n->head_dist);
                    }});
  return {net, std::move(stages), [config](const std::string& name, const Parameter& parameter, uint64_t seed) {
            return first_value(config, name, parameter, seed);
          }};
}

}  // namespace vtl::models
