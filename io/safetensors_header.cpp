#include "vtl/io/safetensors_header.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <span>

#include "vtl/core/error.h"
#include "vtl/io/safetensors_error.h"
#include "vtl/io/strict_json.h"

namespace vtl::io {
namespace {

using enum SafetensorsFault;

struct DTypeText {
  const char* name;
  int bits;
};

constexpr DTypeText kDTypes[] = {{"BOOL", 8},        {"F4", 4},      {"F6_E2M3", 6}, {"F6_E3M2", 6}, {"U8", 8},
                                 {"I8", 8},          {"F8_E5M2", 8}, {"F8_E4M3", 8}, {"F8_E8M0", 8}, {"F8_E4M3FNUZ", 8},
                                 {"F8_E5M2FNUZ", 8}, {"I16", 16},    {"U16", 16},    {"F16", 16},    {"BF16", 16},
                                 {"I32", 32},        {"U32", 32},    {"F32", 32},    {"C64", 64},    {"F64", 64},
                                 {"I64", 64},        {"U64", 64}};

constexpr std::string_view kMetadata = "__metadata__";
constexpr int kMaxDepth = 3;

}  // namespace

const char* name(FileDType dtype) { return kDTypes[static_cast<size_t>(dtype)].name; }
int bits_of(FileDType dtype) { return kDTypes[static_cast<size_t>(dtype)].bits; }

std::optional<FileDType> parse_file_dtype(std::string_view name) {
  for (size_t i = 0; i < std::size(kDTypes); ++i)
    if (name == kDTypes[i].name) return static_cast<FileDType>(i);
  return {};
}

FileDType file_dtype(DType dtype) {
  switch (dtype) {
    case DType::f32: return FileDType::f32;
    case DType::bf16: return FileDType::bf16;
    case DType::u8: return FileDType::u8;
    case DType::i8: return FileDType::i8;
    case DType::i32: return FileDType::i32;
    case DType::i64: return FileDType::i64;
  }
  return FileDType::f32;
}

std::optional<DType> engine_dtype(FileDType dtype) {
  switch (dtype) {
    case FileDType::f32: return DType::f32;
    case FileDType::bf16: return DType::bf16;
    case FileDType::u8: return DType::u8;
    case FileDType::i8: return DType::i8;
    case FileDType::i32: return DType::i32;
    case FileDType::i64: return DType::i64;
    default: return {};
  }
}

uint64_t TensorInfo::count() const {
  uint64_t count = 1;
  for (const uint64_t dim : shape) count *= dim;
  return count;
}

std::string to_string(const std::vector<uint64_t>& shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) text += (i ? "," : "") + std::to_string(shape[i]);
  return text + "]";
}

Shape engine_shape(const TensorInfo& tensor) {
  const auto too_large = [](uint64_t dim) { return dim > static_cast<uint64_t>(std::numeric_limits<int64_t>::max()); };
  if (tensor.shape.size() > kMaxDims || std::any_of(tensor.shape.begin(), tensor.shape.end(), too_large))
    fail(ErrorKind::unsupported, "tensor ", in_quotes(tensor.name), " has shape ", to_string(tensor.shape),
         ", expected at most ", kMaxDims, " dimensions, each below 2^63");
  return Shape(std::span<const int64_t>(std::vector<int64_t>(tensor.shape.begin(), tensor.shape.end())));
}

// Fills a header from its text: one walk over the JSON, then the checks that need all tensors at once.
class HeaderParser {
 public:
  HeaderParser(SafetensorsHeader& header, std::span<char> text, const std::string& source,
               const SafetensorsLimits& limits)
      : header_(header), source_(source), limits_(limits), json_(text, source) {}

  // Returns how much of the front of the text is in use.
  size_t parse() {
    // The metadata key may be one member more.
    const int64_t members = json_.members();
    if (members > limits_.tensors + 1) too_many();
    header_.tensors_.reserve(static_cast<size_t>(members));
    bool has_metadata = false;
    for (json_.open(); json_.more();) {
      const JsonReader::Text key = json_.key();
      if (json_.view(key) != kMetadata) {
        tensor(key);
        continue;
      }
      if (has_metadata) refuse(duplicate_key, source_, "key ", in_quotes(kMetadata), " stands twice in one object");
      has_metadata = true;
      metadata();
    }
    if (header_.size() > limits_.tensors) too_many();
    if (unknown_fields_ > 0)
      header_.warnings_.push_back(
          concat(source_, ": ", unknown_fields_, " unknown fields in tensor entries were ignored"));
    return json_.kept();
  }

  void sort_by_name() {
    auto& tensors = header_.tensors_;
    const auto by_name = [&](const Record& a, const Record& b) { return name(a) < name(b); };
    if (!std::is_sorted(tensors.begin(), tensors.end(), by_name)) std::sort(tensors.begin(), tensors.end(), by_name);
    const auto same = [&](const Record& a, const Record& b) { return name(a) == name(b); };
    const auto twice = std::adjacent_find(tensors.begin(), tensors.end(), same);
    if (twice != tensors.end())
      refuse(duplicate_key, source_, "tensor ", in_quotes(name(*twice)), " stands twice in the header");
  }

  // Leaves the tensors in the order of their data. They come in the order of their names.
  void check_ranges(uint64_t data_bytes) {
    auto& tensors = header_.tensors_;
    const auto by_range = [](const Record& a, const Record& b) {
      return a.begin != b.begin ? a.begin < b.begin : a.end < b.end;
    };
    if (!std::is_sorted(tensors.begin(), tensors.end(), by_range)) std::sort(tensors.begin(), tensors.end(), by_range);
    uint64_t at = 0;
    for (const Record& record : tensors) {
      if (record.begin != at)
        refuse_tensor(not_contiguous, name(record), "its data begin at ", record.begin, ", but those before it end at ",
                      at);
      const uint64_t bytes = byte_count(record);
      if (record.end - record.begin != bytes) {
        const TensorInfo info = header_.info(record);
        refuse_tensor(size_mismatch, info.name, "end ", record.end, " - begin ", record.begin, " = ",
                      record.end - record.begin, " bytes, but ", io::name(info.dtype), " ", to_string(info.shape),
                      " needs ", bytes);
      }
      at = record.end;
    }
    if (at != data_bytes)
      refuse(file_not_covered, source_, "the tensors take ", at, " bytes, but ", data_bytes, " follow the header",
             data_bytes < at ? " (a truncated file?)" : "");
  }

 private:
  using Record = SafetensorsHeader::Record;

  // One tensor's entry as it stands in the file.
  struct Entry {
    bool has_dtype = false, has_shape = false, has_offsets = false;
    std::optional<FileDType> dtype;
    std::string dtype_text;  // in quotes
    bool shape_is_integers = false, offsets_are_integers = false;
    size_t rank = 0, offset_count = 0;  // also of those beyond the limits, which are not kept
    std::vector<uint64_t> shape, offsets;
  };

  [[noreturn]] void too_many() const {
    refuse(too_many_tensors, source_, "the header has more than ", limits_.tensors, " tensors");
  }

  template <class... Parts>
  [[noreturn]] void refuse_tensor(SafetensorsFault fault, std::string_view name, const Parts&... parts) const {
    refuse(fault, source_, "tensor ", in_quotes(name), ": ", parts...);
  }

  std::string_view name(const Record& record) const { return json_.view({record.name.at, record.name.size}); }

  uint64_t byte_count(const Record& record) const {
    return header_.info(record).count() * static_cast<uint64_t>(bits_of(record.dtype)) / 8;
  }

  void metadata() {
    if (json_.kind() == JsonReader::Kind::null) return json_.skip();
    if (json_.kind() != JsonReader::Kind::object) refuse(bad_metadata, source_, in_quotes(kMetadata), " is no object");
    auto& pairs = header_.metadata_;
    pairs.reserve(static_cast<size_t>(json_.members()));
    for (json_.open(); json_.more();) {
      const JsonReader::Text key = json_.key();
      if (json_.kind() != JsonReader::Kind::string)
        refuse(bad_metadata, source_, "the value of ", in_quotes(json_.view(key)), " in ", in_quotes(kMetadata),
               " is no string");
      const JsonReader::Text value = json_.string();
      pairs.push_back({{key.at, key.size}, {value.at, value.size}});
    }
    const auto key = [&](const SafetensorsHeader::Pair& pair) { return json_.view({pair.key.at, pair.key.size}); };
    std::sort(pairs.begin(), pairs.end(), [&](const auto& a, const auto& b) { return key(a) < key(b); });
    const auto twice =
        std::adjacent_find(pairs.begin(), pairs.end(), [&](const auto& a, const auto& b) { return key(a) == key(b); });
    if (twice != pairs.end())
      refuse(duplicate_key, source_, "key ", in_quotes(key(*twice)), " stands twice in ", in_quotes(kMetadata));
  }

  void tensor(JsonReader::Text key) {
    const std::string_view name = json_.view(key);
    if (name.size() > static_cast<size_t>(limits_.name_bytes))
      refuse_tensor(bad_name, name, "the name has ", name.size(), " bytes, expected at most ", limits_.name_bytes);
    if (name.find('\0') != std::string_view::npos) refuse_tensor(bad_name, name, "the name contains U+0000");
    if (json_.kind() != JsonReader::Kind::object) refuse_tensor(bad_tensor_entry, name, "its entry is no object");

    const size_t after_name = json_.kept();
    read_entry();
    json_.rewind(after_name);
    check_entry(name);
    for (const uint64_t dim : entry_.shape) keep_dimension(dim);
    header_.tensors_.push_back({entry_.offsets[0],
                                entry_.offsets[1],
                                {key.at, key.size},
                                static_cast<uint16_t>(entry_.shape.size()),
                                *entry_.dtype});
  }

  // Leaves the names of the fields kept.
  void read_entry() {
    entry_ = {};
    field_names_.clear();
    for (json_.open(); json_.more();) {
      const JsonReader::Text field = json_.key();
      field_names_.push_back(field);
      const std::string_view field_name = json_.view(field);
      if (field_name == "dtype") {
        entry_.has_dtype = true;
        read_dtype();
      } else if (field_name == "shape") {
        entry_.has_shape = true;
        entry_.shape_is_integers = read_integers(entry_.shape, entry_.rank, static_cast<size_t>(limits_.rank));
      } else if (field_name == "data_offsets") {
        entry_.has_offsets = true;
        entry_.offsets_are_integers = read_integers(entry_.offsets, entry_.offset_count, 2);
      } else {
        ++unknown_fields_;
        json_.skip();
      }
    }
    json_.check_distinct(field_names_);
  }

  void read_dtype() {
    if (json_.kind() != JsonReader::Kind::string) {
      json_.skip();
      entry_.dtype_text = "no string";
      return;
    }
    const size_t before = json_.kept();
    const std::string_view text = json_.view(json_.string());
    entry_.dtype = parse_file_dtype(text);
    if (!entry_.dtype) entry_.dtype_text = in_quotes(text);
    json_.rewind(before);
  }

  // The first `limit` values of an array, and how many there were; false when the value is no array of integers.
  bool read_integers(std::vector<uint64_t>& values, size_t& count, size_t limit) {
    if (json_.kind() != JsonReader::Kind::array) return json_.skip(), false;
    bool all_integers = true;
    for (json_.open(); json_.more(); ++count) {
      if (json_.kind() != JsonReader::Kind::number) {
        all_integers = false;
        json_.skip();
        continue;
      }
      const uint64_t value = json_.integer();
      if (count < limit) values.push_back(value);
    }
    return all_integers;
  }

  void check_entry(std::string_view name) const {
    const char* missing = !entry_.has_dtype     ? "dtype"
                          : !entry_.has_shape   ? "shape"
                          : !entry_.has_offsets ? "data_offsets"
                                                : nullptr;
    if (missing != nullptr) refuse_tensor(missing_field, name, "its entry has no ", in_quotes(missing));
    if (!entry_.dtype)
      refuse_tensor(unknown_dtype, name, "dtype is ", entry_.dtype_text,
                    ", expected one of the 22 of the format, such as \"F32\"");
    if (!entry_.shape_is_integers) refuse_tensor(bad_shape, name, "shape is no array of integers");
    if (entry_.rank > static_cast<size_t>(limits_.rank))
      refuse_tensor(rank_too_large, name, "shape has ", entry_.rank, " dimensions, expected at most ", limits_.rank);
    if (!entry_.offsets_are_integers || entry_.offset_count != 2)
      refuse_tensor(bad_offsets, name, "data_offsets is no array of two integers");
    uint64_t bits = 1;
    bool overflow = false;
    for (const uint64_t dim : entry_.shape) overflow |= __builtin_mul_overflow(bits, dim, &bits);
    overflow |= __builtin_mul_overflow(bits, static_cast<uint64_t>(bits_of(*entry_.dtype)), &bits);
    if (overflow)
      refuse_tensor(size_overflow, name, io::name(*entry_.dtype), " ", to_string(entry_.shape),
                    " needs 2^64 bits or more");
    if (bits % 8 != 0)
      refuse_tensor(sub_byte_misaligned, name, io::name(*entry_.dtype), " ", to_string(entry_.shape), " needs ", bits,
                    " bits, which are not whole bytes");
    if (entry_.offsets[0] > entry_.offsets[1])
      refuse_tensor(bad_offsets, name, "its data begin at ", entry_.offsets[0], " and end before, at ",
                    entry_.offsets[1]);
  }

  void keep_dimension(uint64_t dim) {
    for (; dim >= 0x80; dim >>= 7) json_.keep(static_cast<char>(dim | 0x80));
    json_.keep(static_cast<char>(dim));
  }

  SafetensorsHeader& header_;
  const std::string& source_;
  const SafetensorsLimits& limits_;
  JsonReader json_;
  Entry entry_;
  std::vector<JsonReader::Text> field_names_;
  int64_t unknown_fields_ = 0;
};

SafetensorsHeader::SafetensorsHeader(std::unique_ptr<char[]> text, size_t size, uint64_t data_bytes,
                                     const std::string& source, const SafetensorsLimits& limits)
    : text_(std::move(text)) {
  check_json_object({text_.get(), size}, kMaxDepth, source);
  HeaderParser parser(*this, {text_.get(), size}, source, limits);
  const size_t kept = parser.parse();
  parser.sort_by_name();
  parser.check_ranges(data_bytes);
  parser.sort_by_name();
  auto shrunk = std::make_unique_for_overwrite<char[]>(kept);
  std::memcpy(shrunk.get(), text_.get(), kept);
  text_ = std::move(shrunk);
}

std::string_view SafetensorsHeader::name(int64_t index) const {
  return view(tensors_[static_cast<size_t>(index)].name);
}

TensorInfo SafetensorsHeader::operator[](int64_t index) const { return info(tensors_[static_cast<size_t>(index)]); }

TensorInfo SafetensorsHeader::info(const Record& record) const {
  TensorInfo info{view(record.name), record.dtype, {}, record.begin, record.end};
  info.shape.reserve(record.rank);
  const char* at = text_.get() + record.name.at + record.name.size;
  for (int i = 0; i < record.rank; ++i) {
    uint64_t dim = 0;
    unsigned char byte;
    int shift = 0;
    do {
      byte = static_cast<unsigned char>(*at++);
      dim |= static_cast<uint64_t>(byte & 0x7f) << shift;
      shift += 7;
    } while (byte & 0x80);
    info.shape.push_back(dim);
  }
  return info;
}

int64_t SafetensorsHeader::find(std::string_view name) const {
  const auto before = [&](const Record& record, std::string_view wanted) { return view(record.name) < wanted; };
  const auto found = std::lower_bound(tensors_.begin(), tensors_.end(), name, before);
  return found != tensors_.end() && view(found->name) == name ? found - tensors_.begin() : -1;
}

std::optional<std::string_view> SafetensorsHeader::metadata(std::string_view key) const {
  const auto before = [&](const Pair& pair, std::string_view wanted) { return view(pair.key) < wanted; };
  const auto found = std::lower_bound(metadata_.begin(), metadata_.end(), key, before);
  if (found == metadata_.end() || view(found->key) != key) return {};
  return view(found->value);
}

std::map<std::string, std::string> SafetensorsHeader::metadata() const {
  std::map<std::string, std::string> all;
  for (const Pair& pair : metadata_) all.emplace_hint(all.end(), view(pair.key), view(pair.value));
  return all;
}

}  // namespace vtl::io
