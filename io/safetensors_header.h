// The header of a safetensors file: 8 bytes with its length N, N bytes of JSON, then the data of the tensors without a
// gap. The file is not trusted: the header is checked by these rules before anything in it is believed. A file that
// breaks several is refused for one of them.
//   A2 the file has 8 bytes or more; A3 N <= 100,000,000; A4 N fits the file, checked before memory is asked for
//   A6 UTF-8 without byte order mark; A7 exactly one JSON object, white space around it; A8 at most 3 levels deep
//   A9 no key twice at any level, compared after unescaping; A14 numbers are plain integers below 2^64
//   A10 __metadata__ is absent, null or an object of strings; A11 every other key is a tensor's name, any string of
//   at most 4,096 bytes without U+0000; A12 at most 1,000,000 tensors
//   A13 an entry is an object with dtype, shape, data_offsets; other fields are passed over with one warning
//   A15 at most 16 dimensions; A16 the dimensions times the bits, multiplied from the left, stay below 2^64 and fill
//   whole bytes
//   A17 two offsets, begin <= end; A18 ranges follow each other from 0 without gap or overlap, each as long as its
//   tensor
//   A19 the last one ends where the file ends
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "vtl/core/dtype.h"
#include "vtl/core/shape.h"

namespace vtl::io {

// The element types of safetensors, in the order in which files are written (the last first).
enum class FileDType : uint8_t {
  boolean,
  f4,
  f6_e2m3,
  f6_e3m2,
  u8,
  i8,
  f8_e5m2,
  f8_e4m3,
  f8_e8m0,
  f8_e4m3fnuz,
  f8_e5m2fnuz,
  i16,
  u16,
  f16,
  bf16,
  i32,
  u32,
  f32,
  c64,
  f64,
  i64,
  u64
};

// "BOOL", "F4", ... as files spell them.
const char* name(FileDType dtype);
int bits_of(FileDType dtype);
// Nothing for a name that is not exactly one of the 22.
std::optional<FileDType> parse_file_dtype(std::string_view name);

FileDType file_dtype(DType dtype);
// The engine's type with the same bytes; nothing for those it does not have (F16 and F64 load by conversion to f32).
std::optional<DType> engine_dtype(FileDType dtype);

struct TensorInfo {
  std::string_view name;  // lives as long as the file it came from
  FileDType dtype = FileDType::f32;
  std::vector<uint64_t> shape;
  uint64_t begin = 0, end = 0;  // bytes, counted from the end of the header
  int32_t shard = 0;            // which file of a sharded model; 0 otherwise

  uint64_t bytes() const { return end - begin; }
  uint64_t count() const;  // elements
};

// "[64,3,7,7]"
std::string to_string(const std::vector<uint64_t>& shape);

// The shape as the engine's own. Throws unsupported when it has more than kMaxDims dimensions or one of 2^63 or more.
Shape engine_shape(const TensorInfo& tensor);

struct SafetensorsLimits {
  uint64_t header_bytes = 100'000'000;  // below 2^32
  int64_t tensors = 1'000'000;
  int rank = 16;
  int name_bytes = 4096;
};

// A checked header. Names, shapes and metadata lie in one block of memory that is never larger than the header was,
// with 32 bytes beside it for each tensor and 16 for each metadata value.
class SafetensorsHeader {
 public:
  // `text` are the `size` bytes of JSON (limits.header_bytes at most), `data_bytes` what follows it in the file,
  // `source` the file's name in messages. Throws SafetensorsError.
  SafetensorsHeader(std::unique_ptr<char[]> text, size_t size, uint64_t data_bytes, const std::string& source,
                    const SafetensorsLimits& limits = {});

  // Tensors are in byte order of their names.
  int64_t size() const { return static_cast<int64_t>(tensors_.size()); }
  std::string_view name(int64_t index) const;
  TensorInfo operator[](int64_t index) const;
  // The index of the tensor of this name; -1 when there is none.
  int64_t find(std::string_view name) const;

  // Nothing for a key that is not there.
  std::optional<std::string_view> metadata(std::string_view key) const;
  // All of it, copied.
  std::map<std::string, std::string> metadata() const;

  const std::vector<std::string>& warnings() const { return warnings_; }

 private:
  friend class HeaderParser;

  struct Text {
    uint32_t at, size;
  };
  struct Record {
    uint64_t begin, end;
    Text name;  // the dimensions follow it, seven bits a byte, least significant first, the high bit for "more"
    uint16_t rank;
    FileDType dtype;
  };
  struct Pair {
    Text key, value;
  };

  std::string_view view(Text text) const { return {text_.get() + text.at, text.size}; }
  TensorInfo info(const Record& record) const;

  std::unique_ptr<char[]> text_;
  std::vector<Record> tensors_;
  std::vector<Pair> metadata_;
  std::vector<std::string> warnings_;
};

}  // namespace vtl::io
