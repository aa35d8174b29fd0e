#include "vtl/io/loader.h"

#include <doctest/doctest.h>

#include <cstring>
#include <set>

#include "vtl/core/error.h"
#include "vtl/tests/harness/pictures.h"
#include "vtl/tests/harness/temp_dir.h"

namespace vtl::test {
namespace {

using namespace vtl::io;

std::vector<Sample> pictures_in_memory(int64_t count) {
  std::vector<Sample> samples;
  for (int64_t i = 0; i < count; ++i)
    samples.push_back({"picture " + std::to_string(i),
                       std::make_shared<const Image>(generated_picture(20 + i % 7, 18 + i % 5, i)), i % 3});
  return samples;
}

std::vector<Sample> pictures_in_files(const TempDir& folder, int64_t count) {
  std::vector<Sample> samples = pictures_in_memory(count);
  for (size_t i = 0; i < samples.size(); ++i) {
    const auto path = folder / (std::to_string(i) + ".ppm");
    write_ppm(path, *samples[i].image);
    samples[i] = {path.string(), nullptr, samples[i].target};
  }
  return samples;
}

LoaderOptions small_options(int workers, AugmentPreset preset = AugmentPreset::strong) {
  LoaderOptions options;
  options.batch_size = 8;
  options.seed = 7;
  options.preprocessing.height = 12;
  options.preprocessing.width = 10;
  options.augmentation = augmentation(preset);
  options.workers = workers;
  return options;
}

// Everything that an epoch brings.
struct Epoch {
  std::vector<int64_t> sizes, samples, labels;
  std::vector<uint8_t> pixels;

  bool operator==(const Epoch&) const = default;
};

Epoch run(Loader& loader, int64_t epoch, int64_t first_batch = 0) {
  Epoch result;
  loader.start(epoch, first_batch);
  for (Batch batch; loader.next(batch);) {
    result.sizes.push_back(batch.count());
    result.samples.insert(result.samples.end(), batch.samples.begin(), batch.samples.end());
    const int64_t* labels = batch.labels.data_as<int64_t>();
    result.labels.insert(result.labels.end(), labels, labels + batch.count());
    const uint8_t* pixels = batch.images.data_as<uint8_t>();
    result.pixels.insert(result.pixels.end(), pixels, pixels + batch.images.numel());
  }
  return result;
}

TEST_CASE("a batch holds pictures, labels and the samples they come from") {
  const auto samples = pictures_in_memory(10);
  LoaderOptions options = small_options(0, AugmentPreset::none);
  options.order = SampleOrder::as_given;
  Loader loader(samples, options);
  CHECK(loader.batches() == 2);
  loader.start(0);
  Batch batch;
  REQUIRE(loader.next(batch));
  CHECK(batch.images.shape() == Shape{8, 12, 10, 3});
  CHECK(batch.images.dtype() == DType::u8);
  CHECK(batch.labels.shape() == Shape{8});
  CHECK(batch.samples == std::vector<int64_t>{0, 1, 2, 3, 4, 5, 6, 7});
  for (int64_t i = 0; i < 8; ++i) {
    CHECK(batch.labels.data_as<int64_t>()[i] == i % 3);
    const Image expected = preprocess(*samples[static_cast<size_t>(i)].image, options.preprocessing);
    CHECK(std::memcmp(batch.images.data_as<uint8_t>() + i * 360, expected.rgb.data(), 360) == 0);
  }
  REQUIRE(loader.next(batch));
  CHECK(batch.count() == 2);
  CHECK_FALSE(loader.next(batch));
  CHECK_FALSE(loader.next(batch));
}

TEST_CASE("batches do not depend on workers, threads or cache") {
  const TempDir folder;
  const auto samples = pictures_in_files(folder, 45);
  for (const auto preset : {AugmentPreset::strong, AugmentPreset::none}) {
    Loader alone(samples, small_options(0, preset));
    const std::vector<Epoch> expected{run(alone, 0), run(alone, 1), run(alone, 2)};
    CHECK(expected[0].samples.size() == 45);
    CHECK(expected[0].samples != expected[1].samples);
    if (preset == AugmentPreset::strong) CHECK(expected[0].pixels != expected[1].pixels);
    for (const int workers : {0, 1, 2, 5})
      for (const int64_t cache_bytes : {0, 9000, 1 << 20}) {
        LoaderOptions options = small_options(workers, preset);
        options.cache_bytes = cache_bytes;
        options.batches_ahead = workers == 5 ? 1 : 3;
        Loader loader(samples, options);
        for (const int64_t epoch : {0, 1, 2, 0}) CHECK(run(loader, epoch) == expected[static_cast<size_t>(epoch)]);
      }
  }
}

TEST_CASE("a cached epoch reads no file again") {
  for (const auto preset : {AugmentPreset::none, AugmentPreset::strong}) {
    CAPTURE(name(preset));
    auto folder = std::make_unique<TempDir>();
    Loader loader(pictures_in_files(*folder, 9), small_options(2, preset));
    CHECK(run(loader, 0).samples.size() == 9);
    folder.reset();
    CHECK(run(loader, 1).samples.size() == 9);
  }
}

TEST_CASE("memory samples and files give the same batches") {
  const TempDir folder;
  Loader from_files(pictures_in_files(folder, 20), small_options(0)),
      from_memory(pictures_in_memory(20), small_options(0));
  CHECK(run(from_files, 3) == run(from_memory, 3));
}

TEST_CASE("the order is a permutation fixed by seed and epoch") {
  const auto order = epoch_order(100, SampleOrder::shuffled, 1, 0);
  CHECK(std::set<int64_t>(order.begin(), order.end()).size() == 100);
  CHECK(order == epoch_order(100, SampleOrder::shuffled, 1, 0));
  CHECK(order != epoch_order(100, SampleOrder::shuffled, 1, 1));
  CHECK(order != epoch_order(100, SampleOrder::shuffled, 2, 0));
  CHECK(epoch_order(3, SampleOrder::as_given, 1, 5) == std::vector<int64_t>{0, 1, 2});
  // Every position is equally likely: 3000 epochs of 6 samples, 500 expected, five deviations of sqrt(3000 * 5) / 6.
  std::array<int, 6> first{};
  for (int64_t epoch = 0; epoch < 3000; ++epoch)
    ++first[static_cast<size_t>(epoch_order(6, SampleOrder::shuffled, 9, epoch)[0])];
  for (const int count : first) CHECK(std::abs(count - 500) <= 102);
}

TEST_CASE("an epoch resumes at any batch") {
  for (const int workers : {0, 2}) {
    Loader loader(pictures_in_memory(45), small_options(workers));
    const Epoch whole = run(loader, 4);
    const Epoch rest = run(loader, 4, 2);
    CHECK(rest.samples == std::vector<int64_t>(whole.samples.begin() + 16, whole.samples.end()));
    CHECK(rest.pixels == std::vector<uint8_t>(whole.pixels.begin() + 16 * 360, whole.pixels.end()));
    CHECK(run(loader, 4, loader.batches()).samples.empty());
  }
}

TEST_CASE("an epoch may be left at any time") {
  for (const int workers : {0, 1, 3}) {
    Loader loader(pictures_in_memory(60), small_options(workers));
    const Epoch expected = run(loader, 1);
    for (int taken = 0; taken < 4; ++taken) {
      loader.start(0);
      Batch batch;
      for (int i = 0; i < taken; ++i) CHECK(loader.next(batch));
      CHECK(run(loader, 1) == expected);
    }
    for (int taken = 0; taken < 4; ++taken) {
      Loader abandoned(pictures_in_memory(60), small_options(workers));
      abandoned.start(0);
      Batch batch;
      for (int i = 0; i < taken; ++i) CHECK(abandoned.next(batch));
    }
    Loader never_started(pictures_in_memory(3), small_options(workers));
    Batch batch;
    CHECK_FALSE(never_started.next(batch));
  }
}

TEST_CASE("a picture that cannot be read is reported once and left out") {
  for (const int workers : {0, 2}) {
    const TempDir folder;
    auto samples = pictures_in_files(folder, 20);
    write_bytes(folder / "5.ppm", {'P', '6', '\n', '9'});
    for (const size_t i : {16, 17, 18, 19}) std::filesystem::remove(samples[i].path);  // the whole last batch
    LoaderOptions options = small_options(workers);
    options.order = SampleOrder::as_given;
    std::vector<BadFile> bad;
    options.on_bad_file = [&](const BadFile& file) { bad.push_back(file); };
    Loader loader(samples, options);
    const Epoch first = run(loader, 0);
    CHECK(first.sizes == std::vector<int64_t>{7, 8});
    CHECK(first.samples == std::vector<int64_t>{0, 1, 2, 3, 4, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15});
    CHECK(first.labels[5] == 0);
    REQUIRE(bad.size() == 5);
    CHECK(bad[0].path == samples[5].path);
    CHECK_FALSE(bad[0].reason.empty());
    // The others' pixels are in their places.
    samples.erase(samples.begin() + 16, samples.end());
    for (size_t i = 0; i < 2; ++i) {
      RandomSequence random = augment_sequence(7, 0, 6 + static_cast<int64_t>(i));
      std::vector<uint8_t> expected(360);
      augment_into(read_image(samples[6 + i].path), options.preprocessing, options.augmentation, random,
                   expected.data());
      CHECK(std::equal(expected.begin(), expected.end(), first.pixels.begin() + static_cast<int64_t>(5 + i) * 360));
    }
    CHECK(run(loader, 1).samples == first.samples);
    CHECK(bad.size() == 5);
  }
}

TEST_CASE("other errors reach the caller and end the epoch") {
  for (const int workers : {0, 2}) {
    auto samples = pictures_in_memory(30);
    samples[12].image = std::make_shared<const Image>();  // no pixels: a mistake of the caller, not of a file
    LoaderOptions options = small_options(workers);
    options.order = SampleOrder::as_given;
    Loader loader(samples, options);
    for (int round = 0; round < 2; ++round) {
      loader.start(0);
      Batch batch;
      CHECK(loader.next(batch));
      CHECK_THROWS_AS(loader.next(batch), Error);
      CHECK_FALSE(loader.next(batch));
    }
  }
}

TEST_CASE("senseless loaders are refused") {
  CHECK_THROWS_AS(Loader({}, small_options(0)), Error);
  const auto with = [](auto change) {
    LoaderOptions options = small_options(0);
    change(options);
    Loader loader(pictures_in_memory(2), options);
  };
  CHECK_NOTHROW(with([](LoaderOptions&) {}));
  CHECK_THROWS_AS(with([](LoaderOptions& o) { o.batch_size = 0; }), Error);
  CHECK_THROWS_AS(with([](LoaderOptions& o) { o.batch_size = int64_t{1} << 60; }), Error);
  CHECK_THROWS_AS(with([](LoaderOptions& o) { o.workers = -1; }), Error);
  CHECK_THROWS_AS(with([](LoaderOptions& o) { o.batches_ahead = 0; }), Error);
  CHECK_THROWS_AS(with([](LoaderOptions& o) { o.augmentation.rotation = 1000; }), Error);
  CHECK_THROWS_AS(with([](LoaderOptions& o) { o.preprocessing.crop_pct = 0; }), Error);
  Loader loader(pictures_in_memory(2), small_options(0));
  CHECK_THROWS_AS(loader.start(-1), Error);
  CHECK_THROWS_AS(loader.start(0, 2), Error);
}

TEST_CASE("where the cpu computes the caller loads") {
  CHECK(default_workers(Device::cpu()) == 0);
  CHECK(default_workers(Device::cuda()) >= 1);
}

}  // namespace
}  // namespace vtl::test
