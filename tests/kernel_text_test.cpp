// Reads every .cu text and fails where it holds what only one of its two compilers knows, or what the emulator would
// not see.
#include <doctest/doctest.h>

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace {

namespace fs = std::filesystem;

struct Forbidden {
  const char* word;
  const char* instead;
};
constexpr Forbidden kForbidden[] = {
    {"asm", "a wrapper in kernels/device"},
    {"__CUDA_ARCH__", "one text for all"},
    {"__CUDACC__", "one text for both compilers"},
    {"VTL_SIMT", "one text for both compilers"},
    {"__shared__", "VTL_SHARED"},
    {"<<<", "launch of kernels/device/launch.h"},
    {"__shfl_sync", "shuffle of kernels/device/warp.h"},
    {"__shfl_xor_sync", "shuffle_xor of kernels/device/warp.h"},
    {"__shfl_up_sync", "shuffle_up of kernels/device/warp.h"},
    {"__shfl_down_sync", "shuffle_down of kernels/device/warp.h"},
    {"__ballot_sync", "ballot of kernels/device/warp.h"},
    {"__any_sync", "any_of_warp of kernels/device/warp.h"},
    {"__all_sync", "all_of_warp of kernels/device/warp.h"},
    {"atomicAdd", "atomic_add of kernels/device/atomic.h"},
    {"atomicMax", "atomic_max of kernels/device/atomic.h"},
    {"std::min", "min of kernels/device/portable.h"},
    {"std::max", "max of kernels/device/portable.h"},
};

bool of_name(char c) { return std::isalnum(static_cast<unsigned char>(c)) || c == '_'; }

// Where `word` stands as a whole word at or behind `from`.
size_t find_word(const std::string& text, const std::string& word, size_t from = 0) {
  for (size_t at = text.find(word, from); at != std::string::npos; at = text.find(word, at + 1)) {
    const bool begins = at == 0 || !of_name(text[at - 1]) || !of_name(word.front());
    const size_t end = at + word.size();
    if (begins && (end == text.size() || !of_name(text[end]) || !of_name(word.back()))) return at;
  }
  return std::string::npos;
}

// Comments and the contents of strings become spaces; lines stay where they are.
std::string code_of(std::string text) {
  enum { code, line_comment, comment, quoted } state = code;
  for (size_t i = 0; i < text.size(); ++i) {
    const std::string two = text.substr(i, 2);
    if (state == code && two == "//") state = line_comment;
    if (state == code && two == "/*") state = comment;
    if (state == comment && two == "*/") {
      text[i] = text[i + 1] = ' ';
      state = code;
    }
    if (text[i] == '\n') {
      if (state == line_comment) state = code;
      continue;
    }
    if (text[i] == '"' && state == code) {
      state = quoted;
    } else if (text[i] == '"' && state == quoted) {
      state = code;
    } else if (state != code) {
      text[i] = ' ';
    }
  }
  return text;
}

// The parameter list that opens behind `from`: [ '(', behind its ')' ).
std::pair<size_t, size_t> brackets(const std::string& code, size_t from) {
  const size_t open = code.find('(', from);
  int depth = 0;
  for (size_t i = open; i < code.size(); ++i) {
    depth += code[i] == '(' ? 1 : code[i] == ')' ? -1 : 0;
    if (depth == 0) return {open, i + 1};
  }
  return {open, code.size()};
}

// `list` cut at its outermost commas, without spaces.
std::vector<std::string> elements(const std::string& list) {
  std::vector<std::string> found(1);
  int depth = 0;
  for (const char c : list) {
    if (c == '(' || c == '{' || c == '<') ++depth;
    if (c == ')' || c == '}' || c == '>') --depth;
    if (c == ',' && depth == 0)
      found.emplace_back();
    else if (!std::isspace(static_cast<unsigned char>(c)))
      found.back() += c;
  }
  return found;
}

// What is wrong with a text, each with its line: "12: asm: use a wrapper in kernels/device".
std::vector<std::string> problems(const std::string& text) {
  const std::string code = code_of(text);
  std::vector<std::string> found;
  const auto report = [&](size_t at, const std::string& what) {
    found.push_back(std::to_string(std::count(code.begin(), code.begin() + static_cast<std::ptrdiff_t>(at), '\n') + 1) +
                    ": " + what);
  };
  for (const auto& [word, instead] : kForbidden)
    for (size_t at = find_word(code, word); at != std::string::npos; at = find_word(code, word, at + 1))
      report(at, std::string(word) + ": use " + instead);
  for (size_t at = code.find("#include"); at != std::string::npos; at = code.find("#include", at + 1))
    if (code[code.find_first_not_of(' ', at + 8)] != '"') report(at, "a header of CUDA or the standard library");

  // Parameters of kernels point to device memory. Elsewhere __restrict__ may be on shared memory, and then a compiler
  // keeps what it read before a barrier.
  std::vector<std::pair<size_t, size_t>> parameters;
  std::map<std::string, std::string> bounds_of;  // kernel: threads
  for (size_t at = find_word(code, "__global__"); at != std::string::npos; at = find_word(code, "__global__", at + 1)) {
    const size_t bounds = find_word(code, "__launch_bounds__", at);
    const auto first = brackets(code, at);
    if (bounds == std::string::npos || bounds > first.first) {
      report(at, "a kernel without __launch_bounds__");
      parameters.push_back(first);
    } else {
      parameters.push_back(brackets(code, first.second));
      const size_t end = code.find_last_not_of(" \n", parameters.back().first - 1) + 1;
      size_t begin = end;
      while (begin > 0 && of_name(code[begin - 1])) --begin;
      bounds_of[code.substr(begin, end - begin)] =
          elements(code.substr(first.first + 1, first.second - first.first - 2))[0];
    }
  }
  for (size_t at = find_word(code, "__restrict__"); at != std::string::npos;
       at = find_word(code, "__restrict__", at + 1)) {
    bool in_parameters = false;
    for (const auto& [begin, end] : parameters) in_parameters = in_parameters || (at > begin && at < end);
    if (!in_parameters) report(at, "__restrict__ outside the parameters of a kernel");
  }

  // launch(stream, {"name", grid, threads}, kernel<...>, ...): as many threads as the kernel was compiled for.
  for (size_t at = find_word(code, "launch"); at != std::string::npos; at = find_word(code, "launch", at + 1)) {
    const auto [open, end] = brackets(code, at);
    const auto call = elements(code.substr(open + 1, end - open - 2));
    if (call.size() < 3 || call[1].empty() || call[1].front() != '{') continue;
    const auto shape = elements(call[1].substr(1, call[1].size() - 2));
    const auto bounds = bounds_of.find(call[2].substr(0, call[2].find('<')));
    if (bounds == bounds_of.end() || shape.size() < 3 || shape[2] == bounds->second) continue;
    if (shape[2].starts_with("dim3(")) continue;
    report(at, bounds->first + " is compiled for " + bounds->second + " threads and launched with " + shape[2]);
  }
  return found;
}

}  // namespace

TEST_CASE("the texts of CUDA kernels hold nothing that only one compiler knows, and every kernel has its bounds") {
  int seen = 0;
  for (const auto& entry : fs::recursive_directory_iterator(fs::path(VTL_SOURCE_DIR) / "kernels")) {
    if (entry.path().extension() != ".cu") continue;
    ++seen;
    std::ifstream file(entry.path());
    for (const auto& problem : problems(std::string(std::istreambuf_iterator<char>(file), {})))
      FAIL_CHECK(fs::relative(entry.path(), VTL_SOURCE_DIR).string(), ":", problem);
  }
  CHECK(seen >= 2);
}

TEST_CASE("the reader of kernel texts finds what it looks for") {
  const auto first = [](const std::string& text) {
    const auto found = problems(text);
    return found.empty() ? std::string("fine") : found[0];
  };
  CHECK(first("__global__ void __launch_bounds__(32) k(const float* __restrict__ x, int n) { f(x); }") == "fine");
  CHECK(first("\n__global__ void k(float* x) {}") == "2: a kernel without __launch_bounds__");
  CHECK(first("// asm\nasm(\"bar.sync\");") == "2: asm: use a wrapper in kernels/device");
  CHECK(first("int plasma; /* __CUDA_ARCH__ */ const char* s = \"asm\";") == "fine");
  CHECK(first("#if __CUDA_ARCH__ >= 900") == "1: __CUDA_ARCH__: use one text for all");
  CHECK(first("#include <cuda_bf16.h>") == "1: a header of CUDA or the standard library");
  CHECK(first("#include \"vtl/core/dest.h\"") == "fine");
  CHECK(first("k<<<1, 2>>>();") == "1: <<<: use launch of kernels/device/launch.h");
  CHECK(first("__global__ void __launch_bounds__(8) k(float* x) { VTL_DYNAMIC_SHARED(float, tile); float* __restrict__ "
              "t = tile; }") == "1: __restrict__ outside the parameters of a kernel");
  const std::string kernel = "template <int N>\n__global__ void __launch_bounds__(kThreads, 2)\n    k(float* x) {}\n";
  CHECK(first(kernel + "launch(s, {\"k\", f(a, b), kThreads}, k<4>, x);") == "fine");
  CHECK(first(kernel + "launch(s, {\"k\", f(a, b), 64}, k<4>, x);") ==
        "4: k is compiled for kThreads threads and launched with 64");
  CHECK(first("x = atomicAdd(y, 1);") == "1: atomicAdd: use atomic_add of kernels/device/atomic.h");
}
