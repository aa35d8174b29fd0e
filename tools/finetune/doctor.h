// What this build and this machine can do.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "vtl/models/registry.h"

namespace vtl::finetune {

struct Diagnosis {
  std::string version;
  std::map<std::string, std::string> backends;   // "cpu": "available", "cuda": "not in this build"
  std::string cpu_name, cpu_level, automatic_precision;
  int cores = 0;
  std::map<std::string, std::string> libraries;  // "oneDNN": "2.6.3" or "not in this build"
};

Diagnosis diagnose();

std::string to_json(const Diagnosis& diagnosis);
std::string models_json(const std::vector<models::ModelSummary>& models);

}  // namespace vtl::finetune
