// Data sets for classification: folders, CSV lists and pictures in memory; the split; files that cannot be read.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "vtl/io/image.h"

namespace vtl::io {

// What a picture is labelled with; boxes and masks will be further alternatives.
using ClassIndex = int64_t;
using Target = std::variant<ClassIndex>;

struct Sample {
  std::string path;                    // of the file; a name for messages when the picture is in memory
  std::shared_ptr<const Image> image;  // in memory, instead of the file; null otherwise
  Target target;
};

struct Dataset {
  std::vector<std::string> classes;  // of the training set, in byte order
  std::vector<Sample> train, val, test;
  bool made_split = false;           // val was taken out of train
  std::vector<std::string> ignored;  // in class folders: files that are not pictures, links that lead round
};

struct DatasetOptions {
  double val_split = 0.2;  // of each class, for validation when the data has none of its own; 0 leaves val empty
  uint64_t seed = 0;       // of the split
};

// A folder `train/CLASS/*` with `val/CLASS/*` and `test/CLASS/*` when they are there, a folder `CLASS/*`, or a file
// `*.csv` (see below). Samples are in byte order of class folder, then of file. Hidden files are left out. A file
// counts as a picture by its extension or, failing that, by its content; whether it can be read is not looked at here.
// Links are followed; a folder to which several lead counts once in a class.
//
// CSV: a first line names the columns path and label, and may name split (train, val, test) and group; others are
// ignored. Paths are relative to the CSV's folder. Rows of one group never part.
//
// Throws bad_data with all problems at once: no folder, no picture, a class without pictures, fewer than two classes, a
// class of val or test that train does not have, a class whose name is not UTF-8.
Dataset open_dataset(const std::string& path, const DatasetOptions& options = {});

// What is to be evaluated: of a folder `val`, else `test`, else the folder itself; of a CSV the rows of split val, else
// test, else all. Targets index `classes`; a label that is not among them is a bad_data that lists all of them.
std::vector<Sample> open_evaluation_set(const std::string& path, const std::vector<std::string>& classes);

// All pictures of a folder or CSV as above, of all splits, by path, for work that needs neither a split nor several
// classes. Throws bad_data when there is none.
struct PictureSet {
  std::vector<std::string> classes;  // in byte order
  std::vector<Sample> samples;
};
PictureSet open_pictures(const std::string& path);

// Marks the share `val_split` of each class, rounded, for validation: at least one picture, and one stays. `groups`,
// when not empty, has one name for each target; samples of one group stay together, and shares are met as nearly as
// that allows. The same seed marks the same samples.
std::vector<bool> stratified_split(std::span<const ClassIndex> targets, std::span<const std::string> groups,
                                   double val_split, uint64_t seed);

struct BadFile {
  std::string path, reason;

  friend bool operator==(const BadFile&, const BadFile&) = default;
};

// headers: format and size, a small part of each file. pixels: everything is decoded once.
enum class ScanDepth { headers, pixels };

// The samples that cannot be read, in order, by position; uses the compute threads.
struct ScanFinding {
  size_t sample;
  BadFile file;
};
std::vector<ScanFinding> scan_samples(std::span<const Sample> samples, ScanDepth depth, const ImageLimits& limits = {});

// How many of `files` may be unreadable: the share `max_bad`, never below one.
int64_t allowed_bad_files(int64_t files, double max_bad);

// Scans all splits, takes what cannot be read out and returns it. Throws bad_data, with each file and its reason among
// the problems, when there is more of it than allowed or a class is left without training pictures.
std::vector<BadFile> drop_bad_files(Dataset& dataset, double max_bad, ScanDepth depth = ScanDepth::headers,
                                    const ImageLimits& limits = {});

}  // namespace vtl::io
