// Writing a safetensors file: the same tensors and metadata always give the same bytes, those that the reference
// implementation writes. Data pass through in pieces, so a file can be copied without holding it.
#pragma once

#include <cstddef>
#include <filesystem>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "vtl/io/safetensors.h"

namespace vtl::io {

struct TensorToWrite {
  std::string name;
  FileDType dtype = FileDType::f32;
  std::vector<uint64_t> shape;
  // Called once, when the tensor's turn has come: hands all its bytes, row-major and little-endian, to the sink.
  std::function<void(const ByteSink&)> produce;
  // Other names of the same tensor (tied weights). It is written once, under the first name in byte order; the
  // metadata get an entry from each other name to that one.
  std::vector<std::string> aliases = {};
};

// A tensor whose bytes lie in memory until the file is written.
TensorToWrite tensor_from_memory(std::string name, FileDType dtype, std::vector<uint64_t> shape,
                                 std::span<const std::byte> bytes);
TensorToWrite tensor_from_memory(std::string name, std::span<const int64_t> shape, std::span<const float> values);

// Writes `path` by DurableFile: an older file there stays whole until the new one is. The order is by type (wide ones
// first), then by name. Empty metadata are not written; others get "format" = "pt" when they have no "format", without
// which some PyTorch loaders refuse a file. Throws bad_argument for names that are reserved, repeated, too long or not
// UTF-8, for shapes that do not fill whole bytes and for a tensor that produced another number of bytes than its shape
// needs; io when the file system fails.
void write_safetensors(const std::filesystem::path& path, std::vector<TensorToWrite> tensors,
                       std::map<std::string, std::string> metadata = {{"format", "pt"}});

}  // namespace vtl::io
