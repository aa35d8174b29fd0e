#include "vtl/io/dataset.h"

#include <doctest/doctest.h>
#include <sys/stat.h>

#include <algorithm>
#include <map>
#include <set>

#include "vtl/core/error.h"
#include "vtl/io/csv.h"
#include "vtl/tests/harness/pictures.h"
#include "vtl/tests/harness/shared.h"
#include "vtl/tests/harness/temp_dir.h"

namespace vtl::test {
namespace {

using namespace vtl::io;

void add_pictures(const std::filesystem::path& folder, int count, const std::string& stem = "p") {
  for (int i = 0; i < count; ++i) write_ppm(folder / (stem + std::to_string(i) + ".ppm"), generated_picture(6, 5, i));
}

void write_text(const std::filesystem::path& path, const std::string& text) {
  write_bytes(path, {text.begin(), text.end()});
}

// The bad_data that a call throws.
template <class Call>
Error bad_data_of(Call&& call) {
  try {
    call();
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::bad_data);
    return error;
  }
  FAIL("no error");
  return {ErrorKind::internal, ""};
}

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

std::vector<std::string> names_of(const std::vector<Sample>& samples) {
  std::vector<std::string> names;
  for (const Sample& sample : samples) names.push_back(std::filesystem::path(sample.path).filename().string());
  return names;
}

std::map<ClassIndex, int> counts_of(const std::vector<Sample>& samples) {
  std::map<ClassIndex, int> counts;
  for (const Sample& sample : samples) ++counts[std::get<ClassIndex>(sample.target)];
  return counts;
}

TEST_CASE("a folder with its own splits keeps them") {
  const TempDir root;
  add_pictures(root / "train" / "b", 3);
  add_pictures(root / "train" / "a", 2);
  add_pictures(root / "val" / "b", 1);
  add_pictures(root / "test" / "a", 4);
  const Dataset data = open_dataset(root.path().string());
  CHECK(data.classes == std::vector<std::string>{"a", "b"});
  CHECK(data.train.size() == 5);
  CHECK(data.val.size() == 1);
  CHECK(data.test.size() == 4);
  CHECK_FALSE(data.made_split);
  CHECK(std::get<ClassIndex>(data.train.front().target) == 0);
  CHECK(std::get<ClassIndex>(data.val.front().target) == 1);
}

TEST_CASE("classes and files are in byte order") {
  const TempDir root;
  for (const char* name : {"Zebra", "apple", "\xc3\xa4pfel", "10", "9"}) add_pictures(root / "train" / name, 2);
  add_pictures(root / "val" / "10", 1);
  add_pictures(root / "train" / "10" / "deep", 1, "deep");
  write_ppm(root / "train" / "10" / "Q.ppm", generated_picture(4, 4, 0));
  const Dataset data = open_dataset(root.path().string());
  CHECK(data.classes == std::vector<std::string>{"10", "9", "Zebra", "apple", "\xc3\xa4pfel"});
  const auto names = names_of(data.train);
  CHECK(std::vector<std::string>(names.begin(), names.begin() + 4) ==
        std::vector<std::string>{"Q.ppm", "p0.ppm", "p1.ppm", "deep0.ppm"});
}

TEST_CASE("what is no picture is left out") {
  const TempDir root;
  add_pictures(root / "train" / "a", 2);
  add_pictures(root / "train" / "b", 2);
  add_pictures(root / "val" / "a", 1);
  add_pictures(root / "train" / ".cache", 2);
  write_text(root / "train" / "a" / "notes.txt", "hello");
  write_text(root / "train" / "a" / ".hidden.jpg", "hello");
  write_text(root / "train" / "loose.jpg", "not in a class folder");
  write_text(root / "train" / "a" / "broken.jpg", "hello");  // a picture by its name: listed, found bad later
  write_ppm(root / "train" / "b" / "no_extension", generated_picture(4, 4, 0));  // a picture by its content
  const Dataset data = open_dataset(root.path().string());
  CHECK(data.classes == std::vector<std::string>{"a", "b"});
  CHECK(names_of(data.train) ==
        std::vector<std::string>{"broken.jpg", "p0.ppm", "p1.ppm", "no_extension", "p0.ppm", "p1.ppm"});
  REQUIRE(data.ignored.size() == 1);
  CHECK(contains(data.ignored[0], "notes.txt"));
}

TEST_CASE("without val a stratified part of each class is taken") {
  const TempDir root;
  add_pictures(root / "a", 20);
  add_pictures(root / "b", 7);
  add_pictures(root / "c", 1);
  const Dataset data = open_dataset(root.path().string(), {.val_split = 0.2, .seed = 3});
  CHECK(data.made_split);
  CHECK(counts_of(data.val) == std::map<ClassIndex, int>{{0, 4}, {1, 1}});
  CHECK(counts_of(data.train) == std::map<ClassIndex, int>{{0, 16}, {1, 6}, {2, 1}});
  CHECK(names_of(open_dataset(root.path().string(), {.val_split = 0.2, .seed = 3}).val) == names_of(data.val));
  CHECK(names_of(open_dataset(root.path().string(), {.val_split = 0.2, .seed = 4}).val) != names_of(data.val));
  CHECK(open_dataset(root.path().string(), {.val_split = 0}).val.empty());
  CHECK_THROWS_AS(open_dataset(root.path().string(), {.val_split = 1}), Error);
}

TEST_CASE("groups never part") {
  std::vector<ClassIndex> targets;
  std::vector<std::string> groups;
  for (int i = 0; i < 120; ++i) {
    targets.push_back(i % 3);
    groups.push_back("patient " + std::to_string(i / 6));
  }
  const auto marked = stratified_split(targets, groups, 0.25, 1);
  std::map<std::string, std::set<bool>> sides;
  for (size_t i = 0; i < marked.size(); ++i) sides[groups[i]].insert(marked[i]);
  for (const auto& [group, side] : sides) CHECK(side.size() == 1);
  // 20 groups of 6 with 2 of each class: a quarter is 5 groups.
  CHECK(std::count(marked.begin(), marked.end(), true) == 30);
}

TEST_CASE("data that cannot be used is refused with all reasons") {
  const TempDir root;
  const auto open = [&] { open_dataset(root.path().string()); };
  CHECK(contains(bad_data_of([&] { open_dataset((root / "absent").string()); }).what(), "absent"));
  CHECK(contains(bad_data_of(open).what(), "no class folder"));
  add_pictures(root / "train" / "a", 2);
  CHECK(contains(bad_data_of(open).what(), "only one class"));
  std::filesystem::create_directories(root / "train" / "b");
  std::filesystem::create_directories(root / "train" / "c");
  const Error empty = bad_data_of(open);
  CHECK(empty.problems().size() == 2);
  CHECK(contains(empty.what(), "`b` has no picture"));
  CHECK(contains(empty.what(), "`c` has no picture"));
  add_pictures(root / "train" / "b", 2);
  add_pictures(root / "train" / "c", 2);
  add_pictures(root / "val" / "x", 1);
  add_pictures(root / "val" / "y", 1);
  add_pictures(root / "test" / "z", 1);
  const Error unknown = bad_data_of(open);
  CHECK(unknown.problems().size() == 3);
  CHECK(contains(unknown.what(), "val/x"));
  CHECK(contains(unknown.what(), "a, b, c"));
  write_text(root / "file.txt", "hello");
  CHECK(contains(bad_data_of([&] { open_dataset((root / "file.txt").string()); }).what(), "neither a folder"));
  const TempDir orphan;
  add_pictures(orphan / "val" / "a", 1);
  CHECK(contains(bad_data_of([&] { open_dataset(orphan.path().string()); }).what(), "no train/"));
}

TEST_CASE("an empty val is an error, not a made split") {
  const TempDir root;
  add_pictures(root / "train" / "a", 5);
  add_pictures(root / "train" / "b", 5);
  std::filesystem::create_directories(root / "val" / "a");
  CHECK(contains(bad_data_of([&] { open_dataset(root.path().string()); }).what(), "val"));
}

TEST_CASE("CSV follows RFC 4180") {
  const auto rows =
      parse_csv("\xef\xbb\xbfpath,label\r\n\"a,b\",\"say \"\"hi\"\"\"\r\n\n\"two\nlines\",x\nlast,", "list.csv");
  REQUIRE(rows.size() == 4);
  CHECK(rows[0].fields == std::vector<std::string>{"path", "label"});
  CHECK(rows[1].fields == std::vector<std::string>{"a,b", "say \"hi\""});
  CHECK(rows[2].fields == std::vector<std::string>{"two\nlines", "x"});
  CHECK(rows[3].fields == std::vector<std::string>{"last", ""});
  CHECK(rows[3].line == 6);
  CHECK(
      contains(bad_data_of([] { parse_csv("a\nb,\"c\n", "list.csv"); }).what(), "list.csv:2: a quote is never closed"));
  CHECK(contains(bad_data_of([] { parse_csv("a\"b\n", "list.csv"); }).what(), "list.csv:1"));
  CHECK(contains(bad_data_of([] { parse_csv("\"a\"b\n", "list.csv"); }).what(), "list.csv:1"));
  CHECK(parse_csv("", "list.csv").empty());
}

TEST_CASE("a CSV list names pictures, splits and groups") {
  const TempDir root;
  add_pictures(root / "images", 6);
  write_text(root / "list.csv",
             "label,path,extra,split\ncat,images/p0.ppm,1,train\ndog,images/p1.ppm,2,\ncat,images/"
             "p2.ppm,3,val\ndog,images/p3.ppm,4,test\n");
  const Dataset data = open_dataset((root / "list.csv").string());
  CHECK(data.classes == std::vector<std::string>{"cat", "dog"});
  CHECK(names_of(data.train) == std::vector<std::string>{"p0.ppm", "p1.ppm"});
  CHECK(names_of(data.val) == std::vector<std::string>{"p2.ppm"});
  CHECK(names_of(data.test) == std::vector<std::string>{"p3.ppm"});
  CHECK(read_image(data.val[0].path).rgb == generated_picture(6, 5, 2).rgb);

  std::string grouped = "path,label,group\n";
  for (int i = 0; i < 40; ++i)
    grouped += "images/p0.ppm," + std::string(i % 2 ? "cat" : "dog") + ",g" + std::to_string(i / 4) + "\n";
  write_text(root / "grouped.csv", grouped);
  const Dataset split = open_dataset((root / "grouped.csv").string());
  CHECK(split.val.size() == 8);
  CHECK(split.made_split);
}

TEST_CASE("problems of a CSV list are all named with their lines") {
  const TempDir root;
  const auto error_of = [&](const std::string& text) {
    write_text(root / "list.csv", text);
    return bad_data_of([&] { open_dataset((root / "list.csv").string()); });
  };
  CHECK(contains(error_of("").what(), "empty"));
  CHECK(contains(error_of("file,label\na,b\n").what(), "`path` and `label`"));
  CHECK(contains(error_of("path,label\n").what(), "no picture"));
  const Error rows = error_of("path,label,split\na.jpg,x\n,y,train\nb.jpg,,train\nc.jpg,z,middle\n");
  CHECK(rows.problems().size() == 4);
  CHECK(contains(rows.what(), ":2: has 2 fields"));
  CHECK(contains(rows.what(), ":5: the split is `middle`"));
  CHECK(contains(error_of("path,label,split\na,x,train\nb,y,train\nc,z,val\n").what(), "`z` is not one of"));
  CHECK(contains(error_of("path,label\na,x\nb,x\n").what(), "only one class"));
  CHECK(contains(error_of("path,label,split,group\na,x,train,g\nb,y,val,g\nc,y,train,h\n").what(),
                 "group `g` is in train and in val"));
}

TEST_CASE("evaluation sets are indexed by the model's classes") {
  const TempDir root;
  add_pictures(root / "val" / "dog", 2);
  add_pictures(root / "val" / "cat", 1);
  add_pictures(root / "train" / "cat", 3);
  const auto samples = open_evaluation_set(root.path().string(), {"ant", "cat", "dog"});
  CHECK(counts_of(samples) == std::map<ClassIndex, int>{{1, 1}, {2, 2}});
  CHECK(open_evaluation_set((root / "train").string(), {"cat"}).size() == 3);
  CHECK(bad_data_of([&] { open_evaluation_set(root.path().string(), {"ant"}); }).problems().size() == 2);
  write_text(root / "list.csv", "path,label,split\na.jpg,cat,train\nb.jpg,dog,test\n");
  CHECK(names_of(open_evaluation_set((root / "list.csv").string(), {"cat", "dog"})) ==
        std::vector<std::string>{"b.jpg"});
}

TEST_CASE("pictures are listed without rules for training") {
  const TempDir root;
  add_pictures(root / "val" / "b", 1);
  add_pictures(root / "test" / "a", 2);
  const PictureSet splits = open_pictures(root.path().string());
  CHECK(splits.classes == std::vector<std::string>{"a", "b"});
  CHECK(counts_of(splits.samples) == std::map<ClassIndex, int>{{0, 2}, {1, 1}});
  CHECK(open_pictures((root / "val").string()).classes == std::vector<std::string>{"b"});
  write_text(root / "list.csv", "path,label\nz.jpg,one\ny.jpg,one\n");
  CHECK(names_of(open_pictures((root / "list.csv").string()).samples) == std::vector<std::string>{"y.jpg", "z.jpg"});
  CHECK(contains(bad_data_of([&] { open_pictures((root / "val" / "b").string()); }).what(), "no picture"));
}

TEST_CASE("links to folders are followed, but never round in a circle") {
  const TempDir root;
  add_pictures(root / "elsewhere" / "inner", 2, "linked");
  add_pictures(root / "train" / "a", 1);
  add_pictures(root / "train" / "b", 1);
  std::filesystem::create_directory_symlink(root / "elsewhere", root / "train" / "a" / "link");
  std::filesystem::create_directory_symlink(root / "elsewhere", root / "train" / "a" / "other");
  std::filesystem::create_directory_symlink(root / "train", root / "train" / "b" / "up");
  std::filesystem::create_directory_symlink(root / "elsewhere", root / "elsewhere" / "inner" / "back");
  const Dataset data = open_dataset(root.path().string(), {.val_split = 0});
  CHECK(names_of(data.train) == std::vector<std::string>{"p0.ppm", "linked0.ppm", "linked1.ppm", "p0.ppm"});
  CHECK(data.ignored.size() == 3);
}

TEST_CASE("a class whose name is not UTF-8 is refused, whatever names it") {
  const TempDir root;
  add_pictures(root / "a\xff", 2);
  add_pictures(root / "b", 2);
  CHECK(contains(bad_data_of([&] { open_dataset(root.path().string()); }).what(), "not UTF-8"));
  CHECK(contains(bad_data_of([&] { open_pictures(root.path().string()); }).what(), "not UTF-8"));
  write_text(root / "list.csv", "path,label\na.jpg,x\nb.jpg,y\xff\n");
  CHECK(contains(bad_data_of([&] { open_dataset((root / "list.csv").string()); }).what(), "list.csv:3"));
}

TEST_CASE("a pipe in the place of a list is an error, not a wait") {
  const TempDir root;
  REQUIRE(::mkfifo((root / "pipe.csv").c_str(), 0600) == 0);
  CHECK(contains(bad_data_of([&] { open_dataset((root / "pipe.csv").string()); }).what(), "no regular file"));
}

TEST_CASE("unreadable files are listed and dropped, up to the limit") {
  const TempDir root;
  for (const char* name : {"a", "b"}) {
    add_pictures(root / "train" / name, 20);
    add_pictures(root / "val" / name, 5);
  }
  std::filesystem::copy_file(golden_path("io/images/unreadable.gif"), root / "train" / "a" / "placeholder.jpg");
  Dataset data = open_dataset(root.path().string());
  const auto bad = drop_bad_files(data, 0.0);
  REQUIRE(bad.size() == 1);
  CHECK(contains(bad[0].path, "placeholder.jpg"));
  CHECK(contains(bad[0].reason, "GIF"));
  CHECK(data.train.size() == 40);
  CHECK(data.val.size() == 10);

  write_text(root / "val" / "b" / "broken.png", "nothing");
  data = open_dataset(root.path().string());
  const Error error = bad_data_of([&] { drop_bad_files(data, 0.01); });
  CHECK(error.problems().size() == 2);
  CHECK(contains(error.what(), "2 of 52"));
  CHECK(contains(error.what(), "broken.png"));
  data = open_dataset(root.path().string());
  CHECK(drop_bad_files(data, 0.04).size() == 2);
}

TEST_CASE("the share of bad files never goes below one file") {
  CHECK(allowed_bad_files(10, 0.01) == 1);
  CHECK(allowed_bad_files(398, 0.01) == 3);
  CHECK(allowed_bad_files(398, 0) == 1);
  CHECK_THROWS_AS(allowed_bad_files(10, -0.1), Error);
}

TEST_CASE("only a full scan finds a file that breaks off") {
  const TempDir root;
  add_pictures(root / "train" / "a", 2);
  add_pictures(root / "train" / "b", 2);
  add_pictures(root / "val" / "a", 1);
  auto bytes = bytes_of_file(golden_path("io/images/420.jpg"));
  bytes.resize(bytes.size() - 20);
  write_bytes(root / "train" / "a" / "cut.jpg", bytes);
  const Dataset data = open_dataset(root.path().string());
  CHECK(scan_samples(data.train, ScanDepth::headers).empty());
  const auto findings = scan_samples(data.train, ScanDepth::pixels);
  REQUIRE(findings.size() == 1);
  CHECK(findings[0].sample == 0);
  CHECK(contains(findings[0].file.reason, "truncated"));
}

TEST_CASE("a class that loses all its pictures is an error") {
  const TempDir root;
  add_pictures(root / "train" / "a", 5);
  add_pictures(root / "val" / "a", 1);
  write_text(root / "train" / "b" / "broken.png", "nothing");
  Dataset data = open_dataset(root.path().string());
  CHECK(contains(bad_data_of([&] { drop_bad_files(data, 1); }).what(), "`b`"));
}

TEST_CASE("hymenoptera has 244 and 153 pictures and one placeholder") {
  const auto folder = shared_path("data/hymenoptera");
  if (folder.empty()) return;
  Dataset data = open_dataset(folder.string());
  CHECK(data.classes == std::vector<std::string>{"ants", "bees"});
  const auto bad = drop_bad_files(data, 0.01, ScanDepth::pixels);
  REQUIRE(bad.size() == 1);
  CHECK(contains(bad[0].path, "imageNotFound.gif"));
  CHECK(contains(bad[0].reason, "GIF"));
  CHECK(data.train.size() == 244);
  CHECK(data.val.size() == 153);
}

}  // namespace
}  // namespace vtl::test
