#include "vtl/io/safetensors_error.h"

#include <utility>

namespace vtl::io {
namespace {

struct FaultText {
  const char* code;
  const char* rule;
};

FaultText text(SafetensorsFault fault) {
  using enum SafetensorsFault;
  switch (fault) {
    case header_too_small: return {"HeaderTooSmall", "A2"};
    case header_too_large: return {"HeaderTooLarge", "A3"};
    case header_length_beyond_file: return {"HeaderLengthBeyondFile", "A4"};
    case header_not_utf8: return {"HeaderNotUtf8", "A6"};
    case header_not_json: return {"HeaderNotJson", "A7"};
    case header_not_object: return {"HeaderNotObject", "A7"};
    case header_too_deep: return {"HeaderTooDeep", "A8"};
    case bad_integer: return {"BadInteger", "A14"};
    case duplicate_key: return {"DuplicateKey", "A9"};
    case bad_metadata: return {"BadMetadata", "A10"};
    case too_many_tensors: return {"TooManyTensors", "A12"};
    case bad_name: return {"BadName", "A11"};
    case bad_tensor_entry: return {"BadTensorEntry", "A13"};
    case missing_field: return {"MissingField", "A13"};
    case unknown_dtype: return {"UnknownDtype", "A13"};
    case bad_shape: return {"BadShape", "A13"};
    case rank_too_large: return {"RankTooLarge", "A15"};
    case bad_offsets: return {"BadOffsets", "A17"};
    case size_overflow: return {"SizeOverflow", "A16"};
    case sub_byte_misaligned: return {"SubByteMisaligned", "A16"};
    case not_contiguous: return {"NotContiguous", "A18"};
    case size_mismatch: return {"SizeMismatch", "A18"};
    case file_not_covered: return {"FileNotCovered", "A19"};
    case file_changed: return {"FileChanged", "A22"};
    case bad_index: return {"BadIndex", "sharded models"};
  }
  return {"?", "?"};
}

ErrorKind kind(SafetensorsFault fault) {
  return fault == SafetensorsFault::file_changed ? ErrorKind::io : ErrorKind::bad_model;
}

}  // namespace

const char* name(SafetensorsFault fault) { return text(fault).code; }

SafetensorsError::SafetensorsError(SafetensorsFault fault, const std::string& file, const std::string& problem,
                                   std::vector<std::string> problems)
    : Error(io::kind(fault), concat(file, ": ", problem, " [", text(fault).code, "; rule ", text(fault).rule, "]"),
            std::move(problems)),
      fault_(fault) {}

}  // namespace vtl::io
