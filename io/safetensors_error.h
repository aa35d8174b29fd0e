// The faults of weight files, each with its code, and the error that carries one.
#pragma once

#include <string>
#include <vector>

#include "vtl/core/error.h"

namespace vtl::io {

// In the order in which a file is checked. Limits and rules: safetensors_header.h.
enum class SafetensorsFault {
  header_too_small,
  header_too_large,
  header_length_beyond_file,
  header_not_utf8,
  header_not_json,
  header_not_object,
  header_too_deep,
  bad_integer,
  duplicate_key,
  bad_metadata,
  too_many_tensors,
  bad_name,
  bad_tensor_entry,
  missing_field,
  unknown_dtype,
  bad_shape,
  rank_too_large,
  bad_offsets,
  size_overflow,
  sub_byte_misaligned,
  not_contiguous,
  size_mismatch,
  file_not_covered,
  file_changed,
  bad_index
};

// "HeaderTooSmall", ...
const char* name(SafetensorsFault fault);

// A file that breaks a rule. Its kind is bad_model; io for a file that changed while it was read.
class SafetensorsError : public Error {
 public:
  // The message is `file: problem [Code; rule A18]`.
  SafetensorsError(SafetensorsFault fault, const std::string& file, const std::string& problem,
                   std::vector<std::string> problems = {});

  SafetensorsFault fault() const noexcept { return fault_; }

 private:
  SafetensorsFault fault_;
};

template <class... Parts>
[[noreturn]] void refuse(SafetensorsFault fault, const std::string& file, const Parts&... parts) {
  throw SafetensorsError(fault, file, concat(parts...));
}

}  // namespace vtl::io
