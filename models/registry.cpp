#include "vtl/models/registry.h"

#include <algorithm>

#include "vtl/core/error.h"
#include "vtl/models/registry_table.h"

namespace vtl::models {
namespace {

struct Split {
  std::string_view name, tag;  // tag is empty for a bare name
};

Split split(std::string_view full) {
  const size_t dot = full.find('.');
  if (dot == std::string_view::npos) return {full, {}};
  return {full.substr(0, dot), full.substr(dot + 1)};
}

const Architecture* find_architecture(std::string_view name) {
  const auto& table = architectures();
  const auto found = std::find_if(table.begin(), table.end(), [&](const Architecture& a) { return a.name == name; });
  return found == table.end() ? nullptr : &*found;
}

// The default tag for an empty one; null when there is none of that name.
const PretrainedTag* find_tag(std::string_view model, std::string_view tag) {
  for (const PretrainedTag& row : pretrained_tags())
    if (row.model == model && (tag.empty() || row.tag == tag)) return &row;
  return nullptr;
}

// Levenshtein's distance.
size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t replaced = diagonal + (a[i - 1] != b[j - 1] ? 1 : 0);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, replaced});
    }
  }
  return row[b.size()];
}

template <class Names>
std::string nearest(std::string_view wanted, Names names, size_t count) {
  std::stable_sort(names.begin(), names.end(),
                   [&](const auto& a, const auto& b) { return edit_distance(wanted, a) < edit_distance(wanted, b); });
  std::string text;
  for (size_t i = 0; i < std::min(count, names.size()); ++i) text += (i > 0 ? ", " : "") + std::string(names[i]);
  return text;
}

[[noreturn]] void fail_unknown_name(std::string_view name) {
  std::vector<std::string_view> names;
  for (const Architecture& a : architectures()) names.push_back(a.name);
  fail(ErrorKind::bad_model, "unknown model '", name, "'; the nearest names are ", nearest(name, names, 3),
       " (vtl-finetune models lists all)");
}

[[noreturn]] void fail_unknown_tag(const Split& wanted) {
  const std::vector<std::string> tags = list_tags(wanted.name);
  fail(ErrorKind::bad_model, "model ", wanted.name, " has no tag '", wanted.tag, "'; it has ",
       nearest(wanted.tag, tags, tags.size()));
}

Preprocessing preprocessing(const PretrainedTag& tag) {
  Preprocessing made;
  made.height = made.width = tag.size;
  made.crop_pct = tag.crop_pct;
  made.crop_mode = tag.crop_mode;
  made.interpolation = tag.interpolation;
  switch (tag.normalisation) {
    case Normalisation::imagenet:
      break;
    case Normalisation::half:
      made.mean = made.std = {0.5f, 0.5f, 0.5f};
      break;
    case Normalisation::zero_one:
      made.mean = {0, 0, 0};
      made.std = {1, 1, 1};
      break;
    case Normalisation::clip:
      made.mean = {0.48145466f, 0.4578275f, 0.40821073f};
      made.std = {0.26862954f, 0.26130258f, 0.27577711f};
      break;
  }
  return made;
}

std::string activation_name(kernels::Activation activation) {
  using kernels::Activation;
  switch (activation) {
    case Activation::gelu_erf:
      return "gelu";
    case Activation::gelu_tanh:
      return "gelu_tanh";
    case Activation::gelu_quick:
      return "gelu_quick";
    case Activation::relu:
      return "relu";
    case Activation::relu6:
      return "relu6";
    case Activation::silu:
      return "silu";
    case Activation::sigmoid:
      return "sigmoid";
    case Activation::none:
      return "none";
  }
  return "none";
}

template <class Config>
void apply(const ModelOptions& options, int64_t classes, Config& config) {
  config.classes = classes;
  config.dropout = options.dropout;
  config.drop_path = options.drop_path;
  config.norm_eps = options.norm_eps.value_or(config.norm_eps);
}

Network build(ResNetConfig config, const ModelOptions& options, ModelFacts& facts) {
  apply(options, facts.classes, config);
  facts.family = "resnet";
  facts.features = config.features();
  facts.classifier = "fc";
  facts.first_conv = config.deep_stem > 0 ? "conv1.0" : "conv1";
  facts.constants = {config.norm_eps, "relu", "symmetric", "avg"};
  return make_resnet(config);
}

Network build(EfficientNetConfig config, const ModelOptions& options, ModelFacts& facts) {
  apply(options, facts.classes, config);
  facts.family = "efficientnet";
  facts.features = config.features();
  facts.classifier = "classifier";
  facts.first_conv = "conv_stem";
  facts.constants = {config.norm_eps, activation_name(config.activation),
                     config.padding == layers::Padding::same ? "same" : "symmetric", "avg"};
  return make_efficientnet(config);
}

Network build(VitConfig config, const ModelOptions& options, ModelFacts& facts) {
  apply(options, facts.classes, config);
  if (options.pool && *options.pool != (config.pool == VitConfig::Pool::token ? "token" : "avg")) {
    config.pool = *options.pool == "token" ? VitConfig::Pool::token : VitConfig::Pool::average;
    config.fc_norm = config.pool == VitConfig::Pool::average;
  }
  VTL_CHECK(config.pool == VitConfig::Pool::average || config.class_token, "model ", facts.name,
            ": it has no class token to pool, choose the pooling 'avg'");
  config.height = facts.preprocessing.height;
  config.width = facts.preprocessing.width;
  facts.family = "vit";
  facts.features = config.features();
  facts.classifier = "head";
  facts.first_conv = "patch_embed.proj";
  facts.constants = {config.norm_eps, activation_name(config.activation), "symmetric",
                     config.pool == VitConfig::Pool::token ? "token" : "avg"};
  return make_vit(config);
}

std::vector<std::string> dialects(const Architecture& architecture) {
  if (const auto* resnet = std::get_if<ResNetConfig>(&architecture.config)) {
    if (resnet->deep_stem > 0) return {"timm"};
    if (resnet->groups > 1 || resnet->base_width != 64) return {"timm", "torchvision"};
    return {"timm", "torchvision", "huggingface"};
  }
  if (const auto* vit = std::get_if<VitConfig>(&architecture.config)) {
    const bool plain =
        vit->class_token && vit->registers == 0 && !vit->pre_norm && vit->layer_scale == 0 && vit->qkv_bias;
    if (!plain) return {"timm"};
    if (vit->distilled) return {"timm", "huggingface"};
    return {"timm", "torchvision", "huggingface"};
  }
  return {"timm"};
}

}  // namespace

std::vector<ModelSummary> list_models() {
  std::vector<ModelSummary> summaries;
  for (const Architecture& architecture : architectures()) {
    const Model model = describe_model(architecture.name);
    summaries.push_back({model.facts.name, model.facts.tag, model.facts.family, count_parameters(model).total,
                         model.facts.preprocessing.height, dialects(architecture)});
  }
  return summaries;
}

std::vector<std::string> list_tags(std::string_view name) {
  std::vector<std::string> tags;
  for (const PretrainedTag& row : pretrained_tags())
    if (row.model == name) tags.emplace_back(row.tag);
  return tags;
}

bool is_known(std::string_view name) {
  const Split wanted = split(name);
  return find_architecture(wanted.name) && find_tag(wanted.name, wanted.tag);
}

Model describe_model(std::string_view name, const ModelOptions& options) {
  const Split wanted = split(name);
  const Architecture* architecture = find_architecture(wanted.name);
  if (!architecture) fail_unknown_name(wanted.name);
  const PretrainedTag* tag = find_tag(wanted.name, wanted.tag);
  if (!tag) fail_unknown_tag(wanted);
  VTL_CHECK(options.classes.value_or(0) >= 0, "model ", name, ": ", options.classes.value_or(0), " classes");
  VTL_CHECK(options.pool.value_or("avg") == "avg" || options.pool == "token", "model ", name, ": the pooling '",
            options.pool.value_or(""), "', expected 'token' or 'avg'");
  ModelFacts facts;
  facts.name = wanted.name;
  facts.tag = tag->tag;
  facts.classes = options.classes.value_or(tag->classes);
  facts.licence = tag->licence;
  facts.preprocessing = preprocessing(*tag);
  facts.preprocessing.height = options.height.value_or(facts.preprocessing.height);
  facts.preprocessing.width = options.width.value_or(facts.preprocessing.width);
  Network network = std::visit([&](const auto& config) { return build(config, options, facts); }, architecture->config);
  return Model(std::move(facts), options.precision, options.device, std::move(network));
}

Model create_model(std::string_view name, const ModelOptions& options) {
  Model model = describe_model(name, options);
  model.initialise(options.seed);
  return model;
}

}  // namespace vtl::models
