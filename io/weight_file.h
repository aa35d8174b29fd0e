// The weights that a user names: a safetensors file, the index of a sharded one, or a directory that holds either.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "vtl/io/safetensors.h"

namespace vtl::io {

// One list of tensors in byte order of their names, from one file or from many. Reads are safe from several threads.
class WeightFile {
 public:
  // `path` is
  //   - a safetensors file,
  //   - an index (a name that ends in .json): {"weight_map": {tensor: file}, "metadata": {"total_size": bytes}}, whose
  //     files lie in its directory, hold every tensor that it maps to them and no other,
  //   - a directory with model.safetensors or model.safetensors.index.json, and perhaps config.json.
  // Throws SafetensorsError for files that break the rules (all problems of an index at once), bad_model for a
  // directory without weights or with a config.json that is no JSON, io when the file system fails.
  explicit WeightFile(const std::filesystem::path& path, const SafetensorsLimits& limits = {});

  const std::filesystem::path& path() const { return path_; }
  // The safetensors files behind it, in byte order of their names.
  const std::vector<SafetensorsFile>& shards() const { return shards_; }

  int64_t size() const { return static_cast<int64_t>(order_.size()); }
  std::string_view name(int64_t index) const;
  TensorInfo operator[](int64_t index) const;
  std::optional<TensorInfo> find(std::string_view name) const;
  // Throws bad_model for a name that is not there.
  TensorInfo at(std::string_view name) const;

  // As SafetensorsFile does it.
  void read_raw(const TensorInfo& tensor, std::span<std::byte> bytes) const { shard(tensor).read_raw(tensor, bytes); }
  void read_as_f32(const TensorInfo& tensor, std::span<float> values) const {
    shard(tensor).read_as_f32(tensor, values);
  }
  void read_pieces(const TensorInfo& tensor, const ByteSink& sink) const { shard(tensor).read_pieces(tensor, sink); }
  int64_t count_non_finite(const TensorInfo& tensor) const { return shard(tensor).count_non_finite(tensor); }

  // The value that all files with this key agree on; nothing when none has it or they contradict each other.
  std::optional<std::string_view> metadata(std::string_view key) const;
  // All of those, copied.
  std::map<std::string, std::string> metadata() const;
  // The text of the directory's config.json, which is valid JSON; nothing without one.
  const std::optional<std::string>& config() const { return config_; }
  // What was odd but no error.
  const std::vector<std::string>& warnings() const { return warnings_; }

  uint64_t data_bytes() const;
  // Of one file: its SHA-256. Of several: the SHA-256 of what `sha256sum` prints for them in byte order of their names.
  std::string sha256() const;

 private:
  struct Place {
    int32_t shard, index;
  };

  const SafetensorsFile& shard(const TensorInfo& tensor) const { return shards_[static_cast<size_t>(tensor.shard)]; }
  void open_directory(const SafetensorsLimits& limits);
  void open_index(const Directory& directory, const std::string& name, const SafetensorsLimits& limits);
  void list_tensors();

  std::filesystem::path path_;
  std::vector<SafetensorsFile> shards_;
  std::vector<Place> order_;
  std::optional<std::string> config_;
  std::vector<std::string> warnings_;
};

}  // namespace vtl::io
