#include "vtl/io/loader.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstring>
#include <exception>
#include <mutex>
#include <numeric>
#include <optional>
#include <thread>

#include "vtl/core/error.h"
#include "vtl/core/parallel.h"
#include "vtl/core/rng.h"

namespace vtl::io {
namespace {

int cores() { return std::max(1, static_cast<int>(std::thread::hardware_concurrency())); }

// Pictures of earlier epochs, until the budget is used up. Nothing is ever replaced: with a fresh permutation each
// epoch, no picture is worth more than another. A sample has one reader or writer at a time.
class Cache {
 public:
  Cache(size_t samples, int64_t budget) : images_(samples), left_(budget) {}

  std::shared_ptr<const Image> find(int64_t sample) const { return images_[static_cast<size_t>(sample)]; }
  bool reserve(int64_t bytes) {
    if (left_.fetch_sub(bytes) >= bytes) return true;
    left_.fetch_add(bytes);
    return false;
  }
  void keep(int64_t sample, std::shared_ptr<const Image> image) {
    images_[static_cast<size_t>(sample)] = std::move(image);
  }

 private:
  std::vector<std::shared_ptr<const Image>> images_;
  std::atomic<int64_t> left_;
};

enum class Outcome : uint8_t { loaded, unreadable, known_unreadable };

// A batch on its way.
struct Slot {
  Tensor images;
  std::vector<Outcome> outcomes;
  std::vector<std::string> reasons;
  int64_t waiting = 0;       // samples that are not loaded yet
  int64_t error_at = 0;      // position of `error` in the batch
  std::exception_ptr error;  // not about a single picture
};

}  // namespace

struct Loader::State {
  State(std::vector<Sample> all, LoaderOptions chosen)
      : samples(std::move(all)),
        options(std::move(chosen)),
        cache(samples.size(), options.cache_bytes),
        unreadable(samples.size()),
        slots(options.workers > 0 ? static_cast<size_t>(options.batches_ahead) : 1),
        next_batch(batches()) {}

  std::vector<Sample> samples;
  LoaderOptions options;
  Cache cache;
  std::vector<uint8_t> unreadable;  // found in an earlier epoch
  std::vector<Slot> slots;          // a ring: batch b is in slot b % size

  int64_t epoch = 0;
  std::vector<int64_t> order;
  int64_t next_batch;  // for the caller; no epoch has begun

  // With workers: guarded by the mutex, as are slots' counts and errors.
  std::mutex mutex;
  std::condition_variable work, done;
  int64_t next_position = 0;  // in `order`, for the workers
  int64_t loading = 0;        // samples in workers' hands
  bool stopping = false;
  std::vector<std::thread> threads;

  int64_t count() const { return static_cast<int64_t>(order.size()); }
  int64_t batch_begin(int64_t batch) const { return batch * options.batch_size; }
  int64_t batch_count(int64_t batch) const { return std::min(options.batch_size, count() - batch_begin(batch)); }
  int64_t batches() const {
    const int64_t all = static_cast<int64_t>(samples.size());
    return (all + options.batch_size - 1) / options.batch_size;
  }
  Slot& slot(int64_t batch) { return slots[static_cast<size_t>(batch) % slots.size()]; }

  void prepare(int64_t batch) {
    if (batch >= batches()) return;
    const int64_t size = batch_count(batch);
    Slot& s = slot(batch);
    s.images =
        Tensor::empty({size, options.preprocessing.height, options.preprocessing.width, 3}, DType::u8, Device::cpu());
    s.outcomes.assign(static_cast<size_t>(size), Outcome::loaded);
    s.reasons.assign(static_cast<size_t>(size), {});
    s.waiting = size;
    s.error = nullptr;
  }

  // ---- one sample, in any thread ----

  std::shared_ptr<const Image> decoded(int64_t index) {
    const Sample& sample = samples[static_cast<size_t>(index)];
    if (sample.image) return sample.image;
    if (auto known = cache.find(index)) return known;
    auto image = std::make_shared<const Image>(read_image(sample.path, options.limits));
    if (cache.reserve(static_cast<int64_t>(image->bytes()))) cache.keep(index, image);
    return image;
  }

  void transform(int64_t index, uint8_t* out) {
    const Preprocessing& p = options.preprocessing;
    if (options.augmentation.is_random()) {
      RandomSequence random = augment_sequence(options.seed, epoch, index);
      augment_into(*decoded(index), p, options.augmentation, random, out);
      return;
    }
    // The same pixels in each epoch: the result itself is kept.
    const size_t bytes = static_cast<size_t>(p.height * p.width * 3);
    if (const auto known = cache.find(index)) {
      std::memcpy(out, known->rgb.data(), bytes);
      return;
    }
    const Sample& sample = samples[static_cast<size_t>(index)];
    if (sample.image) preprocess_into(*sample.image, p, out);
    else preprocess_into(read_image(sample.path, options.limits), p, out);
    if (cache.reserve(static_cast<int64_t>(bytes)))
      cache.keep(index,
                 std::make_shared<const Image>(Image{p.width, p.height, std::vector<uint8_t>(out, out + bytes)}));
  }

  // Returns what is not the fault of this picture.
  std::exception_ptr load(Slot& s, int64_t batch, int64_t at) {
    const int64_t index = order[static_cast<size_t>(batch_begin(batch) + at)];
    Outcome& outcome = s.outcomes[static_cast<size_t>(at)];
    if (unreadable[static_cast<size_t>(index)]) {
      outcome = Outcome::known_unreadable;
      return nullptr;
    }
    const int64_t bytes = options.preprocessing.height * options.preprocessing.width * 3;
    try {
      transform(index, static_cast<uint8_t*>(s.images.data()) + at * bytes);
    } catch (const Error& error) {
      if (error.kind() != ErrorKind::bad_data) return std::current_exception();
      unreadable[static_cast<size_t>(index)] = 1;
      outcome = Outcome::unreadable;
      s.reasons[static_cast<size_t>(at)] = error.what();
    } catch (...) {
      return std::current_exception();
    }
    return nullptr;
  }

  static void note_error(Slot& s, int64_t at, std::exception_ptr error) {
    if (!error || (s.error && s.error_at <= at)) return;
    s.error = std::move(error);
    s.error_at = at;
  }

  // ---- workers ----

  bool has_work() const {
    return next_position < count() &&
           next_position / options.batch_size < next_batch + static_cast<int64_t>(slots.size());
  }

  void run_worker() {
    std::unique_lock lock(mutex);
    for (;;) {
      work.wait(lock, [&] { return stopping || has_work(); });
      if (stopping) return;
      const int64_t position = next_position++, batch = position / options.batch_size,
                    at = position % options.batch_size;
      Slot& s = slot(batch);
      ++loading;
      lock.unlock();
      std::exception_ptr error = load(s, batch, at);
      lock.lock();
      --loading;
      note_error(s, at, std::move(error));
      if (--s.waiting == 0 || loading == 0) done.notify_all();
    }
  }

  // The workers hold nothing and take nothing on.
  void pause(std::unique_lock<std::mutex>& lock) {
    next_position = count();
    done.wait(lock, [&] { return loading == 0; });
  }

  void stop() {
    {
      const std::lock_guard lock(mutex);
      stopping = true;
    }
    work.notify_all();
    for (std::thread& thread : threads) thread.join();
  }

  void start_workers() {
    if (!threads.empty()) return;
    for (int i = 0; i < std::min(options.workers, cores()); ++i) threads.emplace_back([this] { run_worker(); });
  }

  // ---- the caller ----

  // Brings the batch to the end of its loading.
  void complete(int64_t batch) {
    Slot& s = slot(batch);
    if (options.workers > 0) {
      std::unique_lock lock(mutex);
      done.wait(lock, [&] { return s.waiting == 0; });
      return;
    }
    prepare(batch);
    std::vector<std::exception_ptr> errors(static_cast<size_t>(s.waiting));
    parallel_for(s.waiting, 1, [&](int64_t begin, int64_t end) {
      for (int64_t at = begin; at < end; ++at) errors[static_cast<size_t>(at)] = load(s, batch, at);
    });
    for (size_t at = 0; at < errors.size(); ++at) note_error(s, static_cast<int64_t>(at), errors[at]);
  }

  void end_epoch() {
    std::unique_lock lock(mutex);
    pause(lock);
    next_batch = batches();
  }

  // Closes the gaps that unreadable pictures left.
  Batch gather(Slot& s, int64_t batch, std::vector<BadFile>& bad) {
    Batch result;
    std::vector<int64_t> labels;
    const int64_t bytes = options.preprocessing.height * options.preprocessing.width * 3;
    uint8_t* pixels = static_cast<uint8_t*>(s.images.data());
    for (size_t at = 0; at < s.outcomes.size(); ++at) {
      const int64_t index = order[static_cast<size_t>(batch_begin(batch)) + at];
      const Sample& sample = samples[static_cast<size_t>(index)];
      if (s.outcomes[at] == Outcome::unreadable) {
        const bool named = s.reasons[at].starts_with(sample.path + ": ");
        bad.push_back({sample.path, named ? s.reasons[at].substr(sample.path.size() + 2) : s.reasons[at]});
      }
      if (s.outcomes[at] != Outcome::loaded) continue;
      const int64_t to = result.count(), from = static_cast<int64_t>(at);
      if (to != from) std::memcpy(pixels + to * bytes, pixels + from * bytes, static_cast<size_t>(bytes));
      result.samples.push_back(index);
      labels.push_back(std::get<ClassIndex>(sample.target));
    }
    if (result.count() == 0) return result;
    result.images = s.images.slice(0, 0, result.count());
    result.labels = Tensor::from<int64_t>(labels, {result.count()});
    return result;
  }

  // The next batch of the epoch, perhaps empty; nothing at its end.
  std::optional<Batch> take() {
    if (next_batch >= batches()) return std::nullopt;
    const int64_t batch = next_batch;
    complete(batch);
    Slot& s = slot(batch);
    if (s.error) {
      const std::exception_ptr error = s.error;
      end_epoch();
      std::rethrow_exception(error);
    }
    std::vector<BadFile> bad;
    Batch result = gather(s, batch, bad);
    s.images = Tensor();
    {
      const std::lock_guard lock(mutex);
      if (options.workers > 0) prepare(batch + static_cast<int64_t>(slots.size()));
      ++next_batch;
    }
    work.notify_all();
    if (options.on_bad_file)
      for (const BadFile& file : bad) options.on_bad_file(file);
    return result;
  }
};

int default_workers(Device device) { return device.kind == DeviceKind::cpu ? 0 : std::clamp(cores() - 1, 1, 16); }

std::vector<int64_t> epoch_order(int64_t count, SampleOrder order, uint64_t seed, int64_t epoch) {
  std::vector<int64_t> positions(static_cast<size_t>(count));
  std::iota(positions.begin(), positions.end(), int64_t{0});
  if (order == SampleOrder::as_given) return positions;
  RandomSequence random(seed, RandomStream::shuffle, static_cast<uint32_t>(epoch), 0);
  for (size_t i = positions.size(); i > 1; --i)
    std::swap(positions[i - 1], positions[random.below(static_cast<uint32_t>(i))]);
  return positions;
}

Loader::Loader(std::vector<Sample> samples, LoaderOptions options) {
  VTL_CHECK(!samples.empty(), "loader: no samples");
  VTL_CHECK(samples.size() < (uint64_t{1} << 32), "loader: ", samples.size(), " samples, expected fewer than 2^32");
  VTL_CHECK(options.batch_size >= 1 && options.batch_size <= 1 << 20, "loader: a batch size of ", options.batch_size,
            ", expected 1 to 1048576");
  VTL_CHECK(options.workers >= 0, "loader: ", options.workers, " workers, expected 0 or more");
  VTL_CHECK(options.batches_ahead >= 1, "loader: ", options.batches_ahead, " batches ahead, expected 1 or more");
  VTL_CHECK(options.cache_bytes >= 0, "loader: a cache of ", options.cache_bytes, " bytes");
  check(options.augmentation);
  check(options.preprocessing);
  state_ = std::make_unique<State>(std::move(samples), std::move(options));
}

Loader::~Loader() { state_->stop(); }

const std::vector<Sample>& Loader::samples() const { return state_->samples; }

int64_t Loader::batches() const { return state_->batches(); }

void Loader::start(int64_t epoch, int64_t first_batch) {
  State& s = *state_;
  VTL_CHECK(epoch >= 0 && epoch < int64_t{1} << 32, "loader: epoch ", epoch);
  VTL_CHECK(first_batch >= 0 && first_batch <= s.batches(), "loader: batch ", first_batch, " of an epoch of ",
            s.batches());
  {
    std::unique_lock lock(s.mutex);
    s.pause(lock);
    s.epoch = epoch;
    s.order = epoch_order(static_cast<int64_t>(s.samples.size()), s.options.order, s.options.seed, epoch);
    s.next_batch = first_batch;
    s.next_position = std::min(s.batch_begin(first_batch), s.count());
    if (s.options.workers > 0)
      for (size_t i = 0; i < s.slots.size(); ++i) s.prepare(first_batch + static_cast<int64_t>(i));
  }
  if (s.options.workers > 0) s.start_workers();
  s.work.notify_all();
}

bool Loader::next(Batch& batch) {
  while (auto taken = state_->take()) {
    if (taken->count() == 0) continue;
    batch = std::move(*taken);
    return true;
  }
  batch = {};
  return false;
}

}  // namespace vtl::io
