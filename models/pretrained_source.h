// The file behind a loaded model. Internal to models.
#pragma once

#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "vtl/io/weight_file.h"
#include "vtl/layers/parameter.h"
#include "vtl/models/dialects.h"

namespace vtl::models {

// The tensors of a file that make one of ours: one, or q, k and v, which are put under each other.
struct Origin {
  std::vector<io::TensorInfo> parts;

  bool one_dtype() const;
  // The whole's shape; parts that do not fit under each other are a bad_model error.
  std::vector<uint64_t> shape() const;
};

// A file's tensors under our names.
struct Inventory {
  std::map<std::string, Origin> origins;
  std::vector<std::string> ignored;   // file names that the dialect leaves out on purpose
  std::vector<std::string> problems;  // names that the dialect does not know, incomplete q, k, v
};
Inventory take_inventory(const io::WeightFile& file, const Recognised& recognised);

class PretrainedSource {
 public:
  PretrainedSource(io::WeightFile file, std::map<std::string, Origin> origins)
      : file_(std::move(file)), origins_(std::move(origins)) {}

  const io::WeightFile& file() const { return file_; }
  // Null when the file has no such tensor.
  const Origin* find(const std::string& name) const;
  // Whether the file has a buffer (f32 or i64) of this name with these very values.
  bool holds(const std::string& name, const Tensor& buffer) const;

  // f32, on the host, in the file's layout.
  Tensor read(const Origin& origin) const;
  // f32, on the host, in the kernels' layout.
  Tensor read(const Origin& origin, layers::FileLayout layout) const;
  // i64, one element, from any integer type.
  Tensor read_counter(const Origin& origin) const;

  std::string sha256() const;

 private:
  io::WeightFile file_;
  std::map<std::string, Origin> origins_;
  mutable std::once_flag hashed_;
  mutable std::string sha256_;
};

// Between the file's [out, in, kh, kw] and the kernels' [out, kh, kw, in].
Tensor to_kernel_layout(const Tensor& values, layers::FileLayout layout);
Tensor to_file_layout(const Tensor& values, layers::FileLayout layout);

}  // namespace vtl::models
