#include "vtl/io/safetensors_writer.h"

#include <algorithm>
#include <cstring>

#include "vtl/core/error.h"
#include "vtl/io/file.h"
#include "vtl/io/strict_json.h"

namespace vtl::io {
namespace {

// A JSON string, with only the escapes that JSON demands.
std::string json_string(std::string_view text) {
  constexpr char kHex[] = "0123456789abcdef";
  std::string json = "\"";
  for (const char c : text) {
    switch (c) {
      case '"': json += "\\\""; break;
      case '\\': json += "\\\\"; break;
      case '\b': json += "\\b"; break;
      case '\f': json += "\\f"; break;
      case '\n': json += "\\n"; break;
      case '\r': json += "\\r"; break;
      case '\t': json += "\\t"; break;
      default:
        if (static_cast<unsigned char>(c) >= 0x20) json += c;
        else ((json += "\\u00") += kHex[c >> 4]) += kHex[c & 15];
    }
  }
  return json += '"';
}

void check_text(std::string_view text, const char* what) {
  VTL_CHECK(is_utf8(text), "write_safetensors: ", what, " ", in_quotes(text), " is not valid UTF-8");
}

void check_name(std::string_view name) {
  check_text(name, "name");
  VTL_CHECK(name != "__metadata__", "write_safetensors: the name \"__metadata__\" is reserved");
  VTL_CHECK(
      name.size() <= static_cast<size_t>(SafetensorsLimits{}.name_bytes) && name.find('\0') == std::string_view::npos,
      "write_safetensors: name ", in_quotes(name), " is too long or contains U+0000");
}

uint64_t byte_count(const TensorToWrite& tensor) {
  uint64_t bits = 1;
  bool overflow = false;
  for (const uint64_t dim : tensor.shape) overflow |= __builtin_mul_overflow(bits, dim, &bits);
  overflow |= __builtin_mul_overflow(bits, static_cast<uint64_t>(bits_of(tensor.dtype)), &bits);
  VTL_CHECK(!overflow && bits % 8 == 0 && tensor.shape.size() <= static_cast<size_t>(SafetensorsLimits{}.rank),
            "write_safetensors: tensor ", in_quotes(tensor.name), ": ", name(tensor.dtype), " ",
            to_string(tensor.shape), " has too many dimensions, is too large or does not fill whole bytes");
  return bits / 8;
}

// Puts the first of a tensor's names in its place and the others into the metadata.
void settle_aliases(TensorToWrite& tensor, std::map<std::string, std::string>& metadata) {
  for (std::string& alias : tensor.aliases)
    if (alias < tensor.name) std::swap(alias, tensor.name);
  for (const std::string& alias : tensor.aliases) metadata[alias] = tensor.name;
}

void check_names(const std::vector<TensorToWrite>& tensors) {
  std::vector<std::string_view> names;
  for (const TensorToWrite& tensor : tensors) {
    names.push_back(tensor.name);
    names.insert(names.end(), tensor.aliases.begin(), tensor.aliases.end());
  }
  for (const std::string_view name : names) check_name(name);
  std::sort(names.begin(), names.end());
  const auto twice = std::adjacent_find(names.begin(), names.end());
  VTL_CHECK(twice == names.end(), "write_safetensors: two tensors have the name ", in_quotes(*twice));
}

// The length and the JSON text, padded with spaces so that the data begin at a multiple of 8.
std::string header_of(const std::vector<TensorToWrite>& tensors, const std::map<std::string, std::string>& metadata) {
  std::string json = "{";
  const char* comma = "\"__metadata__\":{";
  for (const auto& [key, value] : metadata) {
    check_text(key, "metadata key");
    check_text(value, "metadata value");
    json += comma + json_string(key) + ":" + json_string(value);
    comma = ",";
  }
  if (!metadata.empty()) json += "}";
  comma = metadata.empty() ? "" : ",";
  uint64_t at = 0;
  for (const TensorToWrite& tensor : tensors) {
    const uint64_t begin = at;
    VTL_CHECK(!__builtin_add_overflow(at, byte_count(tensor), &at),
              "write_safetensors: the tensors have 2^64 bytes or more");
    json += concat(comma, json_string(tensor.name), ":{\"dtype\":\"", name(tensor.dtype),
                   "\",\"shape\":", to_string(tensor.shape), ",\"data_offsets\":[", begin, ",", at, "]}");
    comma = ",";
  }
  json += "}";
  json.append((8 - json.size() % 8) % 8, ' ');
  VTL_CHECK(json.size() <= SafetensorsLimits{}.header_bytes, "write_safetensors: the header has ", json.size(),
            " bytes, expected at most ", SafetensorsLimits{}.header_bytes);
  const uint64_t length = json.size();
  json.insert(0, 8, '\0');
  std::memcpy(json.data(), &length, 8);
  return json;
}

}  // namespace

TensorToWrite tensor_from_memory(std::string name, FileDType dtype, std::vector<uint64_t> shape,
                                 std::span<const std::byte> bytes) {
  return {std::move(name), dtype, std::move(shape), [bytes](const ByteSink& sink) { sink(bytes); }};
}

TensorToWrite tensor_from_memory(std::string name, std::span<const int64_t> shape, std::span<const float> values) {
  return tensor_from_memory(std::move(name), FileDType::f32, {shape.begin(), shape.end()}, std::as_bytes(values));
}

void write_safetensors(const std::filesystem::path& path, std::vector<TensorToWrite> tensors,
                       std::map<std::string, std::string> metadata) {
  check_names(tensors);
  VTL_CHECK(static_cast<int64_t>(tensors.size()) <= SafetensorsLimits{}.tensors, "write_safetensors: ", tensors.size(),
            " tensors, expected at most ", SafetensorsLimits{}.tensors);
  for (TensorToWrite& tensor : tensors) settle_aliases(tensor, metadata);
  if (!metadata.empty()) metadata.try_emplace("format", "pt");
  std::sort(tensors.begin(), tensors.end(), [](const TensorToWrite& a, const TensorToWrite& b) {
    return a.dtype != b.dtype ? a.dtype > b.dtype : a.name < b.name;
  });

  const std::string header = header_of(tensors, metadata);
  uint64_t total = header.size();
  for (const TensorToWrite& tensor : tensors) total += byte_count(tensor);
  DurableFile file(path, total);
  file.write(header);
  for (const TensorToWrite& tensor : tensors) {
    const uint64_t expected = byte_count(tensor);
    uint64_t written = 0;
    tensor.produce([&](std::span<const std::byte> piece) {
      written += piece.size();
      if (written <= expected) file.write(piece);
    });
    VTL_CHECK(written == expected, "write_safetensors: tensor ", in_quotes(tensor.name), " produced ", written,
              " bytes, but ", name(tensor.dtype), " ", to_string(tensor.shape), " needs ", expected);
  }
  file.commit();
}

}  // namespace vtl::io
