#include "vtl/io/json.h"

#include <algorithm>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <set>
#include <vector>

#include "vtl/io/file.h"
#include "vtl/io/strict_json.h"

namespace vtl::io {
namespace {

using nlohmann::json;

constexpr int kMaxDepth = 64;

// Whether a value is a T, and what a T is called.
template <class T>
struct Accepts;
template <>
struct Accepts<std::string> {
  static constexpr const char* what = "a string";
  static bool test(const json& value) { return value.is_string(); }
};
template <>
struct Accepts<bool> {
  static constexpr const char* what = "true or false";
  static bool test(const json& value) { return value.is_boolean(); }
};
template <>
struct Accepts<int64_t> {
  static constexpr const char* what = "an integer";
  static bool test(const json& value) {
    return value.is_number_unsigned() ? value.get<uint64_t>() <= INT64_MAX : value.is_number_integer();
  }
};
template <>
struct Accepts<double> {
  static constexpr const char* what = "a number";
  static bool test(const json& value) { return value.is_number(); }
};
template <class T>
struct Accepts<std::vector<T>> {
  static constexpr const char* what = "an array of values of one type";
  static bool test(const json& value) {
    return value.is_array() && std::all_of(value.begin(), value.end(), Accepts<T>::test);
  }
};

template <class T>
T convert(const json& value, const std::string& key, const std::string& source) {
  if (!Accepts<T>::test(value))
    fail(ErrorKind::bad_model, source, ": ", in_quotes(key), " is ", in_quotes(value.dump(-1, ' ', true)),
         ", expected ", Accepts<T>::what);
  return value.get<T>();
}

}  // namespace

json parse_json(std::string_view text, const std::string& source, ErrorKind kind) {
  std::vector<std::set<std::string>> keys;  // of the objects that are open
  const auto check = [&](int depth, json::parse_event_t event, json& value) {
    if (depth > kMaxDepth) fail(kind, source, ": JSON nested deeper than ", kMaxDepth, " levels");
    if (event == json::parse_event_t::object_start) keys.emplace_back();
    if (event == json::parse_event_t::object_end) keys.pop_back();
    if (event == json::parse_event_t::key && !keys.back().insert(value.get<std::string>()).second)
      fail(kind, source, ": key ", in_quotes(value.get<std::string>()), " stands twice in one object");
    return true;
  };
  try {
    return json::parse(text.begin(), text.end(), check);
  } catch (const json::exception& error) { fail(kind, source, ": no valid JSON: ", error.what()); }
}

json read_json_file(const std::filesystem::path& path, ErrorKind kind) {
  return parse_json(read_text_file(path), path.string(), kind);
}

const json& json_member(const json& object, const std::string& key, const std::string& source) {
  if (!object.is_object()) fail(ErrorKind::bad_model, source, ": expected an object with key ", in_quotes(key));
  const auto found = object.find(key);
  if (found == object.end()) fail(ErrorKind::bad_model, source, ": key ", in_quotes(key), " is missing");
  return *found;
}

template <class T>
T json_get(const json& object, const std::string& key, const std::string& source) {
  return convert<T>(json_member(object, key, source), key, source);
}

template <class T>
T json_get_or(const json& object, const std::string& key, const std::string& source, T fallback) {
  const auto found = object.find(key);
  if (found == object.end() || found->is_null()) return fallback;
  return convert<T>(*found, key, source);
}

#define VTL_JSON_TYPE(T)                                                       \
  template T json_get<T>(const json&, const std::string&, const std::string&); \
  template T json_get_or<T>(const json&, const std::string&, const std::string&, T);

VTL_JSON_TYPE(std::string)
VTL_JSON_TYPE(bool)
VTL_JSON_TYPE(int64_t)
VTL_JSON_TYPE(double)
VTL_JSON_TYPE(std::vector<std::string>)
VTL_JSON_TYPE(std::vector<int64_t>)
VTL_JSON_TYPE(std::vector<double>)

#undef VTL_JSON_TYPE

}  // namespace vtl::io
