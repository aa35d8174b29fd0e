#include "vtl/tools/finetune/task.h"

#include <algorithm>

#include "vtl/core/error.h"
#include "vtl/layers/softmax_xent.h"
#include "vtl/tools/finetune/tensor_values.h"

namespace vtl::finetune {
namespace {

class ClassificationObserver : public Observer {
 public:
  explicit ClassificationObserver(std::vector<std::string> class_names) : class_names_(std::move(class_names)) {}

  void observe(const Tensor& output, const Tensor& targets) override {
    classes_ = output.dim(-1);
    const std::vector<float> logits = host_values(output);
    logits_.insert(logits_.end(), logits.begin(), logits.end());
    const size_t before = labels_.size();
    labels_.resize(before + static_cast<size_t>(targets.numel()));
    targets.copy_to_host(std::as_writable_bytes(std::span(labels_).subspan(before)));
  }

  Metrics metrics() const override {
    return classification_metrics(scores_of_logits(logits_, labels_, classes_), class_names_);
  }

 private:
  std::vector<std::string> class_names_;
  int64_t classes_ = 0;
  std::vector<float> logits_;
  std::vector<int64_t> labels_;
};

class ClassificationTask : public Task {
 public:
  ClassificationTask(const ClassificationOptions& options, Device device) : class_names_(options.class_names) {
    loss_.label_smoothing = options.label_smoothing;
    if (options.class_weights.empty()) return;
    const auto count = static_cast<int64_t>(options.class_weights.size());
    VTL_CHECK(class_names_.empty() || count == static_cast<int64_t>(class_names_.size()), "classification: ", count,
              " class weights for ", class_names_.size(), " classes");
    loss_.class_weights = Tensor::from<float>(options.class_weights, {count}, device);
  }

  Tensor loss(const Tensor& output, const Tensor& targets) const override {
    return layers::softmax_xent(output, targets, loss_);
  }
  std::unique_ptr<Observer> observer() const override { return std::make_unique<ClassificationObserver>(class_names_); }

  int64_t count_right(const Tensor& output, const Tensor& targets) const override {
    const std::vector<float> logits = host_values(output);
    std::vector<int64_t> labels(static_cast<size_t>(targets.numel()));
    targets.copy_to_host(std::as_writable_bytes(std::span(labels)));
    const int64_t classes = output.dim(-1);
    int64_t right = 0;
    for (size_t i = 0; i < labels.size(); ++i) {
      const auto row = logits.begin() + static_cast<int64_t>(i) * classes;
      right += std::max_element(row, row + classes) - row == labels[i];
    }
    return right;
  }

 private:
  std::vector<std::string> class_names_;
  layers::CrossEntropy loss_;
};

}  // namespace

std::unique_ptr<Task> classification_task(const ClassificationOptions& options, Device device) {
  return std::make_unique<ClassificationTask>(options, device);
}

}  // namespace vtl::finetune
