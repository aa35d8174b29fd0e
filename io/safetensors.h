// Reading a safetensors file: opened and checked as a whole, then tensor by tensor straight into the caller's memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "vtl/io/file.h"
#include "vtl/io/safetensors_error.h"
#include "vtl/io/safetensors_header.h"

namespace vtl::io {

// Takes bytes in pieces, in order; a piece is valid during the call.
using ByteSink = std::function<void(std::span<const std::byte>)>;

// Reads are safe from several threads. A file whose size changes under the reader gives FileChanged.
class SafetensorsFile {
 public:
  // Opens the file and checks its header by the rules of safetensors_header.h. Throws SafetensorsError, or io when the
  // file system fails. What is plainly another format (a .pth file, a download page) is named, with what to do.
  explicit SafetensorsFile(const std::filesystem::path& path, const SafetensorsLimits& limits = {})
      : SafetensorsFile(File(path), limits) {}
  explicit SafetensorsFile(File file, const SafetensorsLimits& limits = {});

  const std::filesystem::path& path() const { return file_.path(); }

  // The tensors in byte order of their names.
  int64_t size() const { return header_.size(); }
  std::string_view name(int64_t index) const { return header_.name(index); }
  TensorInfo operator[](int64_t index) const { return header_[index]; }
  std::optional<TensorInfo> find(std::string_view name) const;

  std::optional<std::string_view> metadata(std::string_view key) const { return header_.metadata(key); }
  std::map<std::string, std::string> metadata() const { return header_.metadata(); }
  const std::vector<std::string>& warnings() const { return header_.warnings(); }

  // The tensor's bytes as they are in the file; `bytes` is exactly as long.
  void read_raw(const TensorInfo& tensor, std::span<std::byte> bytes) const;
  // Its values as f32, from F32, F16, BF16 or F64 (rounded to nearest; beyond f32's range to infinity). Throws
  // unsupported for other types. `values` has tensor.count() places.
  void read_as_f32(const TensorInfo& tensor, std::span<float> values) const;
  // Its bytes in pieces of at most 1 MiB that hold whole elements: for copying without holding the tensor.
  void read_pieces(const TensorInfo& tensor, const ByteSink& sink) const;
  // How many values would be NaN or infinite as f32. For the types of read_as_f32.
  int64_t count_non_finite(const TensorInfo& tensor) const;

  uint64_t header_bytes() const { return data_at_ - 8; }
  uint64_t data_bytes() const { return file_.size() - data_at_; }
  std::string header_sha256() const { return sha256_of(8, header_bytes()); }
  // Of the whole file, as sha256sum prints it.
  std::string sha256() const { return sha256_of(0, file_.size()); }

 private:
  SafetensorsHeader read_header(const SafetensorsLimits& limits);
  void check_range(const TensorInfo& tensor) const;
  void read(uint64_t offset, std::span<std::byte> bytes) const;
  void check_unchanged() const;
  std::string sha256_of(uint64_t offset, uint64_t bytes) const;

  File file_;
  uint64_t data_at_ = 0;  // where the tensors' data begin
  SafetensorsHeader header_;
};

}  // namespace vtl::io
