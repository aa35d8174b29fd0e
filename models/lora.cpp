#include "vtl/models/lora.h"

#include <algorithm>

#include "vtl/core/error.h"
#include "vtl/layers/conv2d.h"
#include "vtl/layers/elementwise.h"
#include "vtl/layers/init.h"
#include "vtl/layers/linear.h"
#include "vtl/layers/shape_ops.h"
#include "vtl/models/lora_sites.h"

namespace vtl::models {

std::vector<LoraSite> lora_sites(const Model& model) {
  class Finder : public layers::Visitor {
   public:
    std::vector<LoraSite> sites;
    Stage::Kind kind = Stage::Kind::stem;

    void on_linear(const std::string& name, layers::Linear& layer) override {
      sites.push_back({name, kind, &layer.weight, &layer.low_rank, nullptr});
    }
    void on_conv2d(const std::string& name, layers::Conv2d& layer) override {
      if (layer.shape.groups == 1 && layer.shape.dilation == 1)
        sites.push_back({name, kind, &layer.weight, &layer.low_rank, &layer.shape});
    }
  };
  Finder finder;
  for (const Stage& stage : model.stages()) {
    if (stage.kind == Stage::Kind::head) continue;
    finder.kind = stage.kind;
    stage.visit(finder);
  }
  return std::move(finder.sites);
}

std::vector<std::string> LoraSite::parts() const {
  if (!name.ends_with(".qkv")) return {};
  return {"q", "k", "v"};
}

std::string LoraSite::part_name(const std::string& part) const { return name.substr(0, name.size() - 3) + part; }

void put_adapter(LoadedModel& loaded, const LoraSite& site, const AdapterSpec& spec) {
  layers::LowRank adapter;
  adapter.part = spec.part;
  adapter.scale = spec.scale;
  int64_t rows = site.weight->shape()[0];
  if (!spec.part.empty()) {
    const std::vector<std::string> parts = site.parts();
    rows /= static_cast<int64_t>(parts.size());
    adapter.row_begin = rows * (std::find(parts.begin(), parts.end(), spec.part) - parts.begin());
  }
  const Shape& weight = site.weight->shape();
  if (site.conv) {
    adapter.a = layers::Parameter(weight.with(0, spec.rank), layers::Role::matrix, layers::FileLayout::oihw);
    adapter.b = layers::Parameter({rows, 1, 1, spec.rank}, layers::Role::matrix, layers::FileLayout::oihw);
  } else {
    adapter.a = layers::Parameter({spec.rank, weight[1]}, layers::Role::matrix);
    adapter.b = layers::Parameter({rows, spec.rank}, layers::Role::matrix);
  }
  const std::string prefix = site.name + "." + (spec.part.empty() ? "" : spec.part + ".");
  const auto give = [&](layers::Parameter& parameter, const std::string& name, const Tensor& values) {
    parameter.set_value(to_working(values, parameter, loaded.model.precision, loaded.model.device));
    if (parameter.value().dtype() != DType::f32) loaded.masters[name] = values.to(loaded.model.device);
  };
  give(adapter.a, prefix + "lora_A.weight", spec.a);
  give(adapter.b, prefix + "lora_B.weight", spec.b);
  site.adapters->push_back(std::move(adapter));
}

namespace {

std::string join(const std::vector<std::string>& names, size_t limit) {
  std::string text;
  for (size_t i = 0; i < std::min(limit, names.size()); ++i) text += (i > 0 ? ", " : "") + names[i];
  return text + (names.size() > limit ? concat(", ... (", names.size(), " in all)") : "");
}

bool is_named(const std::string& name, const std::string& target) {
  return name == target || name.ends_with("." + target);
}

// What a target means for a site: nothing, all of it (an empty part), or one of its parts.
std::optional<std::string> targeted_part(const LoraSite& site, const std::string& target) {
  // Patches are embedded by a layer that is called "proj", too: what lies in the stem is meant only when named in full.
  if (site.stage == Stage::Kind::stem) return site.name == target ? std::optional<std::string>("") : std::nullopt;
  if (is_named(site.name, target)) return "";
  for (const std::string& part : site.parts())
    if (is_named(site.part_name(part), target)) return part;
  return std::nullopt;
}

bool is_default_target(const LoraSite& site, const std::string& family) {
  if (site.stage == Stage::Kind::stem) return false;
  return family == "vit" || site.conv;
}

void add(LoadedModel& loaded, const LoraSite& site, const std::string& part, const LoraOptions& options) {
  const Shape& weight = site.weight->shape();
  const int64_t fan_in = weight.numel() / weight[0];
  const int64_t rows = part.empty() ? weight[0] : weight[0] / 3;
  const Shape a = site.conv ? weight.with(0, options.rank) : Shape{options.rank, weight[1]};
  const Shape b = site.conv ? Shape{rows, 1, 1, options.rank} : Shape{rows, options.rank};
  const std::string name = site.name + "." + (part.empty() ? "" : part + ".") + "lora_A.weight";
  put_adapter(loaded, site,
              {part, options.rank, static_cast<float>(options.alpha / static_cast<double>(options.rank)),
               layers::init_fan_in(a, fan_in, options.seed, name), layers::init_zeros(b)});
}

}  // namespace

std::vector<std::string> adaptable_layers(const Model& model) {
  std::vector<std::string> names;
  for (const LoraSite& site : lora_sites(model)) names.push_back(site.name);
  return names;
}

std::vector<std::string> attach_lora(LoadedModel& loaded, const LoraOptions& options) {
  VTL_CHECK(options.rank > 0, "attach_lora: rank ", options.rank, ", expected 1 or more");
  VTL_CHECK(options.alpha > 0, "attach_lora: alpha ", options.alpha, ", expected a number above 0");
  VTL_CHECK(!has_lora(loaded.model), "attach_lora: the model has adapters already; merge or remove them first");
  NoTapeScope no_tape;
  std::vector<bool> used(options.targets.size());
  std::vector<std::string> names;
  for (const LoraSite& site : lora_sites(loaded.model)) {
    const auto put = [&](const std::string& part) {
      add(loaded, site, part, options);
      names.push_back(part.empty() ? site.name : site.part_name(part));
    };
    if (options.targets.empty()) {
      if (is_default_target(site, loaded.model.facts.family)) put("");
      continue;
    }
    std::vector<std::string> parts;
    for (size_t i = 0; i < options.targets.size(); ++i)
      if (const auto part = targeted_part(site, options.targets[i])) {
        used[i] = true;
        if (std::find(parts.begin(), parts.end(), *part) == parts.end()) parts.push_back(*part);
      }
    const bool whole = std::find(parts.begin(), parts.end(), "") != parts.end();
    if (whole) parts = {""};
    for (const std::string& part : parts) put(part);
  }
  std::vector<std::string> unknown;
  for (size_t i = 0; i < used.size(); ++i)
    if (!used[i]) unknown.push_back(options.targets[i]);
  if (!unknown.empty()) {
    remove_lora(loaded);
    throw Error(ErrorKind::bad_argument,
                concat("attach_lora: no layer of ", loaded.model.facts.name, " is called ", join(unknown, 5),
                       "; adapters can be put on ", join(adaptable_layers(loaded.model), 12)),
                unknown);
  }
  return names;
}

Tensor merged_weight(const LoadedModel& loaded, const std::string& name, const Tensor& weight,
                     const std::vector<layers::LowRank>& adapters) {
  NoTapeScope no_tape;
  const std::string layer = name.substr(0, name.size() - std::string_view("weight").size());
  const int64_t outs = weight.dim(0), ins = weight.numel() / outs;
  const Tensor merged = empty_like(weight);
  merged.copy_from(weight.value());
  const Tensor rows = merged.reshape({outs, ins});
  for (const layers::LowRank& adapter : adapters) {
    const std::string prefix = layer + (adapter.part.empty() ? "" : adapter.part + ".");
    const int64_t rank = adapter.rank(), count = adapter.b.shape()[0];
    const Tensor a = master_values(loaded, prefix + "lora_A.weight", adapter.a).reshape({rank, ins}).value();
    const Tensor b = master_values(loaded, prefix + "lora_B.weight", adapter.b).reshape({count, rank}).value();
    const Tensor product = layers::linear(b, layers::permute(a, {1, 0}), {});
    const Tensor part = rows.slice(0, adapter.row_begin, adapter.row_begin + count);
    part.copy_from(layers::add(part, layers::scale(product, adapter.scale)));
  }
  return merged;
}

void merge_lora(LoadedModel& loaded) {
  NoTapeScope no_tape;
  for (const LoraSite& site : lora_sites(loaded.model)) {
    if (site.adapters->empty()) continue;
    const std::string name = site.name + ".weight";
    layers::Parameter& weight = *site.weight;
    const Tensor merged = merged_weight(loaded, name, master_values(loaded, name, weight), *site.adapters);
    if (weight.learns()) {
      weight.make_learn(merged);
    } else {
      weight.set_value(to_working(merged, weight, loaded.model.precision, loaded.model.device));
      if (weight.value().dtype() != DType::f32) loaded.masters[name] = merged;
    }
    loaded.changed.insert(name);
  }
  remove_lora(loaded);
}

void remove_lora(LoadedModel& loaded) {
  for (const LoraSite& site : lora_sites(loaded.model)) site.adapters->clear();
  std::erase_if(loaded.masters, [](const auto& entry) { return is_adapter_name(entry.first); });
  std::erase_if(loaded.changed, [](const std::string& name) { return is_adapter_name(name); });
}

bool has_lora(const Model& model) {
  const std::vector<LoraSite> sites = lora_sites(model);
  return std::any_of(sites.begin(), sites.end(), [](const LoraSite& site) { return !site.adapters->empty(); });
}

bool is_adapter_name(std::string_view name) {
  return name.ends_with(".lora_A.weight") || name.ends_with(".lora_B.weight");
}

}  // namespace vtl::models
