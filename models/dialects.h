// The names that other libraries give the tensors of our models, as explicit tables. timm's names are ours.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace vtl::models {

enum class Dialect { timm, torchvision, huggingface };
// "timm", "torchvision", "huggingface"
const char* name(Dialect dialect);

struct Recognised {
  Dialect dialect;
  std::string family;  // "vit", "resnet", "efficientnet"
  std::string
      prefix;  // of every name, from wrappers that trainers put around a model: "module."; removed before renaming
};

// Tells the dialect from the names of a file's tensors. Nothing when no rule fits.
std::optional<Recognised> recognise(std::span<const std::string> names);
// What else the names look like, for messages: "CLIP as Hugging Face stores it"; empty when we do not know either.
std::string describe_foreign(std::span<const std::string> names);

// Where a tensor of the file goes.
struct Renamed {
  std::string name;  // ours; empty: left out on purpose, it takes no part in classification
  int part = -1;     // 0, 1, 2: these rows are the q, k, v of ours; -1: all of it
};
// Nothing for a name that the dialect does not know. timm's names pass through unchanged.
std::optional<Renamed> rename(const Recognised& recognised, std::string_view name);

}  // namespace vtl::models
