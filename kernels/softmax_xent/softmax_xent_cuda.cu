#include "vtl/kernels/device/block.h"
#include "vtl/kernels/device/floats.h"
#include "vtl/kernels/device/launch.h"
#include "vtl/kernels/device/math.h"
#include "vtl/kernels/softmax_xent/softmax_xent.h"

namespace vtl::kernels::VTL_GPU {
namespace {

// A batch has few rows: small blocks give every multiprocessor some.
constexpr int kThreads = 128;
constexpr int kHeld = 32;  // values that a lane keeps
constexpr int64_t kMostHeldClasses = kHeld * kWarpLanes;

// A row of logits that a warp keeps in its registers: piece p of lane l holds columns N (32 p + l) and the next N - 1.
// classes is a multiple of N and at most kMostHeldClasses.
template <int N, class T>
class HeldRow {
 public:
  static constexpr int kRowsPerBlock = kThreads / kWarpLanes;
  VTL_DEVICE static int64_t index() { return static_cast<int64_t>(blockIdx.x) * kRowsPerBlock + warp_index(); }
  VTL_DEVICE static bool leads() { return lane_index() == 0; }
  VTL_DEVICE static float sum_of_team(float value) { return warp_sum(value); }
  VTL_DEVICE static float max_of_team(float value) { return warp_max(value); }

  VTL_DEVICE HeldRow(const T* logits, int64_t classes) : classes_(static_cast<int>(classes)) {
    VTL_UNROLL
    for (int p = 0; p < kPieces; ++p)
      if (column(p) < classes_) values_[p] = load_floats<N>(logits + column(p));
  }
  // f(c, values of columns c, c + 1, ...) for those of this thread.
  template <class F>
  VTL_DEVICE void each(F&& f) const {
    VTL_UNROLL
    for (int p = 0; p < kPieces; ++p)
      if (column(p) < classes_) f(column(p), values_[p]);
  }

 private:
  static constexpr int kPieces = kHeld / N;
  VTL_DEVICE static int column(int piece) {
    return (piece * static_cast<int>(kWarpLanes) + static_cast<int>(lane_index())) * N;
  }
  int classes_;
  Floats<N> values_[kPieces];
};

// A row of any length that a block reads again for each pass, out of the cache.
template <class T>
class ReadRow {
 public:
  static constexpr int kRowsPerBlock = 1;
  VTL_DEVICE static int64_t index() { return blockIdx.x; }
  VTL_DEVICE static bool leads() { return threadIdx.x == 0; }
  VTL_DEVICE static float sum_of_team(float value) { return block_sum<kThreads>(value); }
  VTL_DEVICE static float max_of_team(float value) { return block_max<kThreads>(value); }

  VTL_DEVICE ReadRow(const T* logits, int64_t classes) : logits_(logits), classes_(classes) {}
  template <class F>
  VTL_DEVICE void each(F&& f) const {
    VTL_UNROLL_BY(4)
    for (int64_t c = threadIdx.x; c < classes_; c += kThreads) f(c, load_floats<1>(logits_ + c));
  }

 private:
  const T* logits_;
  int64_t classes_;
};

template <class Row>
VTL_DEVICE float max_of(const Row& row) {
  float max = -INFINITY;
  row.each([&]<int N>(int64_t, const Floats<N>& x) {
    VTL_UNROLL
    for (int k = 0; k < N; ++k) max = fmaxf(max, x[k]);
  });
  return Row::max_of_team(max);
}
// sum_c e^(x[c] - max)
template <class Row>
VTL_DEVICE float exp_sum_of(const Row& row, float max) {
  float sum = 0;
  row.each([&]<int N>(int64_t, const Floats<N>& x) {
    VTL_UNROLL
    for (int k = 0; k < N; ++k) sum += fast_exp(x[k] - max);
  });
  return Row::sum_of_team(sum);
}

// w[c] t[r,c] of one row.
class RowTarget {
 public:
  VTL_DEVICE RowTarget(const XentTarget& target, int64_t r, int64_t classes)
      : class_weight_(target.class_weight),
        probabilities_(target.labels ? nullptr : target.probabilities + r * classes),
        label_(target.labels ? load(target.labels + r) : -1),
        uniform_(target.label_smoothing / static_cast<float>(classes)),
        certain_(1.0f - target.label_smoothing),
        known_(probabilities_ || (label_ >= 0 && label_ < classes)),
        label_weight_(!probabilities_ && known_ && class_weight_ ? load(class_weight_ + label_) : 1.0f) {}

  // The label is one, if there is any.
  VTL_DEVICE bool known() const { return known_; }
  // Only the label's class has a share.
  VTL_DEVICE bool is_one_class() const { return !probabilities_ && uniform_ == 0.0f; }
  VTL_DEVICE int64_t label() const { return label_; }
  VTL_DEVICE float label_weight() const { return label_weight_; }

  template <int N>
  VTL_DEVICE Floats<N> at(int64_t c) const {
    Floats<N> share;
    if (is_one_class()) {
      VTL_UNROLL
      for (int k = 0; k < N; ++k) share[k] = c + k == label_ ? label_weight_ : 0.0f;
      return share;
    }
    if (probabilities_) share = load_floats<N>(probabilities_ + c);
    VTL_UNROLL
    for (int k = 0; k < N; ++k) {
      const float truth = probabilities_ ? share[k] : c + k == label_ ? 1.0f : 0.0f;
      share[k] = certain_ * truth + uniform_;
    }
    if (!class_weight_) return share;
    const Floats<N> weight = load_floats<N>(class_weight_ + c);
    VTL_UNROLL
    for (int k = 0; k < N; ++k) share[k] *= weight[k];
    return share;
  }

 private:
  const float *class_weight_, *probabilities_;
  int64_t label_;
  float uniform_, certain_;
  bool known_;
  float label_weight_;
};

// -sum_c w t log p, where log p = x - max - log_sum.
template <class Row, class T>
VTL_DEVICE float loss_of(const Row& row, const T* logits, const RowTarget& target, float max, float log_sum) {
  if (!target.known()) return NAN;
  if (target.is_one_class()) return target.label_weight() * (log_sum - (to_float(load(logits + target.label())) - max));
  float sum = 0;
  row.each([&]<int N>(int64_t c, const Floats<N>& x) {
    const Floats<N> share = target.at<N>(c);
    VTL_UNROLL
    for (int k = 0; k < N; ++k) sum += share[k] * (log_sum - (x[k] - max));
  });
  return Row::sum_of_team(sum);
}

// Grid: rows / kRowsPerBlock.
template <class Row, class T>
__global__ void __launch_bounds__(kThreads)
    row_losses(const T* logits, XentTarget target, float* row_loss, float* lse, SoftmaxXentDims d) {
  const int64_t r = Row::index();
  if (r >= d.rows) return;
  const T* x = logits + r * d.classes;
  const Row row(x, d.classes);
  const float max = max_of(row), log_sum = logf(exp_sum_of(row, max));
  const float loss = loss_of(row, x, RowTarget(target, r, d.classes), max, log_sum);
  if (!Row::leads()) return;
  store(row_loss + r, loss);
  if (lse) store(lse + r, max + log_sum);
}

// What the mean loss is divided by. The whole block asks.
VTL_DEVICE float divisor_of(const XentTarget& target, const SoftmaxXentDims& d) {
  if (!target.labels || !target.class_weight) return static_cast<float>(d.rows);
  double sum = 0;
  for (int64_t r = threadIdx.x; r < d.rows; r += kThreads) {
    const int64_t label = load(target.labels + r);
    if (label >= 0 && label < d.classes) sum += static_cast<double>(load(target.class_weight + label));
  }
  return static_cast<float>(block_sum<kThreads>(sum));
}

// One block.
__global__ void __launch_bounds__(kThreads) find_divisor(XentTarget target, float* divisor, SoftmaxXentDims d) {
  const float found = divisor_of(target, d);
  if (threadIdx.x == 0) store(divisor, found);
}

// One block.
__global__ void __launch_bounds__(kThreads)
    mean_of_losses(const float* row_loss, XentTarget target, float* mean_loss, SoftmaxXentDims d) {
  double sum = 0;
  for (int64_t r = threadIdx.x; r < d.rows; r += kThreads) sum += static_cast<double>(load(row_loss + r));
  sum = block_sum<kThreads>(sum);
  const float divisor = divisor_of(target, d);
  if (threadIdx.x == 0) store(mean_loss, static_cast<float>(sum / static_cast<double>(divisor)));
}

// What backward reads and writes. divisor null: the number of rows.
template <class T>
struct Gradient {
  const T* logits;
  const float *lse, *drow_loss, *dmean_loss, *divisor;
  T* out;
  const T* addend;
};

// Grid: rows / kRowsPerBlock.
template <class Row, class T>
__global__ void __launch_bounds__(kThreads) row_gradients(Gradient<T> g, XentTarget targets, SoftmaxXentDims d) {
  const int64_t r = Row::index();
  if (r >= d.rows) return;
  const Row row(g.logits + r * d.classes, d.classes);
  const RowTarget target(targets, r, d.classes);
  float upstream = g.drow_loss ? load(g.drow_loss + r) : 0.0f;
  if (g.dmean_loss) upstream += load(g.dmean_loss) / (g.divisor ? load(g.divisor) : static_cast<float>(d.rows));
  float total = NAN;  // sum_c w t
  if (target.known() && target.is_one_class()) total = target.label_weight();
  if (target.known() && !target.is_one_class()) {
    float sum = 0;
    row.each([&]<int N>(int64_t c, const Floats<N>&) {
      const Floats<N> share = target.at<N>(c);
      VTL_UNROLL
      for (int k = 0; k < N; ++k) sum += share[k];
    });
    total = Row::sum_of_team(sum);
  }
  const float lse = load(g.lse + r);
  row.each([&]<int N>(int64_t c, const Floats<N>& x) {
    const Floats<N> share = target.at<N>(c);
    Floats<N> value = load_floats_or_zero<N>(g.addend, r * d.classes + c);
    VTL_UNROLL
    for (int k = 0; k < N; ++k) value[k] += upstream * (total * fast_exp(x[k] - lse) - share[k]);
    store_floats(g.out + r * d.classes + c, value);
  });
}

// Grid: rows / kRowsPerBlock.
template <class Row, class T>
__global__ void __launch_bounds__(kThreads) normalize_rows(const T* logits, float* probabilities, SoftmaxXentDims d) {
  const int64_t r = Row::index();
  if (r >= d.rows) return;
  const Row row(logits + r * d.classes, d.classes);
  const float max = max_of(row), inverse = 1.0f / exp_sum_of(row, max);
  row.each([&]<int N>(int64_t c, const Floats<N>& x) {
    Floats<N> p;
    VTL_UNROLL
    for (int k = 0; k < N; ++k) p[k] = fast_exp(x[k] - max) * inverse;
    store_floats(probabilities + r * d.classes + c, p);
  });
}

// f.operator()<Row>(blocks) for the row that fits; `aligned`: all pointers are, to four values.
template <class T, class F>
void with_row(SoftmaxXentDims d, bool aligned, F&& f) {
  if (d.classes > kMostHeldClasses)
    f.template operator()<ReadRow<T>>(blocks_for(d.rows, ReadRow<T>::kRowsPerBlock));
  else if (d.classes % 4 == 0 && aligned)
    f.template operator()<HeldRow<4, T>>(blocks_for(d.rows, HeldRow<4, T>::kRowsPerBlock));
  else
    f.template operator()<HeldRow<1, T>>(blocks_for(d.rows, HeldRow<1, T>::kRowsPerBlock));
}
bool is_aligned(const XentTarget& target) {
  return aligned_to<4>(target.probabilities) && aligned_to<4>(target.class_weight);
}

}  // namespace

void softmax_xent_forward(Stream& stream, DType dtype, const void* logits, XentTarget target, float* row_loss,
                          float* mean_loss, float* lse, SoftmaxXentDims dims) {
  const Scratch scratch = stream.scratch(row_loss ? 0 : static_cast<size_t>(dims.rows) * sizeof(float));
  float* const losses = row_loss ? row_loss : scratch.f32();
  if (dims.rows > 0)
    visit_float(dtype, [&]<class T>() {
      const auto* x = static_cast<const T*>(logits);
      with_row<T>(dims, aligned_to<4>(x) && is_aligned(target), [&]<class Row>(unsigned blocks) {
        launch(stream, {"softmax_xent row_losses", blocks, kThreads}, row_losses<Row, T>, x, target, losses, lse, dims);
      });
    });
  if (mean_loss)
    launch(stream, {"softmax_xent mean_of_losses", 1, kThreads}, mean_of_losses, losses, target, mean_loss, dims);
}

void softmax_xent_backward(Stream& stream, DType dtype, const void* logits, XentTarget target, const float* lse,
                           const float* drow_loss, const float* dmean_loss, Dest dlogits, SoftmaxXentDims dims) {
  if (!dlogits.wanted() || dims.rows == 0) return;
  const bool weighted = dmean_loss && target.labels && target.class_weight;
  const Scratch divisor = stream.scratch(sizeof(float));
  if (weighted) launch(stream, {"softmax_xent find_divisor", 1, kThreads}, find_divisor, target, divisor.f32(), dims);
  visit_float(dtype, [&]<class T>() {
    const Gradient<T> g{static_cast<const T*>(logits),
                        lse,
                        drow_loss,
                        dmean_loss,
                        weighted ? divisor.f32() : nullptr,
                        static_cast<T*>(dlogits.out),
                        static_cast<const T*>(dlogits.addend)};
    const bool aligned =
        aligned_to<4>(g.logits) && aligned_to<4>(g.out) && aligned_to<4>(g.addend) && is_aligned(target);
    with_row<T>(dims, aligned, [&]<class Row>(unsigned blocks) {
      launch(stream, {"softmax_xent row_gradients", blocks, kThreads}, row_gradients<Row, T>, g, target, dims);
    });
  });
}

void softmax_forward(Stream& stream, DType dtype, const void* logits, float* probabilities, SoftmaxXentDims dims) {
  if (dims.rows == 0) return;
  visit_float(dtype, [&]<class T>() {
    const auto* x = static_cast<const T*>(logits);
    with_row<T>(dims, aligned_to<4>(x) && aligned_to<4>(probabilities), [&]<class Row>(unsigned blocks) {
      launch(stream, {"softmax normalize_rows", blocks, kThreads}, normalize_rows<Row, T>, x, probabilities, dims);
    });
  });
}

}  // namespace vtl::kernels::VTL_GPU
