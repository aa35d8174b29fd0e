// Real weights and real photographs, through the program. Skipped, saying so, where the shared folder is absent.
#include <doctest/doctest.h>
#include <sys/wait.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <string>

#include "vtl/tests/harness/shared.h"
#include "vtl/tests/harness/temp_dir.h"

#if defined(VTL_FINETUNE)

namespace {

namespace fs = std::filesystem;
using nlohmann::json;

json run(const std::string& arguments, const fs::path& folder) {
  const fs::path out = folder / "stdout", err = folder / "stderr";
  const int status = std::system((VTL_FINETUNE " " + arguments + " --json >" + out.string() + " 2>" + err.string()).c_str());
  std::ifstream errors(err);
  const std::string text((std::istreambuf_iterator<char>(errors)), {});
  REQUIRE_MESSAGE((WIFEXITED(status) && WEXITSTATUS(status) == 0), text);
  return json::parse(std::ifstream(out));
}

std::string lite0(const fs::path& weights) { return " --model tf_efficientnet_lite0 --weights " + (weights / "model.safetensors").string() + " "; }

}  // namespace

TEST_CASE("real input: EfficientNet-Lite0 gives timm's classes and scores for photographs") {
  const fs::path weights = vtl::test::shared_path("weights/tf_efficientnet_lite0"), pictures = vtl::test::shared_path("data/imagenet_samples");
  if (weights.empty() || pictures.empty()) return;
  const json expected = json::parse(std::ifstream(weights / "expected.json"));
  const vtl::test::TempDir folder;
  const json found = run("predict" + lite0(weights) + pictures.string() + " --precision fp32 --logits", folder.path());

  int top1 = 0, top5 = 0;
  std::map<std::string, json> by_name;
  for (const auto& prediction : found.at("predictions")) by_name[fs::path(prediction.at("path").get<std::string>()).filename()] = prediction;
  for (const auto& picture : expected.at("predictions")) {
    const auto name = picture.at("file").get<std::string>();
    INFO(name);
    REQUIRE(by_name.contains(name));
    const json& ours = by_name[name];
    const auto best = picture.at("best_index").get<size_t>();
    CHECK(ours.at("index") == best);
    const double logit = picture.at("best_logit");
    CHECK(std::abs(ours.at("logits").at(best).get<double>() - logit) <= 0.005 * std::abs(logit));
    const auto truth = picture.at("true_index").get<size_t>();
    const auto above = std::count_if(ours.at("logits").begin(), ours.at("logits").end(),
                                     [&](const json& score) { return score.get<double>() > ours.at("logits").at(truth).get<double>(); });
    top1 += above == 0;
    top5 += above < 5;
  }
  CHECK(top1 == expected.at("top1"));
  CHECK(top5 == expected.at("top5"));
}

TEST_CASE("real input: a head on frozen features tells ants from bees") {
  const fs::path weights = vtl::test::shared_path("weights/tf_efficientnet_lite0"), data = vtl::test::shared_path("data/hymenoptera");
  if (weights.empty() || data.empty()) return;
  const vtl::test::TempDir folder;
  const json summary = run("train " + data.string() + lite0(weights) + "--strategy head --augment none --precision fp32 --out " +
                               (folder / "run").string(),
                           folder.path());
  CHECK(summary.at("metrics").at("accuracy").get<double>() >= 0.87);

  // The placeholder that is no picture was named and left out.
  std::ifstream log(folder / "run" / "metrics.jsonl");
  const std::string text((std::istreambuf_iterator<char>(log)), {});
  CHECK(text.find("imageNotFound.gif") != std::string::npos);
}

#endif
