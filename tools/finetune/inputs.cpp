#include "vtl/tools/finetune/inputs.h"

#include <algorithm>
#include <array>

#include "vtl/core/context.h"
#include "vtl/core/error.h"
#include "vtl/kernels/image/image.h"

namespace vtl::finetune {
namespace {

class PictureInputs : public Inputs {
 public:
  PictureInputs(io::Loader& loader, const Normalizer& normalizer) : loader_(loader), normalizer_(normalizer) {}

  size_t stage() const override { return 0; }
  int64_t batches() const override { return loader_.batches(); }
  void start(int64_t epoch, int64_t first_batch) override { loader_.start(epoch, first_batch); }
  bool next(InputBatch& batch) override {
    io::Batch loaded;
    if (!loader_.next(loaded)) return false;
    batch.x = normalizer_(loaded.images);
    batch.labels = loaded.labels.to(batch.x.device());
    return true;
  }

 private:
  io::Loader& loader_;
  const Normalizer& normalizer_;
};

// One row a picture that could be read.
struct Rows {
  Tensor values;  // [rows, ...]
  std::vector<int64_t> labels;
};

Rows compute_rows(io::Loader& loader, const Normalizer& normalizer, const models::Model& model, size_t boundary) {
  NoTapeScope no_tape;
  TrainingScope evaluating(false);
  const auto count = static_cast<int64_t>(loader.samples().size());
  // In the order of the samples, whatever order the loader takes: the shape is known after the first batch.
  Tensor all;
  std::vector<bool> present(static_cast<size_t>(count));
  std::vector<int64_t> labels(static_cast<size_t>(count));
  loader.start(0);
  for (io::Batch batch; loader.next(batch);) {
    const Tensor y = model.forward(normalizer(batch.images), 0, boundary);
    if (!all.defined()) all = Tensor::empty(y.shape().with(0, count), y.dtype(), y.device());
    for (int64_t i = 0; i < batch.count(); ++i) {
      const int64_t sample = batch.samples[static_cast<size_t>(i)];
      all.slice(0, sample, sample + 1).copy_from(y.slice(0, i, i + 1));
      present[static_cast<size_t>(sample)] = true;
      labels[static_cast<size_t>(sample)] = batch.labels.data_as<int64_t>()[i];
    }
  }
  if (!all.defined()) fail(ErrorKind::bad_data, "none of ", count, " pictures can be read");
  Rows rows;
  for (int64_t from = 0; from < count; ++from) {
    if (!present[static_cast<size_t>(from)]) continue;
    const auto to = static_cast<int64_t>(rows.labels.size());
    if (to != from) all.slice(0, to, to + 1).copy_from(all.slice(0, from, from + 1));
    rows.labels.push_back(labels[static_cast<size_t>(from)]);
  }
  rows.values = all.slice(0, 0, static_cast<int64_t>(rows.labels.size()));
  return rows;
}

class CachedInputs : public Inputs {
 public:
  CachedInputs(Rows rows, size_t boundary, const io::LoaderOptions& options)
      : rows_(std::move(rows)),
        boundary_(boundary),
        batch_size_(options.batch_size),
        order_kind_(options.order),
        seed_(options.seed) {}

  size_t stage() const override { return boundary_; }
  int64_t batches() const override { return (count() + batch_size_ - 1) / batch_size_; }
  void start(int64_t epoch, int64_t first_batch) override {
    order_ = io::epoch_order(count(), order_kind_, seed_, epoch);
    at_ = std::min(first_batch * batch_size_, count());
  }
  bool next(InputBatch& batch) override {
    const int64_t size = std::min(batch_size_, count() - at_);
    if (size <= 0) return false;
    batch.x = Tensor::empty(rows_.values.shape().with(0, size), rows_.values.dtype(), rows_.values.device());
    std::vector<int64_t> labels;
    for (int64_t i = 0; i < size; ++i) {
      const int64_t row = order_[static_cast<size_t>(at_ + i)];
      batch.x.slice(0, i, i + 1).copy_from(rows_.values.slice(0, row, row + 1));
      labels.push_back(rows_.labels[static_cast<size_t>(row)]);
    }
    batch.labels = Tensor::from<int64_t>(labels, {size}, batch.x.device());
    at_ += size;
    return true;
  }

 private:
  int64_t count() const { return static_cast<int64_t>(rows_.labels.size()); }

  Rows rows_;
  size_t boundary_;
  int64_t batch_size_;
  io::SampleOrder order_kind_;
  uint64_t seed_;
  std::vector<int64_t> order_;
  int64_t at_ = 0;
};

}  // namespace

void choose_crop(models::LoadedModel& loaded, const RunOptions& options) {
  double& crop = loaded.model.facts.preprocessing.crop_pct;
  if (!options.crop_pct || *options.crop_pct == crop) return;
  loaded.report.notes.push_back(concat("crop ", *options.crop_pct, " as asked for; the model's is ", crop));
  crop = *options.crop_pct;
}

Normalizer::Normalizer(const models::Model& model) : dtype_(compute_dtype(model.precision)), device_(model.device) {
  const auto& preprocessing = model.facts.preprocessing;
  mean_ = Tensor::from<float>(preprocessing.mean, {3}, device_);
  std_ = Tensor::from<float>(preprocessing.std, {3}, device_);
}

Tensor Normalizer::operator()(const Tensor& images) const {
  const Tensor here = images.to(device_);
  Tensor x = Tensor::empty(here.shape(), dtype_, device_);
  kernels::image_normalize(stream(), dtype_, here.data_as<uint8_t>(), x.data(), mean_.f32(), std_.f32(),
                           {here.numel() / 3, 3});
  return x;
}

std::unique_ptr<Inputs> picture_inputs(io::Loader& loader, const Normalizer& normalizer) {
  return std::make_unique<PictureInputs>(loader, normalizer);
}

std::unique_ptr<Inputs> cached_inputs(io::Loader& loader, const Normalizer& normalizer, const models::Model& model,
                                      size_t boundary, const io::LoaderOptions& options) {
  return std::make_unique<CachedInputs>(compute_rows(loader, normalizer, model, boundary), boundary, options);
}

int64_t boundary_bytes(const models::Model& model, size_t boundary) {
  if (boundary == model.head_stage())
    return model.facts.features * static_cast<int64_t>(size_of(compute_dtype(model.precision)));
  NoTapeScope no_tape;
  TrainingScope evaluating(false);
  const auto& size = model.facts.preprocessing;
  const Tensor image = Tensor::zeros({1, size.height, size.width, 3}, compute_dtype(model.precision), model.device);
  return static_cast<int64_t>(model.forward(image, 0, boundary).bytes());
}

}  // namespace vtl::finetune
