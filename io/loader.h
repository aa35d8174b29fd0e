// Batches of training and evaluation: decoded, transformed, in a fixed order, a little ahead of who asks for them.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "vtl/core/tensor.h"
#include "vtl/io/dataset.h"
#include "vtl/io/preprocessing.h"
#include "vtl/io/transform.h"

namespace vtl::io {

// as_given: the order of the samples. shuffled: a permutation fixed by seed and epoch.
enum class SampleOrder { as_given, shuffled };

struct LoaderOptions {
  int64_t batch_size = 32;  // the last batch of an epoch may be shorter
  SampleOrder order = SampleOrder::shuffled;
  uint64_t seed = 0;  // of order and augmentation
  Preprocessing preprocessing;
  Augmentation augmentation;
  // Threads that load while the caller computes, at most one for each core. 0: a batch is loaded when it is asked for,
  // by all compute threads, so that loading never competes with computing for the cores.
  int workers = 0;
  int64_t batches_ahead = 4;                 // kept ready by the workers
  int64_t cache_bytes = int64_t{256} << 20;  // of decoded pictures kept for the next epoch; batches do not depend on it
  ImageLimits limits;
  std::function<void(const BadFile&)> on_bad_file;  // in the thread that calls next, once for each file
};

struct Batch {
  Tensor images;                 // u8 [count, height, width, 3] on the cpu
  Tensor labels;                 // i64 [count]
  std::vector<int64_t> samples;  // which ones

  int64_t count() const { return static_cast<int64_t>(samples.size()); }
};

// 0 where the cpu computes; elsewhere a thread for each core but one, up to 16.
int default_workers(Device device);

// The positions of `count` samples in the order of `epoch`.
std::vector<int64_t> epoch_order(int64_t count, SampleOrder order, uint64_t seed, int64_t epoch);

// Batches depend on samples, options and epoch only, never on threads or timing. One thread uses a loader at a time; it
// may be destroyed in mid-epoch.
class Loader {
 public:
  // Throws bad_argument for no samples or senseless options.
  Loader(std::vector<Sample> samples, LoaderOptions options);
  ~Loader();
  Loader(const Loader&) = delete;
  Loader& operator=(const Loader&) = delete;

  const std::vector<Sample>& samples() const;
  // In an epoch.
  int64_t batches() const;

  // Begins `epoch` with its batch `first_batch`, whatever was under way before.
  void start(int64_t epoch, int64_t first_batch = 0);
  // False at the end of the epoch. Pictures that cannot be read are left out, and so is a batch of nothing else. Other
  // errors of loading are thrown here and end the epoch.
  bool next(Batch& batch);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace vtl::io
