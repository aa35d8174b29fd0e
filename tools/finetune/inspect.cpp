#include "vtl/tools/finetune/inspect.h"

#include <nlohmann/json.hpp>

#include "vtl/core/error.h"
#include "vtl/io/weight_file.h"
#include "vtl/models/pretrained.h"
#include "vtl/tools/finetune/checkpoint.h"

namespace vtl::finetune {
namespace {

namespace fs = std::filesystem;

bool is_adapter_tensor(std::string_view name) {
  return name.find(".lora_A.") != std::string_view::npos || name.find(".lora_B.") != std::string_view::npos;
}

// An adapter directory keeps its tensors in a file of another name.
fs::path weights_in(const fs::path& path) {
  const fs::path adapter = path / "adapter_model.safetensors";
  return fs::is_directory(path) && fs::exists(adapter) ? adapter : path;
}

std::string list(const std::vector<std::string>& names) {
  std::string text;
  for (const auto& name : names) text += (text.empty() ? "" : ", ") + name;
  return text;
}

}  // namespace

Inspection inspect(const fs::path& path) {
  const io::WeightFile weights(weights_in(path));
  Inspection found;
  found.path = path.string();
  found.metadata = weights.metadata();
  int64_t adapters = 0, values = 0;
  for (int64_t i = 0; i < weights.size(); ++i) {
    const io::TensorInfo info = weights[i];
    found.tensors.push_back({std::string(weights.name(i)), io::name(info.dtype), {info.shape.begin(), info.shape.end()}});
    adapters += is_adapter_tensor(weights.name(i));
    values += static_cast<int64_t>(info.count());
  }
  const std::string size = concat(weights.size(), " tensors, ", values, " values");
  if (adapters > 0) {
    found.kind = "adapter";
    found.dialect = "peft";
    found.verdict = concat("a low-rank adapter for ", adapters / 2, " layers (", size, ")");
    return found;
  }
  if (is_checkpoint(weights)) {
    found.kind = "checkpoint";
    found.verdict = concat("what a stopped run continues from (", size, "); the same train command takes it up");
    return found;
  }
  found.kind = fs::is_directory(path) ? "model" : "weights";
  const models::Identified identified = models::identify(weights);
  found.dialect = identified.dialect;
  if (identified.models.empty()) {
    found.verdict = concat("well formed, but no model that vtl knows (", size, ")");
    return found;
  }
  found.model = identified.models.front();
  found.verdict = concat(list(identified.models), " in the names of ", identified.dialect, " (", size, ")");
  return found;
}

std::string to_json(const Inspection& inspection) {
  using nlohmann::ordered_json;
  ordered_json tensors = ordered_json::array();
  for (const auto& tensor : inspection.tensors)
    tensors.push_back({{"name", tensor.name}, {"dtype", tensor.dtype}, {"shape", tensor.shape}});
  const auto or_null = [](const std::string& text) { return text.empty() ? ordered_json(nullptr) : ordered_json(text); };
  const ordered_json object{{"path", inspection.path},
                            {"kind", inspection.kind},
                            {"verdict", inspection.verdict},
                            {"model", or_null(inspection.model)},
                            {"dialect", or_null(inspection.dialect)},
                            {"tensors", tensors},
                            {"metadata", inspection.metadata}};
  return object.dump(-1, ' ', false, ordered_json::error_handler_t::replace);
}

}  // namespace vtl::finetune
