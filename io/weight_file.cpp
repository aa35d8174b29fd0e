#include "vtl/io/weight_file.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <numeric>
#include <set>

#include "vtl/core/error.h"
#include "vtl/io/json.h"
#include "vtl/io/sha256.h"
#include "vtl/io/strict_json.h"

namespace vtl::io {
namespace {

using enum SafetensorsFault;

constexpr const char* kSingle = "model.safetensors";
constexpr const char* kIndex = "model.safetensors.index.json";
constexpr const char* kConfig = "config.json";
constexpr size_t kMaxShards = 500;  // each is an open file
constexpr size_t kProblemsInMessage = 5;

// {tensor: file} of an index, in byte order of the tensors. The names lie in `text`.
struct Index {
  struct Entry {
    std::string_view tensor, file;
  };
  std::string text;
  std::vector<Entry> entries;
  std::optional<uint64_t> total_size;
};

bool is_base_name(std::string_view name) {
  return !name.empty() && name != "." && name != ".." &&
         name.find_first_of(std::string_view("/\\\0", 3)) == std::string_view::npos;
}

void read_weight_map(JsonReader& json, Index& index, const std::string& source, const SafetensorsLimits& limits) {
  if (json.kind() != JsonReader::Kind::object) refuse(bad_index, source, "\"weight_map\" is no object");
  const int64_t members = json.members();
  if (members > limits.tensors)
    refuse(too_many_tensors, source, "the index has more than ", limits.tensors, " tensors");
  index.entries.reserve(static_cast<size_t>(members));
  for (json.open(); json.more();) {
    const std::string_view tensor = json.view(json.key());
    if (json.kind() != JsonReader::Kind::string)
      refuse(bad_index, source, "the file of tensor ", in_quotes(tensor), " is no string");
    const std::string_view file = json.view(json.string());
    if (!is_base_name(file))
      refuse(bad_index, source, "tensor ", in_quotes(tensor), " is in file ", in_quotes(file),
             ", expected a plain name in the same directory");
    index.entries.push_back({tensor, file});
  }
  auto& entries = index.entries;
  std::sort(entries.begin(), entries.end(), [](const auto& a, const auto& b) { return a.tensor < b.tensor; });
  const auto same = [](const auto& a, const auto& b) { return a.tensor == b.tensor; };
  const auto twice = std::adjacent_find(entries.begin(), entries.end(), same);
  if (twice != entries.end())
    refuse(duplicate_key, source, "key ", in_quotes(twice->tensor), " stands twice in \"weight_map\"");
}

void read_total_size(JsonReader& json, Index& index) {
  if (json.kind() != JsonReader::Kind::object) return json.skip();
  std::vector<JsonReader::Text> keys;
  for (json.open(); json.more();) {
    keys.push_back(json.key());
    if (json.view(keys.back()) == "total_size" && json.kind() == JsonReader::Kind::number)
      index.total_size = json.integer();
    else json.skip();
  }
  json.check_distinct(keys);
}

void parse_index(Index& index, const std::string& source, const SafetensorsLimits& limits) {
  check_json_object(index.text, 3, source);
  JsonReader json(index.text, source);
  std::vector<JsonReader::Text> keys;
  bool has_map = false;
  for (json.open(); json.more();) {
    keys.push_back(json.key());
    const std::string key(json.view(keys.back()));
    if (key == "weight_map" && !has_map) {
      has_map = true;
      read_weight_map(json, index, source, limits);
    } else if (key == "metadata") {
      read_total_size(json, index);
    } else {
      json.skip();
    }
  }
  json.check_distinct(keys);
  if (!has_map) refuse(missing_field, source, "the index has no \"weight_map\"");
}

[[noreturn]] void fail_problems(const std::string& source, std::vector<std::string> problems) {
  std::string message = concat(problems.size(), problems.size() == 1 ? " problem: " : " problems: ");
  for (size_t i = 0; i < std::min(problems.size(), kProblemsInMessage); ++i) message += (i ? "; " : "") + problems[i];
  if (problems.size() > kProblemsInMessage) message += concat("; and ", problems.size() - kProblemsInMessage, " more");
  throw SafetensorsError(bad_index, source, message, std::move(problems));
}

// Every mapped tensor is in its file, and the files hold no other.
void check_index(const Index& index, const std::vector<std::string>& files, const std::vector<SafetensorsFile>& shards,
                 const std::string& source) {
  std::vector<std::string> problems;
  const auto shard_of = [&](std::string_view file) {
    return static_cast<size_t>(std::lower_bound(files.begin(), files.end(), file) - files.begin());
  };
  for (const auto& [tensor, file] : index.entries)
    if (!shards[shard_of(file)].find(tensor))
      problems.push_back(concat("tensor ", in_quotes(tensor), " is not in ", in_quotes(file)));

  const auto before = [](const Index::Entry& entry, std::string_view wanted) { return entry.tensor < wanted; };
  for (size_t i = 0; i < shards.size(); ++i) {
    for (int64_t t = 0; t < shards[i].size(); ++t) {
      const std::string_view tensor = shards[i].name(t);
      const auto entry = std::lower_bound(index.entries.begin(), index.entries.end(), tensor, before);
      if (entry == index.entries.end() || entry->tensor != tensor)
        problems.push_back(concat("tensor ", in_quotes(tensor), " in ", in_quotes(files[i]), " is not in the index"));
      else if (entry->file != files[i])
        problems.push_back(concat("tensor ", in_quotes(tensor), " is in ", in_quotes(files[i]), ", but the index says ",
                                  in_quotes(entry->file)));
    }
  }
  if (!problems.empty()) fail_problems(source, std::move(problems));
}

}  // namespace

WeightFile::WeightFile(const std::filesystem::path& path, const SafetensorsLimits& limits) : path_(path) {
  std::error_code ignored;
  if (std::filesystem::is_directory(path, ignored)) {
    open_directory(limits);
  } else if (path.extension() == ".json") {
    const Directory directory(path.has_parent_path() ? path.parent_path() : std::filesystem::path("."));
    open_index(directory, path.filename().string(), limits);
  } else {
    shards_.emplace_back(path, limits);
  }
  list_tensors();
  for (const SafetensorsFile& file : shards_)
    warnings_.insert(warnings_.end(), file.warnings().begin(), file.warnings().end());
}

void WeightFile::open_directory(const SafetensorsLimits& limits) {
  const Directory directory(path_);
  if (directory.has_file(kConfig)) {
    config_ = read_text_file(File(directory, kConfig));
    parse_json(*config_, (path_ / kConfig).string());
  }
  if (directory.has_file(kSingle)) {
    if (directory.has_file(kIndex))
      warnings_.push_back(concat(path_.string(), ": ", kSingle, " is used, ", kIndex, " beside it is not"));
    shards_.emplace_back(File(directory, kSingle), limits);
    return;
  }
  if (directory.has_file(kIndex)) return open_index(directory, kIndex, limits);

  std::string others, inner;
  for (const auto& entry : std::filesystem::directory_iterator(path_)) {
    std::error_code ignored;
    if (std::filesystem::exists(entry.path() / kSingle, ignored))
      inner += (inner.empty() ? "" : ", ") + in_quotes(entry.path().filename().string());
    const std::string extension = entry.path().extension().string();
    for (const char* weights : {".safetensors", ".pth", ".pt", ".bin"})
      if (extension == weights) others += (others.empty() ? "" : ", ") + in_quotes(entry.path().filename().string());
  }
  fail(ErrorKind::bad_model, path_.string(), ": the directory has neither ", kSingle, " nor ", kIndex,
       others.empty() ? "" : "; name one of its weight files instead: ", others,
       inner.empty() ? "" : "; name one of the model directories in it instead: ", inner);
}

void WeightFile::open_index(const Directory& directory, const std::string& name, const SafetensorsLimits& limits) {
  const std::string source = (directory.path() / name).string();
  Index index;
  index.text = read_text_file(File(directory, name), limits.header_bytes);
  parse_index(index, source, limits);

  std::set<std::string_view> names;
  for (const auto& entry : index.entries) {
    names.insert(entry.file);
    if (names.size() > kMaxShards) refuse(bad_index, source, "the index names more than ", kMaxShards, " files");
  }
  const std::vector<std::string> files(names.begin(), names.end());
  for (const std::string& file : files) {
    if (!directory.has_file(file)) refuse(bad_index, source, "file ", in_quotes(file), " is not in its directory");
    shards_.emplace_back(File(directory, file), limits);
  }
  check_index(index, files, shards_, source);
  if (index.total_size && *index.total_size != data_bytes())
    warnings_.push_back(
        concat(source, ": total_size is ", *index.total_size, ", but the tensors have ", data_bytes(), " bytes"));
}

void WeightFile::list_tensors() {
  size_t count = 0;
  for (const SafetensorsFile& file : shards_) count += static_cast<size_t>(file.size());
  order_.reserve(count);
  for (size_t s = 0; s < shards_.size(); ++s)
    for (int64_t i = 0; i < shards_[s].size(); ++i)
      order_.push_back({static_cast<int32_t>(s), static_cast<int32_t>(i)});
  if (shards_.size() < 2) return;
  std::sort(order_.begin(), order_.end(), [&](Place a, Place b) {
    return shards_[static_cast<size_t>(a.shard)].name(a.index) < shards_[static_cast<size_t>(b.shard)].name(b.index);
  });
}

std::optional<std::string_view> WeightFile::metadata(std::string_view key) const {
  std::optional<std::string_view> agreed;
  for (const SafetensorsFile& shard : shards_) {
    const auto value = shard.metadata(key);
    if (value && agreed && *value != *agreed) return {};
    if (value) agreed = value;
  }
  return agreed;
}

std::map<std::string, std::string> WeightFile::metadata() const {
  std::map<std::string, std::string> all;
  for (const SafetensorsFile& shard : shards_) all.merge(shard.metadata());
  if (shards_.size() > 1) std::erase_if(all, [&](const auto& pair) { return !metadata(pair.first); });
  return all;
}

std::string_view WeightFile::name(int64_t index) const {
  const Place place = order_[static_cast<size_t>(index)];
  return shards_[static_cast<size_t>(place.shard)].name(place.index);
}

TensorInfo WeightFile::operator[](int64_t index) const {
  const Place place = order_[static_cast<size_t>(index)];
  TensorInfo tensor = shards_[static_cast<size_t>(place.shard)][place.index];
  tensor.shard = place.shard;
  return tensor;
}

std::optional<TensorInfo> WeightFile::find(std::string_view name) const {
  for (size_t s = 0; s < shards_.size(); ++s) {
    if (auto tensor = shards_[s].find(name)) {
      tensor->shard = static_cast<int32_t>(s);
      return tensor;
    }
  }
  return {};
}

TensorInfo WeightFile::at(std::string_view name) const {
  if (auto tensor = find(name)) return *std::move(tensor);
  fail(ErrorKind::bad_model, path_.string(), ": there is no tensor ", in_quotes(name), " among its ", size());
}

uint64_t WeightFile::data_bytes() const {
  return std::accumulate(shards_.begin(), shards_.end(), uint64_t{0},
                         [](uint64_t sum, const SafetensorsFile& shard) { return sum + shard.data_bytes(); });
}

std::string WeightFile::sha256() const {
  if (shards_.size() == 1) return shards_.front().sha256();
  Sha256 hash;
  for (const SafetensorsFile& shard : shards_) {
    const std::string line = concat(shard.sha256(), "  ", shard.path().filename().string(), "\n");
    hash.update(std::as_bytes(std::span(line)));
  }
  return hash.finish();
}

}  // namespace vtl::io
