// What a file or folder of weights is, without making a model of it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace vtl::finetune {

struct InspectedTensor {
  std::string name;
  std::string dtype;  // as the file spells it: "F32"
  std::vector<int64_t> shape;
};

struct Inspection {
  std::string path;
  std::string kind;     // "weights", "adapter", "checkpoint", "model"
  std::string verdict;  // one sentence
  std::string model;    // registry name; empty when unknown
  std::string dialect;  // "timm", "torchvision", "huggingface", "peft"; empty when unknown
  std::vector<InspectedTensor> tensors;
  std::map<std::string, std::string> metadata;
};

// A safetensors file, an index.json, a model directory or an adapter directory. Throws bad_model for what is not well formed,
// io for what cannot be read; a well-formed file of something unknown is no error.
Inspection inspect(const std::filesystem::path& path);

std::string to_json(const Inspection& inspection);

}  // namespace vtl::finetune
