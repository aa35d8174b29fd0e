#include "vtl/tools/finetune/metrics.h"

#include <doctest/doctest.h>

#include <cmath>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>

#include "vtl/core/error.h"

using namespace vtl;
using namespace vtl::finetune;

namespace {

// Sums of at most a few hundred terms in f64, in another order than numpy's.
constexpr double kTolerance = 1e-12;

std::optional<double> optional_number(const nlohmann::json& json) {
  return json.is_null() ? std::nullopt : std::optional<double>(json.get<double>());
}

void check_close(const std::optional<double>& found, const std::optional<double>& wanted) {
  REQUIRE(found.has_value() == wanted.has_value());
  if (wanted) CHECK(std::abs(*found - *wanted) <= kTolerance);
}

Scores scores(int64_t classes, std::vector<double> values, std::vector<int64_t> labels) {
  return {classes, std::move(values), std::move(labels)};
}

}  // namespace

TEST_CASE("metrics equal those of scikit-learn") {
  std::ifstream file(VTL_SOURCE_DIR "/tests/golden/metrics.json");
  REQUIRE(file.good());
  const nlohmann::json golden = nlohmann::json::parse(file);
  for (const auto& [name, wanted] : golden["cases"].items()) {
    CAPTURE(name);
    const auto classes = wanted["classes"].get<int64_t>();
    std::vector<float> logits;
    for (const auto& row : wanted["logits"])
      for (const auto& value : row) logits.push_back(value.get<float>());
    const auto labels = wanted["labels"].get<std::vector<int64_t>>();
    const Metrics found = classification_metrics(scores_of_logits(logits, labels, classes));

    CHECK(found.images == static_cast<int64_t>(labels.size()));
    CHECK(std::abs(found.accuracy - wanted["accuracy"].get<double>()) <= kTolerance);
    CHECK(std::abs(found.top5 - wanted["top5"].get<double>()) <= kTolerance);
    CHECK(std::abs(found.loss - wanted["loss"].get<double>()) <= kTolerance);
    CHECK(std::abs(found.macro_f1 - wanted["macro_f1"].get<double>()) <= kTolerance);
    check_close(found.auc, optional_number(wanted["auc"]));
    CHECK(found.confusion == wanted["confusion"].get<std::vector<std::vector<int64_t>>>());
    REQUIRE(found.per_class.size() == static_cast<size_t>(classes));
    for (size_t c = 0; c < found.per_class.size(); ++c) {
      CAPTURE(c);
      CHECK(std::abs(found.per_class[c].precision - wanted["precision"][c].get<double>()) <= kTolerance);
      CHECK(std::abs(found.per_class[c].recall - wanted["recall"][c].get<double>()) <= kTolerance);
      CHECK(std::abs(found.per_class[c].f1 - wanted["f1"][c].get<double>()) <= kTolerance);
      CHECK(found.per_class[c].support == wanted["support"][c].get<int64_t>());
      check_close(found.per_class[c].auc, optional_number(wanted["auc_per_class"][c]));
    }
  }
}

TEST_CASE("equal scores count half in the area under the curve") {
  const std::vector<double> values = {0.1, 0.4, 0.4, 0.8};
  CHECK(roc_auc(values, {false, false, true, true}) == doctest::Approx(3.5 / 4));
  CHECK(roc_auc(values, {true, true, false, false}) == doctest::Approx(0.5 / 4));
  CHECK_FALSE(roc_auc(values, {true, true, true, true}).has_value());
  CHECK_FALSE(roc_auc({}, {}).has_value());
}

TEST_CASE("of equal scores the lower class is predicted and ranks first") {
  const Metrics m = classification_metrics(scores(6, {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, {0, 5}));
  CHECK(m.accuracy == 0.5);
  CHECK(m.top5 == 0.5);
}

TEST_CASE("a class is named by its index when there are no names") {
  CHECK(classification_metrics(scores(2, {1, 0}, {0})).per_class[1].name == "1");
  CHECK(classification_metrics(scores(2, {1, 0}, {0}), {"ant", "bee"}).per_class[1].name == "bee");
}

TEST_CASE("a probability of zero still has a finite loss") {
  const std::vector<float> logits = {1000.0f, -1000.0f};
  const std::vector<int64_t> labels = {1};
  const double loss = classification_metrics(scores_of_logits(logits, labels, 2)).loss;
  CHECK(std::isfinite(loss));
  CHECK(loss > 700);
}

TEST_CASE("metrics refuse what they cannot measure") {
  CHECK_THROWS_AS(classification_metrics(scores(2, {}, {})), Error);
  CHECK_THROWS_AS(classification_metrics(scores(2, {1, 0}, {2})), Error);
  CHECK_THROWS_AS(classification_metrics(scores(2, {1, 0, 1}, {0})), Error);
  CHECK_THROWS_AS(classification_metrics(scores(2, {1, 0}, {0}), {"one"}), Error);
  try {
    classification_metrics(scores(2, {std::numeric_limits<double>::quiet_NaN(), 0}, {0}));
    FAIL("a score that is not finite was accepted");
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::diverged);
  }
}
