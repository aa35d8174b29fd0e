#include "vtl/models/adapter.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <set>

#include "vtl/core/error.h"
#include "vtl/io/adapter_file.h"
#include "vtl/layers/batchnorm.h"
#include "vtl/models/dialects.h"
#include "vtl/models/lora.h"
#include "vtl/models/lora_sites.h"
#include "vtl/models/pretrained_source.h"
#include "vtl/models/registry.h"

namespace vtl::models {
namespace {

Tensor host_copy(const Tensor& values) {
  const Tensor host = values.to(Device::cpu());
  const Tensor copy = Tensor::empty(host.shape(), host.dtype(), Device::cpu());
  std::memcpy(copy.data(), host.data(), host.bytes());
  return copy;
}

// The modules of a model, for storing some of them whole.
class Modules : public layers::Visitor {
 public:
  struct Member {
    std::string name;
    layers::Parameter* parameter;  // or
    Tensor* buffer;
  };
  std::map<std::string, std::vector<Member>> members;  // by module
  std::set<std::string> norms;

  void on_parameter(const std::string& name, layers::Parameter& parameter) override {
    if (!is_adapter_name(name)) add({name, &parameter, nullptr});
  }
  void on_buffer(const std::string& name, Tensor& buffer) override { add({name, nullptr, &buffer}); }
  void on_batchnorm(const std::string& name, layers::BatchNorm&) override { norms.insert(name); }

 private:
  void add(Member member) {
    const size_t dot = member.name.rfind('.');
    members[dot == std::string::npos ? member.name : member.name.substr(0, dot)].push_back(std::move(member));
  }
};

std::vector<std::string> head_modules(const Model& model) {
  Modules modules;
  for (const Stage& stage : model.stages())
    if (stage.kind == Stage::Kind::head) stage.visit(modules);
  std::vector<std::string> names;
  for (const auto& [name, members] : modules.members) names.push_back(name);
  return names;
}

// ---- writing
// ---------------------------------------------------------------------------------------------------------

// The values of one site's adapters as a single one over all rows.
struct Fused {
  Tensor a, b;  // the kernels' layout, on the host
  int64_t rank = 0;
  float scale = 0;
};

Fused fuse(const LoadedModel& loaded, const LoraSite& site) {
  const std::vector<layers::LowRank>& adapters = *site.adapters;
  Fused fused;
  fused.scale = adapters[0].scale;
  for (const layers::LowRank& adapter : adapters) {
    fused.rank += adapter.rank();
    VTL_CHECK(adapter.scale == fused.scale, "save_adapter: the adapters of ", site.name, " have different scales");
  }
  const Shape& weight = site.weight->shape();
  const int64_t rows = weight[0], ins = weight.numel() / rows;
  fused.a = Tensor::zeros(weight.with(0, fused.rank), DType::f32, Device::cpu());
  fused.b =
      Tensor::zeros(site.conv ? Shape{rows, 1, 1, fused.rank} : Shape{rows, fused.rank}, DType::f32, Device::cpu());
  int64_t first = 0;
  for (const layers::LowRank& adapter : adapters) {
    const std::string prefix = site.name + "." + (adapter.part.empty() ? "" : adapter.part + ".");
    const Tensor a = host_copy(master_values(loaded, prefix + "lora_A.weight", adapter.a));
    const Tensor b = host_copy(master_values(loaded, prefix + "lora_B.weight", adapter.b));
    const int64_t rank = adapter.rank(), count = adapter.b.shape()[0];
    std::memcpy(fused.a.f32() + first * ins, a.f32(), a.bytes());
    for (int64_t row = 0; row < count; ++row)
      std::memcpy(fused.b.f32() + (adapter.row_begin + row) * fused.rank + first, b.f32() + row * rank,
                  static_cast<size_t>(rank) * sizeof(float));
    first += rank;
  }
  return fused;
}

// The scale is alpha / rank in f32; this undoes its rounding.
double as_written(double alpha) {
  const double few_digits = std::round(alpha * 1e4) / 1e4;
  return std::abs(few_digits - alpha) < 1e-6 * alpha ? few_digits : alpha;
}

void name_base(const ModelFacts& facts, io::AdapterConfig& config) {
  const std::string full = facts.name + "." + facts.tag;
  if (is_known(full)) config.base_model = "timm/" + full;
  if (facts.family == "resnet") {
    config.base_model_class = "ResNet";
    config.parent_library = "timm.models.resnet";
  } else if (facts.family == "efficientnet") {
    config.base_model_class = "EfficientNet";
    config.parent_library = "timm.models.efficientnet";
  } else {
    const bool distilled = facts.name.find("distilled") != std::string::npos;
    config.base_model_class = distilled ? "VisionTransformerDistilled" : "VisionTransformer";
    config.parent_library = distilled ? "timm.models.deit" : "timm.models.vision_transformer";
  }
}

bool changed(const LoadedModel& loaded, const Modules::Member& member) {
  if (member.parameter) return loaded.changed.count(member.name) > 0;
  return loaded.source && !loaded.source->holds(member.name, *member.buffer);
}

// PEFT takes a module whose name ends like an entry of the list, so those are saved as well.
std::vector<std::string> modules_to_save(const LoadedModel& loaded, const Modules& modules) {
  const std::vector<std::string> head = head_modules(loaded.model);
  std::set<std::string> chosen(head.begin(), head.end());
  std::vector<std::string> strangers;
  for (const auto& [name, members] : modules.members) {
    const bool any = std::any_of(members.begin(), members.end(), [&](const auto& m) { return changed(loaded, m); });
    if (!any || chosen.count(name)) continue;
    if (modules.norms.count(name))
      chosen.insert(name);
    else if (!(name == "pos_embed" && !loaded.report.resampled.empty() && !members[0].parameter->learns()))
      strangers.push_back(name);
  }
  if (!strangers.empty()) {
    std::string list;
    for (size_t i = 0; i < std::min<size_t>(5, strangers.size()); ++i) list += (i > 0 ? ", " : "") + strangers[i];
    throw Error(ErrorKind::unsupported,
                concat("save_adapter: ", strangers.size(), " modules that are neither adapter nor head have learned (",
                       list, "), which a PEFT adapter does not store; save the merged model instead"),
                strangers);
  }
  for (const auto& [name, members] : modules.members)
    for (const std::string& saved : std::set<std::string>(chosen))
      if (modules.norms.count(name) && name.ends_with(saved)) chosen.insert(name);
  return {chosen.begin(), chosen.end()};
}

}  // namespace

void save_adapter(const LoadedModel& loaded, const std::filesystem::path& directory) {
  VTL_CHECK(has_lora(loaded.model), "save_adapter: the model ", loaded.model.facts.name, " has no adapters");
  NoTapeScope no_tape;
  io::Adapter adapter;
  io::AdapterConfig& config = adapter.config;
  bool first = true;
  for (const LoraSite& site : lora_sites(loaded.model)) {
    if (site.adapters->empty()) continue;
    const Fused fused = fuse(loaded, site);
    const double alpha = as_written(static_cast<double>(fused.scale) * static_cast<double>(fused.rank));
    if (first) {
      config.rank = fused.rank;
      config.alpha = alpha;
      first = false;
    }
    if (fused.rank != config.rank) config.rank_pattern[site.name] = fused.rank;
    if (alpha != config.alpha) config.alpha_pattern[site.name] = alpha;
    config.target_modules.push_back(site.name);
    adapter.tensors.emplace_back(site.name + ".lora_A.weight", to_file_layout(fused.a, site.weight->layout()));
    adapter.tensors.emplace_back(site.name + ".lora_B.weight", to_file_layout(fused.b, site.weight->layout()));
  }
  Modules modules;
  loaded.model.visit(modules);
  config.modules_to_save = modules_to_save(loaded, modules);
  for (const std::string& name : config.modules_to_save)
    for (const Modules::Member& member : modules.members.at(name))
      adapter.tensors.emplace_back(member.name,
                                   member.parameter
                                       ? host_copy(to_file_layout(master_values(loaded, member.name, *member.parameter),
                                                                  member.parameter->layout()))
                                       : host_copy(*member.buffer));
  name_base(loaded.model.facts, config);
  adapter.metadata = {{"format", "pt"}, {"vtl.architecture", loaded.model.facts.name}};
  if (loaded.source) adapter.metadata["vtl.base_sha256"] = base_sha256(loaded);
  io::write_adapter(directory, adapter);
}

namespace {

// ---- reading
// ---------------------------------------------------------------------------------------------------------

struct Place {
  const LoraSite* site = nullptr;
  std::string part;
};

class AdapterReader {
 public:
  AdapterReader(LoadedModel& loaded, const io::Adapter& adapter)
      : loaded_(loaded), adapter_(adapter), sites_(lora_sites(loaded.model)) {
    loaded.model.visit(modules_);
  }

  // Sorts every tensor of the file to its place and collects what does not fit.
  void match() {
    for (const auto& [name, tensor] : adapter_.tensors) {
      if (name.ends_with(".lora_A.weight"))
        match_adapter(name.substr(0, name.size() - 14), tensor);
      else if (!name.ends_with(".lora_B.weight"))
        match_member(name, tensor);
      else if (!find_tensor(name.substr(0, name.size() - 14) + ".lora_A.weight"))
        problems.push_back(name + " has no lora_A beside it");
    }
    check_targets();
  }

  void apply() {
    for (const auto& [site, spec] : specs_) put_adapter(loaded_, *site, spec);
    for (const auto& [member, tensor] : replaced_) replace(*member, tensor);
  }

  std::vector<std::string> problems;

 private:
  const Tensor* find_tensor(const std::string& name) const {
    for (const auto& [other, tensor] : adapter_.tensors)
      if (other == name) return &tensor;
    return nullptr;
  }

  Place find_place(const std::string& module) const {
    const auto with_name = [&](const std::string& name) {
      const auto found = std::find_if(sites_.begin(), sites_.end(), [&](const LoraSite& s) { return s.name == name; });
      return found == sites_.end() ? nullptr : &*found;
    };
    if (const LoraSite* site = with_name(module)) return {site, ""};
    for (const Dialect dialect : {Dialect::huggingface, Dialect::torchvision}) {
      const auto renamed = rename({dialect, loaded_.model.facts.family, ""}, module + ".weight");
      if (!renamed || renamed->name.empty()) continue;
      const LoraSite* site = with_name(renamed->name.substr(0, renamed->name.size() - 7));
      if (site) return {site, renamed->part < 0 ? std::string() : site->parts()[static_cast<size_t>(renamed->part)]};
    }
    return {};
  }

  void match_adapter(const std::string& module, const Tensor& a) {
    const Place place = find_place(module);
    const Tensor* b = find_tensor(module + ".lora_B.weight");
    if (!place.site) {
      problems.push_back(module + " is no layer that takes an adapter");
      return;
    }
    if (!b) {
      problems.push_back(module + ".lora_A has no lora_B beside it");
      return;
    }
    const int64_t rank = io::adapter_rank(adapter_.config, module);
    const Shape weight = place.site->weight->file_shape();
    const int64_t rows = place.part.empty() ? weight[0] : weight[0] / 3;
    const Shape a_shape = weight.with(0, rank);
    const Shape b_shape = place.site->conv ? Shape{rows, rank, 1, 1} : Shape{rows, rank};
    if (a.shape() != a_shape) problems.push_back(concat(module, ".lora_A is ", a.shape(), ", expected ", a_shape));
    if (b->shape() != b_shape) problems.push_back(concat(module, ".lora_B is ", b->shape(), ", expected ", b_shape));
    if (!problems.empty()) return;
    const layers::FileLayout layout = place.site->weight->layout();
    specs_.push_back({place.site,
                      {place.part, rank, static_cast<float>(io::adapter_scale(adapter_.config, module)),
                       to_kernel_layout(a, layout), to_kernel_layout(*b, layout)}});
    placed_.insert(module);
  }

  void match_member(const std::string& name, const Tensor& tensor) {
    std::string ours = name;
    if (!find_member(ours))
      if (const auto renamed = rename({Dialect::huggingface, loaded_.model.facts.family, ""}, name))
        ours = renamed->name;
    const Modules::Member* member = find_member(ours);
    if (!member) {
      problems.push_back(name + " is no tensor of " + loaded_.model.facts.name);
      return;
    }
    const Shape expected = member->parameter ? member->parameter->file_shape() : member->buffer->shape();
    const DType dtype = member->parameter ? DType::f32 : member->buffer->dtype();
    if (tensor.shape() != expected || tensor.dtype() != dtype)
      problems.push_back(concat(name, " is ", tensor.shape(), ", expected ", expected));
    else
      replaced_.push_back({member, tensor});
  }

  const Modules::Member* find_member(const std::string& name) const {
    for (const auto& [module, members] : modules_.members)
      for (const Modules::Member& member : members)
        if (member.name == name) return &member;
    return nullptr;
  }

  // Every layer that the configuration names must have its tensors.
  void check_targets() {
    for (const LoraSite& site : sites_) {
      const io::AdapterConfig& config = adapter_.config;
      const bool targeted = io::names_module(config.target_modules, site.name) &&
                            !io::names_module(config.exclude_modules, site.name) &&
                            !io::names_module(config.modules_to_save, site.name);
      if (targeted && !placed_.count(site.name)) problems.push_back(site.name + " is a target but has no tensors");
    }
  }

  void replace(const Modules::Member& member, const Tensor& tensor) {
    if (member.buffer) {
      *member.buffer = tensor.to(loaded_.model.device);
      return;
    }
    layers::Parameter& parameter = *member.parameter;
    const Tensor values = to_kernel_layout(tensor, parameter.layout());
    parameter.set_value(to_working(values, parameter, loaded_.model.precision, loaded_.model.device));
    if (parameter.value().dtype() != DType::f32) loaded_.masters[member.name] = values.to(loaded_.model.device);
    loaded_.changed.insert(member.name);
  }

  LoadedModel& loaded_;
  const io::Adapter& adapter_;
  std::vector<LoraSite> sites_;
  Modules modules_;
  std::set<std::string> placed_;
  std::vector<std::pair<const LoraSite*, AdapterSpec>> specs_;
  std::vector<std::pair<const Modules::Member*, Tensor>> replaced_;
};

}  // namespace

std::vector<std::string> load_adapter(LoadedModel& loaded, const std::filesystem::path& directory) {
  VTL_CHECK(!has_lora(loaded.model), "load_adapter: the model has adapters already; merge or remove them first");
  NoTapeScope no_tape;
  const io::Adapter adapter = io::read_adapter(directory);
  std::vector<std::string> notes = adapter.warnings;
  const auto base = adapter.metadata.find("vtl.base_sha256");
  if (base == adapter.metadata.end())
    notes.push_back("the adapter does not say which weights it was trained on; nothing checks that they are these");
  else if (loaded.source && base->second != base_sha256(loaded))
    fail(ErrorKind::bad_model, directory.string(), ": the adapter was trained on other weights (sha256 ", base->second,
         ") than those loaded (", base_sha256(loaded), ")");
  AdapterReader reader(loaded, adapter);
  reader.match();
  if (!reader.problems.empty()) {
    std::string message = concat(directory.string(), ": the adapter does not fit ", loaded.model.facts.name, ": ",
                                 reader.problems.size(), " problems (");
    for (size_t i = 0; i < std::min<size_t>(5, reader.problems.size()); ++i)
      message += (i > 0 ? "; " : "") + reader.problems[i];
    throw Error(ErrorKind::bad_model, message + (reader.problems.size() > 5 ? "; ...)" : ")"), reader.problems);
  }
  reader.apply();
  return notes;
}

}  // namespace vtl::models
