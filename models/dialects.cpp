#include "vtl/models/dialects.h"

#include <algorithm>
#include <array>

namespace vtl::models {
namespace {

// In `from`, # stands for a number and a final * for the rest. In `to` they come back in order, @ as the number plus
// one.
struct Rule {
  std::string_view from, to;
  int part = -1;
};

constexpr Rule kTorchvisionVit[] = {
    {"class_token", "cls_token"},
    {"conv_proj.*", "patch_embed.proj.*"},
    {"encoder.pos_embedding", "pos_embed"},
    {"encoder.layers.encoder_layer_#.ln_1.*", "blocks.#.norm1.*"},
    {"encoder.layers.encoder_layer_#.self_attention.in_proj_weight", "blocks.#.attn.qkv.weight"},
    {"encoder.layers.encoder_layer_#.self_attention.in_proj_bias", "blocks.#.attn.qkv.bias"},
    {"encoder.layers.encoder_layer_#.self_attention.out_proj.*", "blocks.#.attn.proj.*"},
    {"encoder.layers.encoder_layer_#.ln_2.*", "blocks.#.norm2.*"},
    {"encoder.layers.encoder_layer_#.mlp.0.*", "blocks.#.mlp.fc1.*"},
    {"encoder.layers.encoder_layer_#.mlp.3.*", "blocks.#.mlp.fc2.*"},
    {"encoder.layers.encoder_layer_#.mlp.linear_1.*", "blocks.#.mlp.fc1.*"},
    {"encoder.layers.encoder_layer_#.mlp.linear_2.*", "blocks.#.mlp.fc2.*"},
    {"encoder.ln.*", "norm.*"},
    {"heads.head.*", "head.*"},
};

// After "vit." or "deit.", which models without a head do not have.
constexpr Rule kHuggingFaceVit[] = {
    {"embeddings.cls_token", "cls_token"},
    {"embeddings.distillation_token", "dist_token"},
    {"embeddings.position_embeddings", "pos_embed"},
    {"embeddings.mask_token", ""},
    {"embeddings.patch_embeddings.projection.*", "patch_embed.proj.*"},
    {"encoder.layer.#.layernorm_before.*", "blocks.#.norm1.*"},
    {"encoder.layer.#.attention.attention.query.*", "blocks.#.attn.qkv.*", 0},
    {"encoder.layer.#.attention.attention.key.*", "blocks.#.attn.qkv.*", 1},
    {"encoder.layer.#.attention.attention.value.*", "blocks.#.attn.qkv.*", 2},
    {"encoder.layer.#.attention.output.dense.*", "blocks.#.attn.proj.*"},
    {"encoder.layer.#.layernorm_after.*", "blocks.#.norm2.*"},
    {"encoder.layer.#.intermediate.dense.*", "blocks.#.mlp.fc1.*"},
    {"encoder.layer.#.output.dense.*", "blocks.#.mlp.fc2.*"},
    {"layernorm.*", "norm.*"},
    {"pooler.dense.*", ""},
    {"classifier.*", "head.*"},
    {"cls_classifier.*", "head.*"},
    {"distillation_classifier.*", "head_dist.*"},
};

// After "resnet.", likewise.
constexpr Rule kHuggingFaceResNet[] = {
    {"embedder.embedder.convolution.*", "conv1.*"},
    {"embedder.embedder.normalization.*", "bn1.*"},
    {"encoder.stages.#.layers.#.layer.#.convolution.*", "layer@.#.conv@.*"},
    {"encoder.stages.#.layers.#.layer.#.normalization.*", "layer@.#.bn@.*"},
    {"encoder.stages.#.layers.#.shortcut.convolution.*", "layer@.#.downsample.0.*"},
    {"encoder.stages.#.layers.#.shortcut.normalization.*", "layer@.#.downsample.1.*"},
    {"classifier.1.*", "fc.*"},
};

// Original repositories whose names are timm's but for these.
constexpr Rule kTimmVit[] = {
    {"blocks.#.gamma_1", "blocks.#.ls1.gamma"},  // DeiT III
    {"blocks.#.gamma_2", "blocks.#.ls2.gamma"},
    {"mask_token", ""},  // DINOv2
};

constexpr std::string_view kWrappers[] = {"module.",  "_orig_mod.", "state_dict.", "model.",
                                          "student.", "teacher.",   "ema.",        "base_model.model."};

bool is_digit(char c) { return c >= '0' && c <= '9'; }

// Writes `to` with what `name` has in the places of `from`; nothing when it does not fit.
std::optional<std::string> apply(const Rule& rule, std::string_view name) {
  std::array<int64_t, 4> numbers{};
  size_t count = 0, at = 0;
  std::string_view rest;
  for (const char c : rule.from) {
    if (c == '*') {
      rest = name.substr(at);
      at = name.size();
    } else if (c == '#') {
      const size_t begin = at;
      int64_t number = 0;
      while (at < name.size() && is_digit(name[at]) && at - begin < 6) number = 10 * number + (name[at++] - '0');
      if (at == begin || (name[begin] == '0' && at - begin > 1)) return std::nullopt;
      numbers[count++] = number;
    } else if (at == name.size() || name[at++] != c) {
      return std::nullopt;
    }
  }
  if (at != name.size()) return std::nullopt;
  std::string made;
  count = 0;
  for (const char c : rule.to) {
    if (c == '*')
      made += rest;
    else if (c == '#' || c == '@')
      made += std::to_string(numbers[count++] + (c == '@' ? 1 : 0));
    else
      made += c;
  }
  return made;
}

std::optional<Renamed> apply_first(std::span<const Rule> rules, std::string_view name) {
  for (const Rule& rule : rules)
    if (auto made = apply(rule, name)) return Renamed{std::move(*made), rule.part};
  return std::nullopt;
}

std::string_view without(std::string_view prefix, std::string_view name) {
  return name.starts_with(prefix) ? name.substr(prefix.size()) : name;
}

std::string wrapper_prefix(std::span<const std::string> names) {
  std::string prefix;
  for (bool found = !names.empty(); found;) {
    found = false;
    for (const std::string_view wrapper : kWrappers) {
      const std::string longer = prefix + std::string(wrapper);
      if (!std::all_of(names.begin(), names.end(), [&](const std::string& n) { return n.starts_with(longer); }))
        continue;
      prefix = longer;
      found = true;
      break;
    }
  }
  return prefix;
}

// One look each: a tensor that nobody else has.
struct Mark {
  std::string_view tensor;
  Dialect dialect;
  std::string_view family;
};

constexpr Mark kMarks[] = {
    {"layer1.0.conv1.weight", Dialect::timm, "resnet"},
    {"resnet.embedder.embedder.convolution.weight", Dialect::huggingface, "resnet"},
    {"embedder.embedder.convolution.weight", Dialect::huggingface, "resnet"},
    {"blocks.0.attn.qkv.weight", Dialect::timm, "vit"},
    {"conv_proj.weight", Dialect::torchvision, "vit"},
    {"vit.embeddings.patch_embeddings.projection.weight", Dialect::huggingface, "vit"},
    {"deit.embeddings.patch_embeddings.projection.weight", Dialect::huggingface, "vit"},
    {"embeddings.patch_embeddings.projection.weight", Dialect::huggingface, "vit"},
    {"conv_stem.weight", Dialect::timm, "efficientnet"},
};

struct ForeignMark {
  std::string_view tensor, description;
};

constexpr ForeignMark kForeign[] = {
    {"image_encoder.pos_embed", "SAM"},
    {"vision_encoder.pos_embed", "SAM as Hugging Face stores it"},
    {"visual.class_embedding", "CLIP in OpenAI's names"},
    {"vision_model.pre_layrnorm.weight", "CLIP as Hugging Face stores it"},
    {"features.1.0.layer_scale", "ConvNeXt in torchvision's names"},
    {"features.0.0.weight", "an EfficientNet or MobileNet in torchvision's names"},
    {"efficientnet.embeddings.convolution.weight", "EfficientNet as Hugging Face stores it"},
    {"convnext.embeddings.patch_embeddings.weight", "ConvNeXt as Hugging Face stores it"},
    {"downsample_layers.0.0.weight", "ConvNeXt in its original names"},
    {"stages.0.blocks.0.conv_dw.weight", "ConvNeXt in timm's names"},
    {"dinov2.embeddings.cls_token", "DINOv2 as Hugging Face stores it"},
    {"backbone.body.conv1.weight", "a torchvision detection model"},
};

}  // namespace

const char* name(Dialect dialect) {
  switch (dialect) {
    case Dialect::timm:
      return "timm";
    case Dialect::torchvision:
      return "torchvision";
    case Dialect::huggingface:
      return "huggingface";
  }
  return "timm";
}

std::optional<Recognised> recognise(std::span<const std::string> names) {
  const std::string prefix = wrapper_prefix(names);
  for (const Mark& mark : kMarks)
    if (std::find(names.begin(), names.end(), prefix + std::string(mark.tensor)) != names.end())
      return Recognised{mark.dialect, std::string(mark.family), prefix};
  return std::nullopt;
}

std::string describe_foreign(std::span<const std::string> names) {
  const std::string prefix = wrapper_prefix(names);
  for (const ForeignMark& mark : kForeign)
    if (std::find(names.begin(), names.end(), prefix + std::string(mark.tensor)) != names.end())
      return std::string(mark.description);
  const auto has_visual_trunk = [](const std::string& n) { return n.starts_with("visual.trunk."); };
  if (std::any_of(names.begin(), names.end(), has_visual_trunk)) return "an open_clip model with a timm tower";
  return {};
}

std::optional<Renamed> rename(const Recognised& recognised, std::string_view full) {
  const std::string_view name = without(recognised.prefix, full);
  if (recognised.dialect == Dialect::torchvision) return apply_first(kTorchvisionVit, name);
  if (recognised.dialect == Dialect::huggingface) {
    if (recognised.family == "resnet") return apply_first(kHuggingFaceResNet, without("resnet.", name));
    return apply_first(kHuggingFaceVit, without("vit.", without("deit.", name)));
  }
  if (recognised.family == "vit")
    if (auto renamed = apply_first(kTimmVit, name)) return renamed;
  return Renamed{std::string(name), -1};
}

}  // namespace vtl::models
