// Safetensors files with formula weights for tests of loading.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "vtl/tests/harness/formula_weights.h"
#include "vtl/io/safetensors_writer.h"
#include "vtl/layers/batchnorm.h"
#include "vtl/models/registry.h"

namespace vtl::test {

// Our names and shapes of a model, in files.
inline std::map<std::string, Shape> file_shapes(const models::Model& model) {
  struct Shapes : layers::Visitor {
    std::map<std::string, Shape> shapes;
    void on_parameter(const std::string& name, layers::Parameter& parameter) override {
      shapes[name] = parameter.file_shape();
    }
    void on_batchnorm(const std::string& name, layers::BatchNorm& norm) override {
      shapes[name + ".running_mean"] = shapes[name + ".running_var"] = norm.weight.shape();
      shapes[name + ".num_batches_tracked"] = {};
    }
  } shapes;
  model.visit(shapes);
  return shapes.shapes;
}

struct FileTensor {
  std::string name;
  Tensor values;
};
// The names of one of our tensors in the file: itself, another one, or three for q, k, v; empty: not in the file.
using Naming = std::function<std::vector<std::string>(const std::string& name)>;

inline std::vector<FileTensor> formula_tensors(const models::Model& model, const Naming& naming) {
  std::vector<FileTensor> tensors;
  for (const auto& [name, shape] : file_shapes(model)) {
    const std::vector<std::string> names = naming(name);
    if (names.empty()) continue;
    const Tensor values = name.ends_with("num_batches_tracked") ? Tensor::zeros({}, DType::i64, Device::cpu())
                                                                : formula_weight(name, shape, false);
    if (names.size() == 1) {
      tensors.push_back({names[0], values});
      continue;
    }
    const int64_t rows = shape[0] / static_cast<int64_t>(names.size());
    for (size_t i = 0; i < names.size(); ++i) {
      const auto begin = static_cast<int64_t>(i) * rows;
      tensors.push_back({names[i], values.slice(0, begin, begin + rows)});
    }
  }
  return tensors;
}

inline void write_weights(const std::filesystem::path& path, const std::vector<FileTensor>& tensors,
                          const std::map<std::string, std::string>& metadata = {}) {
  std::vector<io::TensorToWrite> list;
  for (const FileTensor& tensor : tensors) {
    std::vector<uint64_t> shape(tensor.values.shape().dims().begin(), tensor.values.shape().dims().end());
    list.push_back(
        io::tensor_from_memory(tensor.name, io::file_dtype(tensor.values.dtype()), std::move(shape),
                               {static_cast<const std::byte*>(tensor.values.data()), tensor.values.bytes()}));
  }
  io::write_safetensors(path, std::move(list), metadata);
}

// A file in our own names.
inline void write_formula_file(const std::filesystem::path& path, const std::string& model,
                               const models::ModelOptions& options) {
  write_weights(path, formula_tensors(models::describe_model(model, options),
                                      [](const std::string& name) { return std::vector<std::string>{name}; }));
}

}  // namespace vtl::test
