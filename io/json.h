// JSON documents such as config.json, through nlohmann-json. For .cpp files that already depend on it: not installed.
#pragma once

#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

#include "vtl/core/error.h"

namespace vtl::io {

// The value of a JSON text. Beyond what JSON demands, no key stands twice in an object and nesting ends at 64 levels.
// Errors have the kind `kind` and begin with `source`, the file's name.
nlohmann::json parse_json(std::string_view text, const std::string& source, ErrorKind kind = ErrorKind::bad_model);

// Reads and parses a file of at most 16 MiB. A file that cannot be read is an io error.
nlohmann::json read_json_file(const std::filesystem::path& path, ErrorKind kind = ErrorKind::bad_model);

// The member `key` of an object, which must be there; `source` is the file's name in messages.
const nlohmann::json& json_member(const nlohmann::json& object, const std::string& key, const std::string& source);

// The member `key` as T (std::string, bool, int64_t, double, std::vector of those); the error names file, key and what
// came. An int64_t takes integers only, a double any number.
template <class T>
T json_get(const nlohmann::json& object, const std::string& key, const std::string& source);

// The same, or `fallback` when the key is not there or null.
template <class T>
T json_get_or(const nlohmann::json& object, const std::string& key, const std::string& source, T fallback);

}  // namespace vtl::io
