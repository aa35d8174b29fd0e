#include "vtl/io/adapter_file.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <set>

#include "vtl/core/error.h"
#include "vtl/io/file.h"
#include "vtl/io/json.h"
#include "vtl/io/safetensors_writer.h"

namespace vtl::io {
namespace {

using nlohmann::json;

constexpr const char* kPrefix = "base_model.model.";

json number(double value) {
  if (value == std::floor(value) && std::abs(value) < 1e15) return static_cast<int64_t>(value);
  return value;
}

json list_or_null(std::vector<std::string> names) {
  if (names.empty()) return nullptr;
  std::sort(names.begin(), names.end());
  return names;
}

json config_json(const AdapterConfig& config) {
  json auto_mapping = nullptr;
  if (!config.base_model_class.empty())
    auto_mapping = {{"base_model_class", config.base_model_class}, {"parent_library", config.parent_library}};
  json alphas = json::object();
  for (const auto& [module, alpha] : config.alpha_pattern) alphas[module] = number(alpha);
  return {{"alpha_pattern", alphas},
          {"auto_mapping", auto_mapping},
          {"base_model_name_or_path", config.base_model.empty() ? json(nullptr) : json(config.base_model)},
          {"bias", "none"},
          {"fan_in_fan_out", false},
          {"inference_mode", true},
          {"init_lora_weights", true},
          {"layers_pattern", nullptr},
          {"layers_to_transform", nullptr},
          {"loftq_config", json::object()},
          {"lora_alpha", number(config.alpha)},
          {"lora_dropout", config.dropout},
          {"megatron_config", nullptr},
          {"megatron_core", "megatron.core"},
          {"modules_to_save", list_or_null(config.modules_to_save)},
          {"peft_type", "LORA"},
          {"r", config.rank},
          {"rank_pattern", json(config.rank_pattern)},
          {"revision", nullptr},
          {"target_modules", list_or_null(config.target_modules)},
          {"task_type", nullptr},
          {"use_dora", false},
          {"use_rslora", config.rslora}};
}

// ---- reading
// ---------------------------------------------------------------------------------------------------------

const std::set<std::string> kKnown{"alpha_pattern",
                                   "auto_mapping",
                                   "base_model_name_or_path",
                                   "bias",
                                   "exclude_modules",
                                   "fan_in_fan_out",
                                   "inference_mode",
                                   "init_lora_weights",
                                   "layers_pattern",
                                   "layers_to_transform",
                                   "loftq_config",
                                   "lora_alpha",
                                   "lora_dropout",
                                   "megatron_config",
                                   "megatron_core",
                                   "modules_to_save",
                                   "peft_type",
                                   "peft_version",
                                   "r",
                                   "rank_pattern",
                                   "revision",
                                   "target_modules",
                                   "task_type",
                                   "use_dora",
                                   "use_rslora"};

// Variants that compute something else; absent or empty they say nothing.
constexpr const char* kMustBeEmpty[] = {"use_dora",          "lora_bias",
                                        "use_qalora",        "alora_invocation_tokens",
                                        "target_parameters", "trainable_token_indices",
                                        "layer_replication", "velora_config",
                                        "monteclora_config", "use_bdlora",
                                        "arrow_config",      "kasa_config",
                                        "megatron_config",   "layers_to_transform",
                                        "fan_in_fan_out"};

bool is_empty(const json& value) {
  return value.is_null() || value == false || ((value.is_object() || value.is_array()) && value.empty());
}

bool is_plain_name(const std::string& name) { return name.find_first_of("*+?()[]{}|^$\\") == std::string::npos; }

void require_plain(const std::string& name, const std::string& source) {
  if (!is_plain_name(name))
    fail(ErrorKind::bad_model, source, ": '", name,
         "' is a regular expression; only plain module names are understood, list them");
}

std::vector<std::string> names(const json& config, const std::string& key, const std::string& source) {
  if (!config.contains(key) || config.at(key).is_null()) return {};
  std::vector<std::string> list;
  if (config.at(key).is_string())
    list = {json_get<std::string>(config, key, source)};
  else
    list = json_get<std::vector<std::string>>(config, key, source);
  for (const std::string& name : list) require_plain(name, source);
  return list;
}

template <class T>
std::map<std::string, T> pattern(const json& config, const std::string& key, const std::string& source) {
  std::map<std::string, T> made;
  if (!config.contains(key) || config.at(key).is_null()) return made;
  const json& object = config.at(key);
  if (!object.is_object()) fail(ErrorKind::bad_model, source, ": \"", key, "\" is not an object");
  for (const auto& [module, value] : object.items()) {
    require_plain(module, source);
    made[module] = json_get<T>(object, module, source);
  }
  return made;
}

void refuse_variants(const json& config, const std::string& source) {
  const auto type = json_get_or<std::string>(config, "peft_type", source, "");
  if (type != "LORA")
    fail(ErrorKind::bad_model, source, ": the adapter's type is '", type, "', only LORA is supported");
  for (const char* key : kMustBeEmpty)
    if (config.contains(key) && !is_empty(config.at(key)))
      fail(ErrorKind::bad_model, source, ": \"", key,
           "\" is set, which is not supported; merge the adapter with PEFT and load the model");
  const auto bias = json_get_or<std::string>(config, "bias", source, "none");
  if (bias != "none") fail(ErrorKind::bad_model, source, ": \"bias\" is '", bias, "', only none is supported");
  if (config.contains("init_lora_weights") && config.at("init_lora_weights").is_string()) {
    const auto init = config.at("init_lora_weights").get<std::string>();
    for (const char* modified : {"pissa", "olora", "corda", "loftq", "lora_ga"})
      if (init.starts_with(modified))
        fail(ErrorKind::bad_model, source, ": the adapter was trained against modified base weights (", init,
             "); convert it with PEFT first");
  }
}

AdapterConfig read_config(const json& config, const std::string& source, std::vector<std::string>& warnings) {
  if (!config.is_object()) fail(ErrorKind::bad_model, source, ": not a JSON object");
  refuse_variants(config, source);
  for (const auto& [key, value] : config.items())
    if (!kKnown.count(key) && !is_empty(value))
      warnings.push_back("adapter_config.json: the key '" + key + "' is not known and was ignored");
  AdapterConfig made;
  made.rank = json_get<int64_t>(config, "r", source);
  made.alpha = json_get_or<double>(config, "lora_alpha", source, 8);
  made.dropout = json_get_or<double>(config, "lora_dropout", source, 0);
  made.rslora = json_get_or<bool>(config, "use_rslora", source, false);
  made.target_modules = names(config, "target_modules", source);
  made.exclude_modules = names(config, "exclude_modules", source);
  made.modules_to_save = names(config, "modules_to_save", source);
  made.rank_pattern = pattern<int64_t>(config, "rank_pattern", source);
  made.alpha_pattern = pattern<double>(config, "alpha_pattern", source);
  made.base_model = json_get_or<std::string>(config, "base_model_name_or_path", source, "");
  if (made.rank < 1) fail(ErrorKind::bad_model, source, ": the rank is ", made.rank, ", expected 1 or more");
  return made;
}

// The key as PEFT writes it today: without the prefix, without an adapter's name in it.
std::string normal_name(std::string name, bool& odd) {
  const std::string_view prefix = kPrefix;
  if (name.starts_with(prefix))
    name.erase(0, prefix.size());
  else
    odd = true;
  for (const char* side : {".lora_A.", ".lora_B."}) {
    const size_t at = name.find(side);
    if (at == std::string::npos || name.substr(at) == std::string(side) + "weight") continue;
    if (!name.ends_with(".weight")) continue;
    odd = true;
    name = name.substr(0, at) + side + "weight";
  }
  return name;
}

template <class T>
T by_pattern(const std::map<std::string, T>& pattern, const std::string& module, T otherwise) {
  for (const auto& [name, value] : pattern)
    if (names_module({name}, module)) return value;
  return otherwise;
}

}  // namespace

bool names_module(const std::vector<std::string>& list, const std::string& module) {
  return std::any_of(list.begin(), list.end(),
                     [&](const std::string& name) { return module == name || module.ends_with("." + name); });
}

int64_t adapter_rank(const AdapterConfig& config, const std::string& module) {
  return by_pattern(config.rank_pattern, module, config.rank);
}

double adapter_scale(const AdapterConfig& config, const std::string& module) {
  const auto rank = static_cast<double>(adapter_rank(config, module));
  return by_pattern(config.alpha_pattern, module, config.alpha) / (config.rslora ? std::sqrt(rank) : rank);
}

void write_adapter(const std::filesystem::path& directory, const Adapter& adapter) {
  std::error_code failed;
  std::filesystem::create_directories(directory, failed);
  if (failed)
    fail(ErrorKind::io, "write_adapter: cannot make the directory ", directory.string(), ": ", failed.message());
  std::vector<TensorToWrite> tensors;
  for (const auto& [name, tensor] : adapter.tensors) {
    VTL_CHECK(tensor.device() == Device::cpu() && tensor.is_dense(), "write_adapter: ", name,
              " is not a dense host tensor");
    std::vector<uint64_t> shape(tensor.shape().dims().begin(), tensor.shape().dims().end());
    tensors.push_back(tensor_from_memory(kPrefix + name, file_dtype(tensor.dtype()), std::move(shape),
                                         {static_cast<const std::byte*>(tensor.data()), tensor.bytes()}));
  }
  write_safetensors(directory / "adapter_model.safetensors", std::move(tensors), adapter.metadata);
  write_text_file(directory / "adapter_config.json", config_json(adapter.config).dump(2) + "\n");
}

Adapter read_adapter(const std::filesystem::path& directory) {
  const std::filesystem::path config_path = directory / "adapter_config.json";
  Adapter adapter;
  adapter.config = read_config(read_json_file(config_path), config_path.string(), adapter.warnings);
  const SafetensorsFile file(directory / "adapter_model.safetensors");
  adapter.metadata = file.metadata();
  bool odd = false;
  for (int64_t i = 0; i < file.size(); ++i) {
    const TensorInfo info = file[i];
    const bool counter = engine_dtype(info.dtype) == DType::i64;
    const Tensor values = Tensor::empty(engine_shape(info), counter ? DType::i64 : DType::f32, Device::cpu());
    if (counter)
      file.read_raw(info, {static_cast<std::byte*>(values.data()), values.bytes()});
    else
      file.read_as_f32(info, {values.f32(), static_cast<size_t>(values.numel())});
    adapter.tensors.emplace_back(normal_name(std::string(info.name), odd), values);
  }
  if (odd) adapter.warnings.push_back("adapter_model.safetensors: names are not as PEFT writes them and were adjusted");
  return adapter;
}

}  // namespace vtl::io
