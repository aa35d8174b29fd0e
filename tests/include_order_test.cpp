// Reads every #include of the project and fails where an arrow of the house runs the wrong way.
#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <string>

namespace {

namespace fs = std::filesystem;

const std::map<std::string, std::set<std::string>> kMayInclude{
    {"core", {"core"}},
    {"kernels", {"core", "kernels"}},
    {"io", {"core", "kernels", "io"}},
    {"layers", {"core", "kernels", "layers"}},
    {"optim", {"core", "kernels", "layers", "optim"}},
    {"models", {"core", "layers", "io", "models"}},
    {"tools", {"core", "kernels", "io", "layers", "optim", "models", "tools"}},
    {"tests", {"core", "kernels", "io", "layers", "optim", "models", "tools", "tests"}},
    {"bench", {"core", "kernels", "io", "layers", "optim", "models", "tools", "bench"}},
};

bool is_source(const fs::path& path) {
  const auto extension = path.extension();
  return extension == ".h" || extension == ".cpp" || extension == ".cu" || extension == ".cuh";
}

// What `line` includes in quotes; empty for any other line.
std::string quoted_include(const std::string& line) {
  const size_t hash = line.find_first_not_of(" \t");
  if (hash == std::string::npos || line[hash] != '#') return {};
  const size_t word = line.find_first_not_of(" \t", hash + 1);
  if (word == std::string::npos || line.compare(word, 7, "include") != 0) return {};
  const size_t open = line.find_first_not_of(" \t", word + 7);
  if (open == std::string::npos || line[open] != '"') return {};
  return line.substr(open + 1, line.find('"', open + 1) - open - 1);
}

}  // namespace

TEST_CASE("every include follows the order of the house") {
  const fs::path root = VTL_SOURCE_DIR;
  int seen = 0;
  for (const auto& [folder, allowed] : kMayInclude) {
    if (!fs::exists(root / folder)) continue;
    for (const auto& entry : fs::recursive_directory_iterator(root / folder)) {
      if (!entry.is_regular_file() || !is_source(entry.path())) continue;
      // A consumer of the installed library stands outside the house.
      if (entry.path().string().find("tests/consumer/") != std::string::npos) continue;
      std::ifstream file(entry.path());
      std::string line;
      for (int number = 1; std::getline(file, line); ++number) {
        const std::string target = quoted_include(line);
        if (target.empty()) continue;
        ++seen;
        INFO(fs::relative(entry.path(), root).string(), ":", number, " includes ", target);
        CHECK_MESSAGE(target.starts_with("vtl/"), "an include of ours begins with vtl/");
        const std::string to = target.substr(4, target.find('/', 4) - 4);
        CHECK_MESSAGE(allowed.contains(to), folder, " may not include ", to);
        CHECK_MESSAGE(fs::exists(root / target.substr(4)), "no such file");
      }
    }
  }
  CHECK(seen > 50);
}

// Headers that users never see may.
TEST_CASE("no public header includes json or the command line") {
  const fs::path root = VTL_SOURCE_DIR;
  for (const auto& folder : {"core", "kernels", "io", "layers", "optim", "models", "tools/finetune"})
    for (const auto& entry : fs::recursive_directory_iterator(root / folder)) {
      if (entry.path().extension() != ".h" || entry.path() == root / "io/json.h") continue;
      std::ifstream file(entry.path());
      const std::string text((std::istreambuf_iterator<char>(file)), {});
      INFO(entry.path().string());
      CHECK(text.find("<nlohmann") == std::string::npos);
      CHECK(text.find("<CLI/") == std::string::npos);
    }
}
