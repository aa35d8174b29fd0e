// Weights from files into models and back: strict, accounting for every byte.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "vtl/io/weight_file.h"
#include "vtl/models/model.h"
#include "vtl/models/registry.h"

namespace vtl::models {

// What becomes of the classifier: `automatic` keeps it when the class names agree (or no names are asked for and counts
// agree), `keep` needs equal counts, `fresh` always makes a new one.
enum class HeadPolicy { automatic, keep, fresh };

// Accounts for every tensor of the file and of the model.
struct LoadReport {
  std::string dialect;                 // "timm", "torchvision", "huggingface"
  std::vector<std::string> loaded;     // model names
  std::vector<std::string> dropped;    // file names left out on purpose: the old head
  std::vector<std::string> random;     // model names with first values: the new head
  std::vector<std::string> resampled;  // position embeddings brought to another grid
  std::vector<std::string> converted;  // "F16 to F32: 152 tensors", ...
  std::vector<std::string> notes;      // what the user should know
};

// Where a model's tensors came from: read again in f32 when a parameter begins to learn, copied byte for byte when
// saved unchanged.
class PretrainedSource;

struct LoadedModel {
  Model model;
  LoadReport report;
  std::shared_ptr<const PretrainedSource> source;  // null for a model from scratch
  uint64_t seed = 0;                               // of first values
  // Parameters that have learned, or were changed otherwise: their file no longer tells their values.
  std::set<std::string> changed;
  // The f32 values of those among them that are frozen (again) and have only a bf16 working copy.
  std::map<std::string, Tensor> masters;
};

struct LoadOptions {
  ModelOptions model;
  HeadPolicy head = HeadPolicy::automatic;
  std::vector<std::string> class_names;  // wanted; empty: as in the file
};

// `weights`: safetensors file, index.json or model directory. `name` may be empty when the directory's config.json or
// the file's metadata names the architecture. Throws bad_model with all problems at once.
LoadedModel load_model(std::string_view name, const std::filesystem::path& weights, const LoadOptions& options = {});
// First values only.
LoadedModel scratch_model(std::string_view name, const LoadOptions& options);

// Which models a file's tensors fit, whatever their classifier. Both empty when nothing is recognised.
struct Identified {
  std::string dialect;
  std::vector<std::string> models;  // the one that the file names first
};
Identified identify(const io::WeightFile& weights);

// Makes exactly the parameters learn for which `wanted` says so; their masters are read again from the file in f32.
void set_learning(LoadedModel& loaded,
                  const std::function<bool(const std::string& name, const layers::Parameter&)>& wanted);
// The f32 values of a parameter of `loaded.model`, in the kernels' layout: its master, or what a bf16 working copy was
// rounded from. May share the parameter's memory.
Tensor master_values(const LoadedModel& loaded, const std::string& name, const layers::Parameter& parameter);

// SHA-256 of the weights that the model was loaded from; empty for a model from scratch. Reads the file at the first
// call.
std::string base_sha256(const LoadedModel& loaded);

// Writes DIR/model.safetensors and DIR/config.json as timm loads them. Tensors that never learned are copied byte for
// byte from their source; low-rank adapters are added to the weights that they belong to. A model with anything changed
// or new has the tag "vtl". `extra` goes into the metadata beside ours (keys "vtl.…").
void save_model(const LoadedModel& loaded, const std::filesystem::path& directory,
                const std::map<std::string, std::string>& extra = {});

}  // namespace vtl::models
