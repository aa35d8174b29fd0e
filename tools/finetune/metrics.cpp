#include "vtl/tools/finetune/metrics.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "vtl/core/error.h"

namespace vtl::finetune {
namespace {

constexpr int64_t kTop = 5;

double ratio(int64_t part, int64_t whole) {
  return whole == 0 ? 0.0 : static_cast<double>(part) / static_cast<double>(whole);
}

int64_t best_class(std::span<const double> row) { return std::max_element(row.begin(), row.end()) - row.begin(); }

// Of equal scores the lower class ranks first, as for accuracy.
bool in_top(std::span<const double> row, int64_t label) {
  int64_t before = 0;
  for (int64_t c = 0; c < static_cast<int64_t>(row.size()); ++c)
    before += row[c] > row[label] || (row[c] == row[label] && c < label);
  return before < kTop;
}

void check(const Scores& scores, const std::vector<std::string>& class_names) {
  VTL_CHECK(scores.classes >= 1 && scores.images() >= 1, "metrics: ", scores.images(), " images and ", scores.classes,
            " classes, expected at least one of each");
  VTL_CHECK(static_cast<int64_t>(scores.values.size()) == scores.images() * scores.classes,
            "metrics: ", scores.values.size(), " scores for ", scores.images(), " images of ", scores.classes,
            " classes");
  VTL_CHECK(class_names.empty() || static_cast<int64_t>(class_names.size()) == scores.classes,
            "metrics: ", class_names.size(), " class names for ", scores.classes, " classes");
  for (const int64_t label : scores.labels)
    VTL_CHECK(label >= 0 && label < scores.classes, "metrics: label ", label, ", expected 0 to ", scores.classes - 1);
  for (const double value : scores.values)
    if (!std::isfinite(value))
      fail(ErrorKind::diverged, "metrics: the model's output is not finite; train at a lower rate");
}

std::vector<ClassMetrics> per_class_metrics(const std::vector<std::vector<int64_t>>& confusion,
                                            const std::vector<std::string>& names) {
  const size_t classes = confusion.size();
  std::vector<ClassMetrics> result(classes);
  for (size_t c = 0; c < classes; ++c) {
    int64_t labelled = 0, predicted = 0;
    for (size_t k = 0; k < classes; ++k) {
      labelled += confusion[c][k];
      predicted += confusion[k][c];
    }
    const int64_t right = confusion[c][c];
    result[c] = {names.empty() ? std::to_string(c) : names[c],
                 ratio(right, predicted),
                 ratio(right, labelled),
                 ratio(2 * right, predicted + labelled),
                 labelled,
                 {}};
  }
  return result;
}

// scikit-learn takes the mean over the classes that it sees.
double macro_f1(const std::vector<std::vector<int64_t>>& confusion, const std::vector<ClassMetrics>& per_class) {
  double sum = 0;
  int64_t seen = 0;
  for (size_t c = 0; c < per_class.size(); ++c) {
    int64_t predicted = 0;
    for (const auto& row : confusion) predicted += row[c];
    if (per_class[c].support + predicted == 0) continue;
    sum += per_class[c].f1;
    ++seen;
  }
  return seen == 0 ? 0.0 : sum / static_cast<double>(seen);
}

std::optional<double> class_auc(const Scores& scores, int64_t c) {
  std::vector<double> column(scores.labels.size());
  std::vector<bool> positive(scores.labels.size());
  for (int64_t i = 0; i < scores.images(); ++i) {
    column[i] = scores.row(i)[c];
    positive[i] = scores.labels[i] == c;
  }
  return roc_auc(column, positive);
}

std::optional<double> overall_auc(const std::vector<ClassMetrics>& per_class) {
  if (per_class.size() == 2) return per_class[1].auc;
  double sum = 0;
  int64_t defined = 0;
  for (const ClassMetrics& c : per_class) {
    sum += c.auc.value_or(0);
    defined += c.auc.has_value();
  }
  if (defined == 0) return std::nullopt;
  return sum / static_cast<double>(defined);
}

}  // namespace

Scores scores_of_logits(std::span<const float> logits, std::span<const int64_t> labels, int64_t classes) {
  Scores scores{classes, std::vector<double>(logits.size()), {labels.begin(), labels.end()}};
  VTL_CHECK(classes >= 1 && logits.size() == labels.size() * static_cast<size_t>(classes), "metrics: ", logits.size(),
            " logits for ", labels.size(), " images of ", classes, " classes");
  for (size_t begin = 0; begin < logits.size(); begin += static_cast<size_t>(classes)) {
    const auto row = logits.subspan(begin, static_cast<size_t>(classes));
    const double peak = *std::max_element(row.begin(), row.end());
    double sum = 0;
    for (size_t c = 0; c < row.size(); ++c) sum += scores.values[begin + c] = std::exp(row[c] - peak);
    for (size_t c = 0; c < row.size(); ++c) scores.values[begin + c] /= sum;
  }
  return scores;
}

Metrics classification_metrics(const Scores& scores, const std::vector<std::string>& class_names) {
  check(scores, class_names);
  Metrics metrics;
  metrics.images = scores.images();
  metrics.confusion.assign(scores.classes, std::vector<int64_t>(scores.classes, 0));
  int64_t right = 0, top = 0;
  double loss = 0;
  for (int64_t i = 0; i < metrics.images; ++i) {
    const auto row = scores.row(i);
    const int64_t label = scores.labels[i], prediction = best_class(row);
    ++metrics.confusion[label][prediction];
    right += prediction == label;
    top += in_top(row, label);
    // A probability that underflowed still has a finite loss.
    loss -= std::log(std::max(row[label], std::numeric_limits<double>::min()));
  }
  metrics.loss = loss / static_cast<double>(metrics.images);
  metrics.accuracy = ratio(right, metrics.images);
  metrics.top5 = ratio(top, metrics.images);
  metrics.per_class = per_class_metrics(metrics.confusion, class_names);
  metrics.macro_f1 = macro_f1(metrics.confusion, metrics.per_class);
  for (int64_t c = 0; c < scores.classes; ++c) metrics.per_class[static_cast<size_t>(c)].auc = class_auc(scores, c);
  metrics.auc = overall_auc(metrics.per_class);
  return metrics;
}

std::optional<double> roc_auc(std::span<const double> scores, const std::vector<bool>& positive) {
  VTL_CHECK(scores.size() == positive.size(), "roc_auc: ", scores.size(), " scores for ", positive.size(), " labels");
  std::vector<size_t> order(scores.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return scores[a] < scores[b]; });
  const double positives = static_cast<double>(std::count(positive.begin(), positive.end(), true));
  const double negatives = static_cast<double>(positive.size()) - positives;
  if (positives == 0 || negatives == 0) return std::nullopt;
  // Mann-Whitney: the sum of the positives' ranks, where equal scores share the mean of their ranks.
  double rank_sum = 0;
  for (size_t begin = 0, end = 0; begin < order.size(); begin = end) {
    int64_t here = 0;
    for (end = begin; end < order.size() && scores[order[end]] == scores[order[begin]]; ++end)
      here += positive[order[end]];
    rank_sum += static_cast<double>(here) * 0.5 * static_cast<double>(begin + 1 + end);
  }
  return (rank_sum - positives * (positives + 1) / 2) / (positives * negatives);
}

}  // namespace vtl::finetune
