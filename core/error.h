// The one exception type of the library, and the checks that throw it.
#pragma once

#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace vtl {

enum class ErrorKind {
  bad_argument,
  unsupported,
  bad_data,
  bad_model,
  diverged,
  io,
  out_of_memory,
  device,
  peer_lost,
  internal
};

// "bad_argument", "unsupported", ...
const char* name(ErrorKind kind);

// What went wrong, in one sentence: operation, what came, what was expected, what to do.
// When there were many problems at once, `problems` lists all of them and the message the first few.
class Error : public std::runtime_error {
 public:
  Error(ErrorKind kind, const std::string& message, std::vector<std::string> problems = {})
      : std::runtime_error(message), kind_(kind), problems_(std::move(problems)) {}

  ErrorKind kind() const noexcept { return kind_; }
  const std::vector<std::string>& problems() const noexcept { return problems_; }

 private:
  ErrorKind kind_;
  std::vector<std::string> problems_;
};

// The parts written one after the other, as `std::ostream` writes them.
template <class... Parts>
std::string concat(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return std::move(out).str();
}

template <class... Parts>
[[noreturn]] void fail(ErrorKind kind, const Parts&... parts) {
  throw Error(kind, concat(parts...));
}

}  // namespace vtl

// VTL_CHECK(rows > 0, "layernorm: ", rows, " rows, expected at least one") throws a bad_argument.
#define VTL_CHECK(condition, ...) \
  do {                            \
    if (!(condition)) ::vtl::fail(::vtl::ErrorKind::bad_argument, __VA_ARGS__); \
  } while (false)
