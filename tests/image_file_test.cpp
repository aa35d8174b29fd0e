#include "vtl/io/image.h"

#include <doctest/doctest.h>
#include <sys/stat.h>

#include <cstring>

#include "vtl/core/error.h"
#include "vtl/core/rng.h"
#include "vtl/tests/harness/pictures.h"
#include "vtl/tests/harness/temp_dir.h"

namespace vtl::test {
namespace {

using namespace vtl::io;

std::string golden_image(const std::string& name) { return golden_path("io/images/" + name).string(); }

// The error of a call, which must be a bad_data; its message.
template <class Call>
std::string bad_data_of(Call&& call) {
  try {
    call();
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::bad_data);
    return error.what();
  }
  FAIL("no error");
  return {};
}

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

TEST_CASE("every kind of picture decodes to Pillow's pixels") {
  const auto golden = golden_json("io/images.json");
  REQUIRE(golden.size() > 20);
  for (const auto& [name, expected] : golden.items()) {
    CAPTURE(name);
    const Image image = read_image(golden_image(name));
    CHECK(image.width == expected["width"]);
    CHECK(image.height == expected["height"]);
    const auto pixels = bytes_of_hex(expected["pixels"]);
    // 0 with the libjpeg-turbo of the same generation; others may round colours differently by one level.
    CHECK(largest_difference(image.rgb, pixels) <= (name.ends_with(".jpg") ? 1 : 0));
    const ImageInfo info = read_image_info(golden_image(name));
    CHECK(info.width == image.width);
    CHECK(info.height == image.height);
  }
}

TEST_CASE("a BMP may have its rows from the top down") {
  const TempDir folder;
  std::vector<uint8_t> bytes = bytes_of_file(golden_image("rgb.bmp"));
  const Image upright = read_image(golden_image("rgb.bmp"));
  const int32_t height = -static_cast<int32_t>(upright.height);
  std::memcpy(bytes.data() + 22, &height, sizeof height);
  write_bytes(folder / "down.bmp", bytes);
  CHECK(read_image_info((folder / "down.bmp").string()).height == upright.height);
  const Image seen = read_image((folder / "down.bmp").string());
  CHECK(seen.rgb == apply_orientation(upright, 4).rgb);
}

TEST_CASE("a pipe in the place of a picture is an error, not a wait") {
  const TempDir folder;
  REQUIRE(::mkfifo((folder / "pipe.jpg").c_str(), 0600) == 0);
  CHECK(contains(bad_data_of([&] { read_image((folder / "pipe.jpg").string()); }), "no regular file"));
  CHECK(contains(bad_data_of([&] { read_image_info((folder / "pipe.jpg").string()); }), "no regular file"));
}

TEST_CASE("the eight orientations show the same picture") {
  // Stored for orientation o, the picture is seen after o: undoing it on the golden pixels of 1 gives those of o.
  const Image upright = read_image(golden_image("orientation1.jpg"));
  for (int orientation = 2; orientation <= 8; ++orientation) {
    CAPTURE(orientation);
    const Image seen = read_image(golden_image("orientation" + std::to_string(orientation) + ".jpg"));
    CHECK(seen.rgb == apply_orientation(upright, orientation).rgb);
    CHECK(seen.rgb != upright.rgb);
    CHECK(read_image_info(golden_image("orientation" + std::to_string(orientation) + ".jpg")).orientation ==
          orientation);
  }
}

TEST_CASE("orientation turns corners as EXIF defines them") {
  const Image stored{2, 3, {1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4, 5, 5, 5, 6, 6, 6}};  // 1 2 / 3 4 / 5 6
  const auto greys = [&](int orientation) {
    const Image seen = apply_orientation(stored, orientation);
    std::vector<int> values{static_cast<int>(seen.width)};
    for (size_t i = 0; i < seen.rgb.size(); i += 3) values.push_back(seen.rgb[i]);
    return values;
  };
  CHECK(greys(1) == std::vector<int>{2, 1, 2, 3, 4, 5, 6});
  CHECK(greys(2) == std::vector<int>{2, 2, 1, 4, 3, 6, 5});
  CHECK(greys(3) == std::vector<int>{2, 6, 5, 4, 3, 2, 1});
  CHECK(greys(4) == std::vector<int>{2, 5, 6, 3, 4, 1, 2});
  CHECK(greys(5) == std::vector<int>{3, 1, 3, 5, 2, 4, 6});
  CHECK(greys(6) == std::vector<int>{3, 5, 3, 1, 6, 4, 2});
  CHECK(greys(7) == std::vector<int>{3, 6, 4, 2, 5, 3, 1});
  CHECK(greys(8) == std::vector<int>{3, 2, 4, 6, 1, 3, 5});
}

TEST_CASE("the format is told by content, whatever the name") {
  const TempDir folder;
  for (const auto& [from, to] :
       {std::pair{"rgb.png", "a.jpg"}, std::pair{"444.jpg", "b.png"}, std::pair{"rgb.bmp", "c"}}) {
    std::filesystem::copy_file(golden_image(from), folder / to);
    CHECK(read_image((folder / to).string()).rgb == read_image(golden_image(from)).rgb);
  }
  std::filesystem::copy_file(golden_image("unreadable.gif"), folder / "d.jpg");
  const std::string message = bad_data_of([&] { read_image((folder / "d.jpg").string()); });
  CHECK(contains(message, (folder / "d.jpg").string()));
  CHECK(contains(message, "GIF"));
}

TEST_CASE("formats that cannot be read are named") {
  CHECK(contains(bad_data_of([] { read_image(golden_image("unreadable.gif")); }), "GIF"));
  CHECK(contains(bad_data_of([] { read_image(golden_image("unreadable.tiff")); }), "TIFF"));
  CHECK(contains(bad_data_of([] { read_image(golden_image("unreadable.webp")); }), "WebP"));
  CHECK(contains(bad_data_of([] { read_image_info(golden_image("unreadable.webp")); }), "WebP"));
  const TempDir folder;
  write_bytes(folder / "text.jpg", {'h', 'e', 'l', 'l', 'o'});
  CHECK(contains(bad_data_of([&] { read_image((folder / "text.jpg").string()); }), "not a picture"));
  write_bytes(folder / "empty.jpg", {});
  CHECK(contains(bad_data_of([&] { read_image((folder / "empty.jpg").string()); }), "empty"));
  CHECK(contains(bad_data_of([&] { read_image((folder / "absent.jpg").string()); }), "absent.jpg"));
  CHECK_THROWS_AS(read_image(folder.path().string()), Error);
}

TEST_CASE("a picture cut off anywhere is an error that names it") {
  for (const std::string name : {"420.jpg", "progressive.jpg", "cmyk.jpg", "rgb.png", "palette.png", "rgb16.png",
                                 "rgb.bmp", "rgb.ppm", "rgb16.ppm", "bits.pbm", "rgb.tga", "run_length.tga"}) {
    CAPTURE(name);
    const auto bytes = bytes_of_file(golden_image(name));
    // A TGA file may carry a footer that is no part of the picture; a PNG's last chunk is empty.
    const size_t last = name.ends_with(".tga") ? bytes.size() - 26 : bytes.size();
    for (size_t size = 1; size < last; ++size) {
      CAPTURE(size);
      const std::string message = bad_data_of([&] { decode_image({bytes.data(), size}, "cut", {}); });
      CHECK(message.starts_with("cut: "));
    }
  }
}

TEST_CASE("damaged bytes give a picture or a bad_data, nothing else") {
  RandomSequence random(1, RandomStream::demo, 0, 0);
  for (const std::string name : {"420.jpg", "progressive.jpg", "orientation6.jpg", "palette.png", "rgb16.png",
                                 "rgb.bmp", "palette.bmp", "rgb.ppm", "run_length.tga"}) {
    const auto original = bytes_of_file(golden_image(name));
    for (int round = 0; round < 300; ++round) {
      auto bytes = original;
      for (uint32_t i = 0; i <= random.below(4); ++i)
        bytes[random.below(static_cast<uint32_t>(bytes.size()))] = static_cast<uint8_t>(random.bits());
      try {
        const Image image = decode_image(bytes, name, {.max_pixels = 1 << 20});
        CHECK(static_cast<int64_t>(image.rgb.size()) == image.width * image.height * 3);
      } catch (const Error& error) {
        CHECK(error.kind() == ErrorKind::bad_data);
      }
    }
  }
}

TEST_CASE("limits are checked against the header") {
  const auto bytes = bytes_of_file(golden_image("rgb.png"));
  CHECK_NOTHROW(decode_image(bytes, "a", {.max_pixels = 13 * 9}));
  CHECK(contains(bad_data_of([&] { decode_image(bytes, "a", {.max_pixels = 13 * 9 - 1}); }), "limit of 116"));
  CHECK(contains(bad_data_of([&] { decode_image(bytes, "a", {.max_file_bytes = 10}); }), "limit of 10"));
  CHECK(contains(bad_data_of([&] { read_image(golden_image("rgb.png"), {.max_file_bytes = 10}); }), "limit of 10"));
  // 60000 x 60000 pixels in a header of a few bytes: refused at once, whatever follows.
  for (const char* name : {"444.jpg", "rgb.png", "rgb.tga"}) {
    auto huge = bytes_of_file(golden_image(name));
    const std::string kind = name;
    if (kind == "rgb.png") huge[18] = huge[22] = 0xea;
    if (kind == "rgb.tga") huge[13] = huge[15] = 0xea;
    if (kind == "444.jpg")
      for (size_t i = 0; i + 8 < huge.size(); ++i)
        if (huge[i] == 0xff && huge[i + 1] == 0xc0) huge[i + 5] = huge[i + 7] = 0xea;
    CHECK(contains(bad_data_of([&] { decode_image(huge, "huge", {}); }), "limit of 178956970"));
  }
}

TEST_CASE("rubbish after a picture or between its segments is let pass") {
  auto jpeg = bytes_of_file(golden_image("444.jpg"));
  const Image expected = read_image(golden_image("444.jpg"));
  jpeg.insert(jpeg.end(), 1000, 0x55);
  CHECK(decode_image(jpeg, "tail").rgb == expected.rgb);
}

TEST_CASE("a broken EXIF block means no orientation") {
  const std::vector<uint8_t> sound{'I', 'I', '*', 0, 8, 0, 0, 0, 1, 0, 0x12, 1, 3,
                                   0,   1,   0,   0, 0, 6, 0, 0, 0, 0, 0,    0, 0};
  CHECK(exif_orientation(sound) == 6);
  const std::vector<uint8_t> big_endian{'M', 'M', 0, '*', 0, 0, 0, 8, 0, 1, 1, 0x12, 0, 3, 0, 0, 0, 1, 0, 8, 0, 0};
  CHECK(exif_orientation(big_endian) == 8);
  for (size_t size = 0; size < 20; ++size) CHECK(exif_orientation({sound.data(), size}) == 1);
  for (size_t at = 0; at < sound.size(); ++at)
    for (const int value : {0, 255}) {
      auto broken = sound;
      broken[at] = static_cast<uint8_t>(value);
      const int orientation = exif_orientation(broken);
      CHECK(orientation >= 1);
      CHECK(orientation <= 8);
    }
}

TEST_CASE("a header far back in the file is found") {
  // 200 KB of comments before the frame header, as profiles and thumbnails make them.
  auto bytes = bytes_of_file(golden_image("orientation6.jpg"));
  std::vector<uint8_t> comment{0xff, 0xfe, 0xff, 0xff};
  comment.resize(0xffff + 2, 'x');
  for (int i = 0; i < 3; ++i) bytes.insert(bytes.begin() + 2, comment.begin(), comment.end());
  const TempDir folder;
  write_bytes(folder / "far.jpg", bytes);
  const ImageInfo info = read_image_info((folder / "far.jpg").string());
  CHECK(info.format == ImageFormat::jpeg);
  CHECK(info.width == 9);
  CHECK(info.height == 13);
  CHECK(read_image((folder / "far.jpg").string()).rgb == read_image(golden_image("orientation6.jpg")).rgb);
}

}  // namespace
}  // namespace vtl::test
