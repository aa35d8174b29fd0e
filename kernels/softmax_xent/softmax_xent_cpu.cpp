#include "vtl/core/parallel.h"
#include "vtl/kernels/cpu/vec.h"
#include "vtl/kernels/softmax_xent/softmax_xent.h"

namespace vtl::kernels::VTL_CPU {
namespace {

int64_t grain_of(const SoftmaxXentDims& d) {
  const int64_t rows = d.classes > 0 ? (8192 + d.classes - 1) / d.classes : 1;
  return rows > 0 ? rows : 1;
}

struct RowSum {
  float max, sum;  // sum of e^(x - max)
};

template <class T>
VTL_INLINE RowSum exp_sum(const T* x, int64_t classes) {
  vfloat high = broadcast(-__builtin_inff());
  for_lanes(classes, [&](int64_t c, auto lanes) {
    // The last vector reads the lanes it lacks as the row's first value, not as 0.
    if constexpr (__is_same(decltype(lanes), AllLanes))
      high = vmax(load(x + c), high);
    else
      for (int64_t i = 0; i < lanes; ++i) high = vmax(broadcast(to_float(x[c + i])), high);
  });
  const float max = max_lanes(high);
  vfloat sum{};
  float rest = 0;
  for_lanes(classes, [&](int64_t c, auto lanes) {
    const vfloat e = vexp(load_n(x + c, lanes) - max);
    if constexpr (__is_same(decltype(lanes), AllLanes)) {
      sum += e;
    } else {
      float values[kLanes];
      store(values, e);
      for (int64_t i = 0; i < lanes; ++i) rest += values[i];
    }
  });
  return {max, sum_lanes(sum) + rest};
}

// sum_c w[c], in order.
float weight_sum(const XentTarget& target, int64_t classes) {
  if (!target.class_weight) return static_cast<float>(classes);
  double sum = 0;
  for (int64_t c = 0; c < classes; ++c) sum += target.class_weight[c];
  return static_cast<float>(sum);
}

VTL_INLINE bool valid(int64_t label, int64_t classes) { return label >= 0 && label < classes; }

// What the mean loss is divided by.
float divisor_of(const XentTarget& target, const SoftmaxXentDims& d) {
  if (!target.labels || !target.class_weight) return static_cast<float>(d.rows);
  double sum = 0;
  for (int64_t r = 0; r < d.rows; ++r)
    if (valid(target.labels[r], d.classes)) sum += target.class_weight[target.labels[r]];
  return static_cast<float>(sum);
}

VTL_INLINE vfloat weights_at(const XentTarget& target, int64_t c, auto lanes) {
  return target.class_weight ? load_n(target.class_weight + c, lanes) : broadcast(1.0f);
}

// -sum_c w t log p of one row, log p = x - max - log_sum.
template <class T>
VTL_INLINE float loss_of_row(const T* x, int64_t r, const XentTarget& target, float max, float log_sum,
                             int64_t classes) {
  const float uniform = target.label_smoothing / static_cast<float>(classes), certain = 1.0f - target.label_smoothing;
  float loss = 0;
  if (target.labels) {
    const int64_t label = target.labels[r];
    if (!valid(label, classes)) return __builtin_nanf("");
    const float weight = target.class_weight ? target.class_weight[label] : 1.0f;
    loss = certain * weight * (log_sum - (to_float(x[label]) - max));
    if (uniform == 0.0f) return loss;
  }
  const float* probabilities = target.labels ? nullptr : target.probabilities + r * classes;
  vfloat sum{};
  float rest = 0;
  for_lanes(classes, [&](int64_t c, auto lanes) {
    const vfloat share = probabilities ? certain * load_n(probabilities + c, lanes) + uniform : broadcast(uniform);
    const vfloat term = weights_at(target, c, lanes) * share * (log_sum - (load_n(x + c, lanes) - max));
    if constexpr (__is_same(decltype(lanes), AllLanes)) {
      sum += term;
    } else {
      float values[kLanes];
      store(values, term);
      for (int64_t i = 0; i < lanes; ++i) rest += values[i];
    }
  });
  return loss + sum_lanes(sum) + rest;
}

template <class T>
void forward(Stream& stream, const T* logits, const XentTarget& target, float* row_loss, float* mean_loss, float* lse,
             SoftmaxXentDims d) {
  const Scratch scratch = stream.scratch(static_cast<size_t>(d.rows) * 4);
  float* const losses = row_loss ? row_loss : scratch.f32();
  parallel_for(d.rows, grain_of(d), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const T* x = logits + r * d.classes;
      const RowSum row = exp_sum(x, d.classes);
      const float log_sum = __builtin_logf(row.sum);
      losses[r] = loss_of_row(x, r, target, row.max, log_sum, d.classes);
      if (lse) lse[r] = row.max + log_sum;
    }
  });
  if (!mean_loss) return;
  double sum = 0;
  for (int64_t r = 0; r < d.rows; ++r) sum += losses[r];
  *mean_loss = static_cast<float>(sum / divisor_of(target, d));
}

template <class T>
void backward(const T* logits, const XentTarget& target, const float* lse, const float* drow_loss,
              const float* dmean_loss, Dest dlogits, SoftmaxXentDims d) {
  auto* out = static_cast<T*>(dlogits.out);
  const auto* addend = static_cast<const T*>(dlogits.addend);
  const float shared = dmean_loss ? *dmean_loss / divisor_of(target, d) : 0.0f;
  const float uniform = target.label_smoothing / static_cast<float>(d.classes), certain = 1.0f - target.label_smoothing;
  const float all_weights = weight_sum(target, d.classes);
  parallel_for(d.rows, grain_of(d), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const int64_t at = r * d.classes;
      const float g = shared + (drow_loss ? drow_loss[r] : 0.0f);
      const int64_t label = target.labels ? target.labels[r] : -1;
      const bool labelled = target.labels && valid(label, d.classes);
      const float* probabilities = target.labels ? nullptr : target.probabilities + at;
      // total = sum_c w t; the label's own term is taken off at the end.
      float total = 0, label_term = 0;
      if (labelled) {
        label_term = certain * (target.class_weight ? target.class_weight[label] : 1.0f);
        total = label_term + uniform * all_weights;
      } else if (target.labels) {
        total = __builtin_nanf("");
      } else {
        double sum = 0;
        for (int64_t c = 0; c < d.classes; ++c)
          sum += (target.class_weight ? target.class_weight[c] : 1.0f) * (certain * probabilities[c] + uniform);
        total = static_cast<float>(sum);
      }
      const float label_logit = labelled ? to_float(logits[at + label]) : 0.0f;
      const float label_addend = labelled && addend ? to_float(addend[at + label]) : 0.0f;
      for_lanes(d.classes, [&](int64_t c, auto lanes) {
        const vfloat share = probabilities ? certain * load_n(probabilities + c, lanes) + uniform : broadcast(uniform);
        vfloat value = total * vexp(load_n(logits + at + c, lanes) - lse[r]) - weights_at(target, c, lanes) * share;
        value *= g;
        if (addend) value += load_n(addend + at + c, lanes);
        store_n(out + at + c, value, lanes);
      });
      if (!labelled) continue;
      const float weight = target.class_weight ? target.class_weight[label] : 1.0f;
      const float p = vexp(broadcast(label_logit - lse[r]))[0];
      out[at + label] = from_float<T>(label_addend + g * (total * p - weight * uniform - label_term));
    }
  });
}

template <class T>
void softmax(const T* logits, float* probabilities, SoftmaxXentDims d) {
  parallel_for(d.rows, grain_of(d), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const T* x = logits + r * d.classes;
      const RowSum row = exp_sum(x, d.classes);
      const float inverse = 1.0f / row.sum;
      for_lanes(d.classes, [&](int64_t c, auto lanes) {
        store_n(probabilities + r * d.classes + c, vexp(load_n(x + c, lanes) - row.max) * inverse, lanes);
      });
    }
  });
}

}  // namespace

void softmax_xent_forward(Stream& stream, DType dtype, const void* logits, XentTarget target, float* row_loss,
                          float* mean_loss, float* lse, SoftmaxXentDims dims) {
  visit_float(dtype, [&]<class T>() {
    forward(stream, static_cast<const T*>(logits), target, row_loss, mean_loss, lse, dims);
  });
}

void softmax_xent_backward(Stream&, DType dtype, const void* logits, XentTarget target, const float* lse,
                           const float* drow_loss, const float* dmean_loss, Dest dlogits, SoftmaxXentDims dims) {
  if (!dlogits.wanted()) return;
  visit_float(dtype, [&]<class T>() {
    backward(static_cast<const T*>(logits), target, lse, drow_loss, dmean_loss, dlogits, dims);
  });
}

void softmax_forward(Stream&, DType dtype, const void* logits, float* probabilities, SoftmaxXentDims dims) {
  visit_float(dtype, [&]<class T>() { softmax(static_cast<const T*>(logits), probabilities, dims); });
}

}  // namespace vtl::kernels::VTL_CPU
