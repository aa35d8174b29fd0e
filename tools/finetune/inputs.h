// Batches as a stage of the model takes them: pictures through the loader, or what frozen stages made of them, kept.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "vtl/io/loader.h"
#include "vtl/models/pretrained.h"
#include "vtl/tools/finetune/options.h"

namespace vtl::finetune {

// The crop that the options ask for, in place of the model's own, with a note of it.
void choose_crop(models::LoadedModel& loaded, const RunOptions& options);

struct InputBatch {
  Tensor x;       // on the model's device, in its compute dtype
  Tensor labels;  // i64 [count], on the model's device

  int64_t count() const { return labels.numel(); }
};

class Inputs {
 public:
  virtual ~Inputs() = default;
  // The stage of the model that takes x.
  virtual size_t stage() const = 0;
  virtual int64_t batches() const = 0;  // in an epoch
  virtual void start(int64_t epoch, int64_t first_batch = 0) = 0;
  virtual bool next(InputBatch& batch) = 0;
};

// Decoded pictures to normalised ones: (value / 255 - mean) / std in the model's compute dtype, on its device.
class Normalizer {
 public:
  explicit Normalizer(const models::Model& model);
  // u8 [batch, height, width, 3] on the cpu or the device.
  Tensor operator()(const Tensor& images) const;

 private:
  DType dtype_;
  Device device_;
  Tensor mean_, std_;
};

// Pictures of the loader, for stage 0. Both arguments must outlive the result.
std::unique_ptr<Inputs> picture_inputs(io::Loader& loader, const Normalizer& normalizer);

// Runs the stages [0, boundary) over all pictures of one epoch of the loader, once, and keeps what comes out in memory,
// on the device; the order of later epochs is the loader's for these options. Pictures that cannot be read are left
// out.
std::unique_ptr<Inputs> cached_inputs(io::Loader& loader, const Normalizer& normalizer, const models::Model& model,
                                      size_t boundary, const io::LoaderOptions& options);

// Bytes that one picture takes at the entrance of stage `boundary`.
int64_t boundary_bytes(const models::Model& model, size_t boundary);

}  // namespace vtl::finetune
