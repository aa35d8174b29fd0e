// A model's adapters to and from PEFT's directories.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "vtl/models/pretrained.h"

namespace vtl::models {

// Writes adapter_config.json and adapter_model.safetensors: the adapters, the head, and every BatchNorm that changed.
// Adapters of q, k, v alone are put together into one of their fused layer. Throws unsupported when something else has
// learned (biases, say), which PEFT does not store: save the merged model instead.
void save_adapter(const LoadedModel& loaded, const std::filesystem::path& directory);

// Attaches the adapters of a directory, in timm's, torchvision's or Hugging Face's names, and replaces the modules that
// it holds whole. Everything must fit and be used up; otherwise bad_model lists all that does not. Returns what the
// user should know.
std::vector<std::string> load_adapter(LoadedModel& loaded, const std::filesystem::path& directory);

}  // namespace vtl::models
