// What the trainer does not know about: loss, metrics and the type of a target.
#pragma once

#include <memory>

#include "vtl/core/tensor.h"
#include "vtl/tools/finetune/metrics.h"

namespace vtl::finetune {

// Gathers outputs until somebody asks how good they were.
class Observer {
 public:
  virtual ~Observer() = default;
  // output: what the model gave for a batch; targets: as the task's loss takes them.
  virtual void observe(const Tensor& output, const Tensor& targets) = 0;
  // Of everything observed.
  virtual Metrics metrics() const = 0;
};

class Task {
 public:
  virtual ~Task() = default;
  // The mean over the batch: one f32, differentiable in `output`.
  virtual Tensor loss(const Tensor& output, const Tensor& targets) const = 0;
  virtual std::unique_ptr<Observer> observer() const = 0;
  // How many of the batch are right, whatever that means: the training accuracy, without keeping outputs.
  virtual int64_t count_right(const Tensor& output, const Tensor& targets) const = 0;
};

struct ClassificationOptions {
  std::vector<std::string> class_names;
  float label_smoothing = 0;
  std::vector<float> class_weights;  // empty: all 1
};

// Cross entropy over logits [batch, classes] and labels i64 [batch].
std::unique_ptr<Task> classification_task(const ClassificationOptions& options, Device device);

}  // namespace vtl::finetune
