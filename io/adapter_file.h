// Low-rank adapters on disk as PEFT keeps them: a directory with adapter_config.json and adapter_model.safetensors.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "vtl/core/named_tensors.h"

namespace vtl::io {

// The 23 keys that every PEFT from 0.9 on reads, those that vary.
struct AdapterConfig {
  int64_t rank = 8;
  double alpha = 8, dropout = 0;
  bool rslora = false;                          // scale alpha / sqrt(rank) instead of alpha / rank
  std::vector<std::string> target_modules;      // full names, or what they end with after a dot
  std::vector<std::string> exclude_modules;     // likewise; read, never written
  std::vector<std::string> modules_to_save;     // stored whole
  std::map<std::string, int64_t> rank_pattern;  // module name -> its own rank, alpha
  std::map<std::string, double> alpha_pattern;
  std::string base_model;                        // "timm/resnet18.a1_in1k"; empty: not said
  std::string base_model_class, parent_library;  // of timm; written only
};

// `module` is named in full or by what it ends with after a dot.
bool names_module(const std::vector<std::string>& list, const std::string& module);
// What the patterns say of a module, or the defaults.
int64_t adapter_rank(const AdapterConfig& config, const std::string& module);
double adapter_scale(const AdapterConfig& config, const std::string& module);

struct Adapter {
  AdapterConfig config;
  // f32, on the host, in files' layout: "blocks.0.attn.qkv.lora_A.weight", and whole modules "head.weight".
  NamedTensors tensors;
  std::map<std::string, std::string> metadata;
  std::vector<std::string> warnings;  // of reading
};

// Makes the directory. Tensors must be f32 on the host.
void write_adapter(const std::filesystem::path& directory, const Adapter& adapter);

// Throws bad_model for what is no LoRA, for variants that this engine does not compute (DoRA, ...), for adapters that
// were trained against modified weights (PiSSA, ...) and for patterns that are not plain names.
Adapter read_adapter(const std::filesystem::path& directory);

}  // namespace vtl::io
