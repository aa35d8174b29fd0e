// How good a classifier is, with scikit-learn's definitions.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace vtl::finetune {

// One row of scores an image, higher is more likely; AUC is taken over them, so they are probabilities for several
// classes.
struct Scores {
  int64_t classes = 0;
  std::vector<double> values;   // [images, classes]
  std::vector<int64_t> labels;  // [images], in [0, classes)

  int64_t images() const { return static_cast<int64_t>(labels.size()); }
  std::span<const double> row(int64_t image) const {
    return std::span(values).subspan(static_cast<size_t>(image * classes), static_cast<size_t>(classes));
  }
};

// Softmax of logits [images, classes] in f64.
Scores scores_of_logits(std::span<const float> logits, std::span<const int64_t> labels, int64_t classes);

struct ClassMetrics {
  std::string name;
  double precision = 0, recall = 0, f1 = 0;  // 0 where the denominator is 0
  int64_t support = 0;
  std::optional<double> auc;  // against the rest; none without a positive or without a negative
};

struct Metrics {
  int64_t images = 0;
  double loss = 0;            // mean cross entropy of the scores, without smoothing or class weights
  double accuracy = 0;        // ties go to the lowest class
  double top5 = 0;            // the same; 1 with five classes or fewer
  double macro_f1 = 0;        // mean over the classes that occur as label or prediction
  std::optional<double> auc;  // two classes: of the second one; more: the mean over the classes that have one
  std::vector<ClassMetrics> per_class;
  std::vector<std::vector<int64_t>> confusion;  // [label][prediction]
};

// `class_names` has one name a class, or none: then the index is the name. Throws bad_argument without images, for
// shapes that do not fit, or a label out of range.
Metrics classification_metrics(const Scores& scores, const std::vector<std::string>& class_names = {});

// Area under the ROC curve: the probability that a positive scores above a negative, ties counting half. None when one
// of the two is missing.
std::optional<double> roc_auc(std::span<const double> scores, const std::vector<bool>& positive);

}  // namespace vtl::finetune
