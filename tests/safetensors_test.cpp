// The reader and the writer of safetensors files: each rule by a file made here byte by byte, the shared vectors,
// damage of every kind, sizes beyond 4 GiB, and memory.
#include "vtl/io/safetensors.h"

#include <doctest/doctest.h>
#include <unistd.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <fstream>
#include <iostream>
#include <limits>
#include <nlohmann/json.hpp>
#include <random>

#include "vtl/tests/harness/shared.h"
#include "vtl/tests/harness/temp_dir.h"
#include "vtl/io/json.h"
#include "vtl/io/safetensors_writer.h"
#include "vtl/io/sha256.h"
#include "vtl/io/strict_json.h"

namespace {

using namespace vtl;
using namespace vtl::io;
using vtl::test::TempDir;

std::string length_prefix(uint64_t length) {
  std::string bytes(8, '\0');
  std::memcpy(bytes.data(), &length, 8);
  return bytes;
}

std::string file_of(const std::string& header, size_t data_bytes) {
  return length_prefix(header.size()) + header + std::string(data_bytes, '\0');
}

void put(const std::filesystem::path& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary).write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}

std::string get(const std::filesystem::path& path) { return read_text_file(path, 1 << 30); }

// "accept" or the code of the fault.
std::string verdict(const std::filesystem::path& path) {
  try {
    SafetensorsFile file(path);
    for (int64_t i = 0; i < file.size(); ++i) {
      const TensorInfo tensor = file[i];
      std::vector<std::byte> bytes(tensor.bytes());
      file.read_raw(tensor, bytes);
      REQUIRE(file.find(tensor.name)->begin == tensor.begin);
    }
    return "accept";
  } catch (const SafetensorsError& error) {
    CHECK((error.kind() == ErrorKind::bad_model));
    return name(error.fault());
  }
}

std::string message_of(const std::filesystem::path& path) {
  try {
    SafetensorsFile file(path);
  } catch (const Error& error) { return error.what(); }
  return "accept";
}

// Of a file with this header and so many bytes of data.
std::string verdict_of(const std::string& header, size_t data_bytes) {
  const TempDir dir;
  put(dir / "f.safetensors", file_of(header, data_bytes));
  return verdict(dir / "f.safetensors");
}

std::string entry(const std::string& name, const std::string& dtype, const std::string& shape,
                  const std::string& offsets) {
  return "\"" + name + "\":{\"dtype\":\"" + dtype + "\",\"shape\":" + shape + ",\"data_offsets\":" + offsets + "}";
}

std::string one(const std::string& dtype, const std::string& shape, const std::string& offsets) {
  return "{" + entry("a", dtype, shape, offsets) + "}";
}

const std::string kGood = entry("a", "F32", "[2]", "[0,8]");

std::vector<std::byte> bytes_of(const std::string& text) {
  const auto bytes = std::as_bytes(std::span(text));
  return {bytes.begin(), bytes.end()};
}

}  // namespace

TEST_CASE("safetensors: a file is refused before its header is read when its length cannot be right") {
  const TempDir dir;
  const auto verdict_of_bytes = [&](const std::string& bytes) {
    put(dir / "f", bytes);
    return verdict(dir / "f");
  };
  CHECK(verdict_of_bytes("") == "HeaderTooSmall");
  CHECK(verdict_of_bytes("1234567") == "HeaderTooSmall");
  CHECK(verdict_of_bytes(length_prefix(0)) == "HeaderNotJson");
  CHECK(verdict_of_bytes(length_prefix(3) + "{}") == "HeaderLengthBeyondFile");
  CHECK(verdict_of_bytes(length_prefix(100'000'000) + "{}") == "HeaderLengthBeyondFile");
  CHECK(verdict_of_bytes(length_prefix(100'000'001) + "{}") == "HeaderTooLarge");
  CHECK(verdict_of_bytes(length_prefix(~uint64_t{0}) + "{}") == "HeaderTooLarge");
  CHECK(verdict_of_bytes(length_prefix(2) + "{}") == "accept");
}

TEST_CASE("safetensors: the header is exactly one JSON object in UTF-8") {
  CHECK(verdict_of("{" + kGood + "}", 8) == "accept");
  CHECK(verdict_of(" \t\r\n{ " + kGood + " }\n  ", 8) == "accept");
  CHECK(verdict_of("\xef\xbb\xbf{}", 0) == "HeaderNotJson");
  CHECK(verdict_of("{} {}", 0) == "HeaderNotJson");
  CHECK(verdict_of("{}x", 0) == "HeaderNotJson");
  CHECK(verdict_of(std::string("{}\0", 3), 0) == "HeaderNotJson");
  CHECK(verdict_of("   ", 0) == "HeaderNotJson");
  CHECK(verdict_of("{" + kGood + ",}", 8) == "HeaderNotJson");
  CHECK(verdict_of("{/**/" + kGood + "}", 8) == "HeaderNotJson");
  CHECK(verdict_of("{'a':1}", 0) == "HeaderNotJson");
  CHECK(verdict_of("{\"a\" 1}", 0) == "HeaderNotJson");
  CHECK(verdict_of("{\"a\":", 0) == "HeaderNotJson");
  CHECK(verdict_of("{\"a", 0) == "HeaderNotJson");
  CHECK(verdict_of("{\"a\\", 0) == "HeaderNotJson");
  CHECK(verdict_of("{\"a\\u00", 0) == "HeaderNotJson");
  CHECK(verdict_of("{\"a\\x\":{}}", 0) == "HeaderNotJson");
  CHECK(verdict_of("{\"a\n\":{}}", 0) == "HeaderNotJson");
  CHECK(verdict_of("{\"a\":nul}", 0) == "HeaderNotJson");
  CHECK(verdict_of("{\"a\":[1,]}", 0) == "HeaderNotJson");
  CHECK(verdict_of("{\"a\":[1}", 0) == "HeaderNotJson");
  CHECK(verdict_of("[]", 0) == "HeaderNotObject");
  CHECK(verdict_of("null", 0) == "HeaderNotObject");
  CHECK(verdict_of("\"a\"", 0) == "HeaderNotObject");
  // Surrogates only in pairs.
  CHECK(verdict_of("{" + entry("\\ud83d\\ude00", "U8", "[]", "[0,1]") + "}", 1) == "accept");
  for (const char* text : {"\\ud83d", "\\ude00", "\\ud83dx", "\\ud83d\\u0041", "\\ud83d\\ud83d"})
    CHECK(verdict_of("{\"" + std::string(text) + "\":{}}", 0) == "HeaderNotJson");
}

TEST_CASE("safetensors: only well-formed UTF-8 passes") {
  const auto with_name = [](const std::string& name) {
    return verdict_of("{" + entry(name, "U8", "[1]", "[0,1]") + "}", 1);
  };
  for (const char* good :
       {"\x7f", "\xc2\x80", "\xdf\xbf", "\xe0\xa0\x80", "\xed\x9f\xbf", "\xee\x80\x80", "\xef\xbf\xbf",
        "\xf0\x90\x80\x80", "\xf4\x8f\xbf\xbf", "a string of more than eight bytes, then \xc3\xa9"})
    CHECK(with_name(good) == "accept");
  for (const char* bad :
       {"\x80", "\xc0\x80", "\xc1\xbf", "\xc2", "\xc2x", "\xe0\x9f\xbf", "\xe2\x82", "\xed\xa0\x80", "\xed\xbf\xbf",
        "\xf0\x8f\xbf\xbf", "\xf0\x90\x80", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xff", "12345678\xfe"})
    CHECK(with_name(bad) == "HeaderNotUtf8");
}

TEST_CASE("safetensors: nesting, repeated keys and numbers are limited at every level") {
  CHECK(verdict_of("{\"a\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0],\"x\":[{}]}}", 0) == "HeaderTooDeep");
  CHECK(verdict_of("{\"a\":" + std::string(200'000, '['), 0) == "HeaderTooDeep");

  CHECK(verdict_of("{" + kGood + "," + kGood + "}", 8) == "DuplicateKey");
  CHECK(verdict_of("{" + kGood + "," + entry("\\u0061", "F32", "[2]", "[0,8]") + "}", 8) == "DuplicateKey");
  CHECK(verdict_of("{\"__metadata__\":null,\"__metadata__\":null}", 0) == "DuplicateKey");
  CHECK(verdict_of("{\"__metadata__\":{},\"__metadat\\u0061__\":{}}", 0) == "DuplicateKey");
  CHECK(verdict_of("{\"__metadata__\":{\"k\":\"1\",\"\\u006B\":\"2\"}}", 0) == "DuplicateKey");
  CHECK(verdict_of("{\"a\":{\"dtype\":\"U8\",\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1) ==
        "DuplicateKey");
  CHECK(verdict_of("{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1],\"x\":{\"k\":1,\"k\":1}}}", 1) ==
        "DuplicateKey");

  for (const char* number : {"-1", "-0", "1.0", "1e0", "1E+2", "0.5e-1", "18446744073709551616", "99999999999999999999",
                             "100000000000000000000"})
    CHECK(verdict_of(one("U8", "[" + std::string(number) + "]", "[0,1]"), 1) == "BadInteger");
  for (const char* number : {"01", "+1", "1.", ".5", "1e", "-", "0x1", "NaN", "Infinity", "-Infinity"})
    CHECK(verdict_of(one("U8", "[" + std::string(number) + "]", "[0,1]"), 1) == "HeaderNotJson");
  CHECK(verdict_of(one("U8", "[0,18446744073709551615]", "[0,0]"), 0) == "accept");
}

TEST_CASE("safetensors: metadata are strings and names are short strings without U+0000") {
  CHECK(verdict_of("{\"__metadata__\":null}", 0) == "accept");
  CHECK(verdict_of("{\"__metadata__\":{}}", 0) == "accept");
  for (const char* bad : {"{\"k\":1}", "{\"k\":null}", "{\"k\":[]}", "[]", "\"x\"", "1", "true"})
    CHECK(verdict_of("{\"__metadata__\":" + std::string(bad) + "}", 0) == "BadMetadata");

  CHECK(verdict_of("{" + entry("", "U8", "[1]", "[0,1]") + "}", 1) == "accept");
  CHECK(verdict_of("{" + entry("../../etc/passwd", "U8", "[1]", "[0,1]") + "}", 1) == "accept");
  CHECK(verdict_of("{" + entry("a\\u0000b", "U8", "[1]", "[0,1]") + "}", 1) == "BadName");
  CHECK(verdict_of("{" + entry(std::string(4096, 'n'), "U8", "[1]", "[0,1]") + "}", 1) == "accept");
  CHECK(verdict_of("{" + entry(std::string(4097, 'n'), "U8", "[1]", "[0,1]") + "}", 1) == "BadName");
}

TEST_CASE("safetensors: an entry has a known dtype, a shape and two offsets") {
  for (const char* bad : {"1", "null", "\"F32\"", "[\"U8\",[1],[0,1]]"})
    CHECK(verdict_of("{\"a\":" + std::string(bad) + "}", 1) == "BadTensorEntry");
  CHECK(verdict_of("{\"a\":{}}", 0) == "MissingField");
  CHECK(verdict_of("{\"a\":{\"shape\":[1],\"data_offsets\":[0,1]}}", 1) == "MissingField");
  CHECK(verdict_of("{\"a\":{\"dtype\":\"U8\",\"data_offsets\":[0,1]}}", 1) == "MissingField");
  CHECK(verdict_of("{\"a\":{\"dtype\":\"U8\",\"shape\":[1]}}", 1) == "MissingField");
  for (const char* dtype : {"f32", "F32 ", "F8_E4M3FN", "", "FLOAT"})
    CHECK(verdict_of(one(dtype, "[1]", "[0,1]"), 1) == "UnknownDtype");
  CHECK(verdict_of("{\"a\":{\"dtype\":7,\"shape\":[1],\"data_offsets\":[0,1]}}", 1) == "UnknownDtype");
  for (const char* shape : {"1", "null", "[\"1\"]", "[1,null]", "[true]", "{}"})
    CHECK(verdict_of(one("U8", shape, "[0,1]"), 1) == "BadShape");
  for (const char* offsets : {"1", "null", "[]", "[1]", "[0,1,2]", "[\"0\",\"1\"]", "[0,null]", "[1,0]"})
    CHECK(verdict_of(one("U8", "[1]", offsets), 1) == "BadOffsets");
  CHECK(verdict_of(one("U8", "[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]", "[0,1]"), 1) == "accept");
  CHECK(verdict_of(one("U8", "[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]", "[0,1]"), 1) == "RankTooLarge");
}

TEST_CASE("safetensors: an unknown field is passed over with one warning for the file") {
  const TempDir dir;
  const std::string fields =
      "\"dtype\":\"U8\",\"x\":{\"k\":1},\"shape\":[0],\"y\":[1,\"]\",null,true],\"data_offsets\":[0,0]";
  put(dir / "f", file_of("{\"a\":{" + fields + "},\"b\":{" + fields + "}}", 0));
  const SafetensorsFile file(dir / "f");
  CHECK(file.size() == 2);
  REQUIRE(file.warnings().size() == 1);
  CHECK(file.warnings()[0].find("4 unknown fields") != std::string::npos);
}

TEST_CASE("safetensors: sizes are multiplied without overflow and fill whole bytes") {
  CHECK(verdict_of(one("U8", "[0,4294967296,4294967296]", "[0,0]"), 0) == "accept");
  CHECK(verdict_of(one("U8", "[4294967296,4294967296,0]", "[0,0]"), 0) == "SizeOverflow");
  CHECK(verdict_of(one("F64", "[4611686018427387904]", "[0,0]"), 0) == "SizeOverflow");
  CHECK(verdict_of(one("F4", "[3]", "[0,2]"), 2) == "SubByteMisaligned");
  CHECK(verdict_of(one("F6_E2M3", "[4]", "[0,3]"), 3) == "accept");
  CHECK(verdict_of(one("F4", "[2]", "[0,1]"), 1) == "accept");
}

TEST_CASE("safetensors: data ranges follow each other without gap and fill the file") {
  const auto two = [](const std::string& a, const std::string& b, size_t bytes) {
    return verdict_of("{" + entry("a", "U8", "[2]", a) + "," + entry("b", "U8", "[2]", b) + "}", bytes);
  };
  CHECK(two("[0,2]", "[2,4]", 4) == "accept");
  CHECK(two("[2,4]", "[0,2]", 4) == "accept");
  CHECK(two("[1,3]", "[3,5]", 5) == "NotContiguous");
  CHECK(two("[0,2]", "[3,5]", 5) == "NotContiguous");
  CHECK(two("[0,2]", "[1,3]", 3) == "NotContiguous");
  CHECK(two("[0,2]", "[0,2]", 2) == "NotContiguous");
  CHECK(two("[0,2]", "[2,5]", 5) == "SizeMismatch");
  CHECK(two("[0,2]", "[2,4]", 5) == "FileNotCovered");
  CHECK(two("[0,2]", "[2,4]", 3) == "FileNotCovered");
  CHECK(verdict_of("{}", 1) == "FileNotCovered");
  const std::string empty_at_2 = "{" + entry("a", "U8", "[2]", "[0,2]") + "," + entry("e", "F32", "[0]", "[2,2]") + "}";
  const std::string empty_at_1 = "{" + entry("a", "U8", "[2]", "[0,2]") + "," + entry("e", "F32", "[0]", "[1,1]") + "}";
  CHECK(verdict_of(empty_at_2, 2) == "accept");
  CHECK(verdict_of(empty_at_1, 2) == "NotContiguous");
}

TEST_CASE("safetensors: the limits can be lowered and raised") {
  const TempDir dir;
  put(dir / "f", file_of("{" + entry("a", "U8", "[1]", "[0,1]") + "," + entry("b", "U8", "[1]", "[1,2]") + "}", 2));
  const auto fault_with = [&](const SafetensorsLimits& limits) {
    try {
      SafetensorsFile file(dir / "f", limits);
    } catch (const SafetensorsError& error) { return std::string(name(error.fault())); }
    return std::string("accept");
  };
  CHECK(fault_with({}) == "accept");
  CHECK(fault_with({.tensors = 2}) == "accept");
  CHECK(fault_with({.tensors = 1}) == "TooManyTensors");
  CHECK(fault_with({.tensors = 0}) == "TooManyTensors");
  CHECK(fault_with({.rank = 0}) == "RankTooLarge");
  CHECK(fault_with({.name_bytes = 0}) == "BadName");
  CHECK(fault_with({.header_bytes = 20}) == "HeaderTooLarge");
}

TEST_CASE("safetensors: a message names the file, the tensor, what came and what was expected, the code and the rule") {
  const TempDir dir;
  put(dir / "m.safetensors", file_of("{" + entry("blocks.0.attn.qkv.weight", "F32", "[2,2]", "[0,24]") + "}", 24));
  CHECK(message_of(dir / "m.safetensors") == (dir / "m.safetensors").string() +
                                                 ": tensor \"blocks.0.attn.qkv.weight\": end 24 - begin 0 = 24 bytes, "
                                                 "but F32 [2,2] needs 16 [SizeMismatch; rule A18]");
  // A name cannot write to the terminal.
  put(dir / "m.safetensors", file_of("{" + entry("\\u001b[31m\\\"\xc2\x9b", "U8", "[1]", "[0,2]") + "}", 2));
  CHECK(message_of(dir / "m.safetensors").find("tensor \"\\x1b[31m\\\"\\xc2\\x9b\"") != std::string::npos);
}

TEST_CASE("safetensors: what is no safetensors file is named with what to do") {
  const TempDir dir;
  const auto message = [&](const std::string& bytes) {
    put(dir / "model.pth", bytes);
    return message_of(dir / "model.pth");
  };
  const std::string zip("PK\x03\x04\x00\x00\x08\x08\x00\x00\x00\x00\x00\x00\x00\x00", 16),
      pickle("\x80\x02\x8a\nl\xfc\x9c\x46\xf9 j\xa8P\x19.", 15);
  for (const std::string& bytes : {zip, pickle}) {
    CHECK(message(bytes).find("PyTorch file") != std::string::npos);
    CHECK(message(bytes).find("save_file") != std::string::npos);
    CHECK(message(bytes).find((dir / "model.safetensors").string()) != std::string::npos);
  }
  CHECK(message("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n").find("git lfs pull") !=
        std::string::npos);
  CHECK(message("<!DOCTYPE html><html></html>").find("web page") != std::string::npos);
  CHECK(message("just some text in a file").find("HeaderTooLarge") != std::string::npos);
}

TEST_CASE("safetensors: a missing file, a directory and a pipe are io errors") {
  const TempDir dir;
  const auto kind_of = [&](const std::filesystem::path& path) {
    try {
      SafetensorsFile file(path);
    } catch (const Error& error) {
      CHECK(std::string(error.what()).find(path.string()) != std::string::npos);
      return error.kind();
    }
    return ErrorKind::internal;
  };
  CHECK((kind_of(dir / "missing") == ErrorKind::io));
  CHECK((kind_of(dir.path()) == ErrorKind::io));
  REQUIRE(std::system(("mkfifo " + (dir / "pipe").string()).c_str()) == 0);
  CHECK((kind_of(dir / "pipe") == ErrorKind::io));
}

TEST_CASE("safetensors: tensors are listed by name, found by name and read from any offset") {
  const TempDir dir;
  // The f32 lies at an odd offset of the file.
  const std::string header = "{\"__metadata__\":{\"format\":\"pt\",\"a\\u0062\":\"\\u00e9\\n\"}," +
                             entry("z", "U8", "[]", "[0,1]") + "," + entry("b.w", "F32", "[2,1,300]", "[1,2401]") + "}";
  std::vector<float> values(600);
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i) - 0.25f;
  std::string data(1 + 2400, '\7');
  std::memcpy(data.data() + 1, values.data(), 2400);
  put(dir / "f", length_prefix(header.size()) + header + data);

  const SafetensorsFile file(dir / "f");
  REQUIRE(file.size() == 2);
  CHECK(file.name(0) == "b.w");
  CHECK(file.name(1) == "z");
  CHECK(!file.find("b"));
  CHECK(!file.find("zz"));
  const TensorInfo tensor = file.find("b.w").value();
  CHECK((tensor.dtype == FileDType::f32));
  CHECK((tensor.shape == std::vector<uint64_t>{2, 1, 300}));
  CHECK((engine_shape(tensor) == Shape{2, 1, 300}));
  CHECK(tensor.count() == 600);
  std::vector<float> read(600);
  file.read_as_f32(tensor, read);
  CHECK((read == values));
  CHECK(file[1].count() == 1);
  CHECK(file[1].shape.empty());
  CHECK(file.metadata("ab") == "\xc3\xa9\n");
  CHECK(!file.metadata("abc"));
  CHECK((file.metadata() == std::map<std::string, std::string>{{"ab", "\xc3\xa9\n"}, {"format", "pt"}}));
  CHECK(file.header_bytes() == header.size());
  CHECK(file.data_bytes() == data.size());
  std::vector<float> short_by_one(599);
  CHECK_THROWS_AS(file.read_as_f32(tensor, short_by_one), Error);
}

TEST_CASE("safetensors: every F16 and BF16 value and rounded F64 values load as f32") {
  const TempDir dir;
  std::vector<uint16_t> all(65536);
  for (size_t i = 0; i < all.size(); ++i) all[i] = static_cast<uint16_t>(i);
  const std::vector<double> doubles{0.0, -0.0, 1.0 / 3.0, 1e300, -1e300, 1e-300, 16777217.0, std::nan("")};
  write_safetensors(
      dir / "f", {tensor_from_memory("half", FileDType::f16, {256, 256}, std::as_bytes(std::span(all))),
                  tensor_from_memory("brain", FileDType::bf16, {65536}, std::as_bytes(std::span(all))),
                  tensor_from_memory("double", FileDType::f64, {doubles.size()}, std::as_bytes(std::span(doubles)))});
  const SafetensorsFile file(dir / "f");
  std::vector<float> values(65536);

  file.read_as_f32(*file.find("half"), values);
  int wrong = 0;
  for (int i = 0; i < 65536; ++i) {
    const int exponent = i >> 10 & 31, mantissa = i & 1023;
    const double magnitude = exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25);
    const bool negative = i >= 32768;
    const float value = values[static_cast<size_t>(i)];
    if (exponent == 31 && mantissa != 0) wrong += !std::isnan(value);
    else if (exponent == 31) wrong += value != (negative ? -1 : 1) * std::numeric_limits<float>::infinity();
    else wrong += value != (negative ? -magnitude : magnitude) || std::signbit(value) != negative;
  }
  CHECK(wrong == 0);
  CHECK(file.count_non_finite(*file.find("half")) == 2 * 1024);

  file.read_as_f32(*file.find("brain"), values);
  for (int i = 0; i < 65536; ++i)
    wrong += std::bit_cast<uint32_t>(values[static_cast<size_t>(i)]) != static_cast<uint32_t>(i) << 16;
  CHECK(wrong == 0);

  std::vector<float> rounded(doubles.size());
  file.read_as_f32(*file.find("double"), rounded);
  for (size_t i = 0; i + 1 < doubles.size(); ++i) CHECK(rounded[i] == static_cast<float>(doubles[i]));
  CHECK(std::isnan(rounded.back()));
  CHECK(file.count_non_finite(*file.find("double")) == 3);
}

TEST_CASE("safetensors: a type that the engine has not is listed and read raw, and refused as f32 by name") {
  const TempDir dir;
  put(dir / "f", file_of(one("F6_E2M3", "[4]", "[0,3]"), 3));
  const SafetensorsFile file(dir / "f");
  CHECK(!engine_dtype(file[0].dtype));
  std::vector<std::byte> raw(3);
  file.read_raw(file[0], raw);
  std::vector<float> values(4);
  try {
    file.read_as_f32(file[0], values);
    FAIL("no error");
  } catch (const Error& error) {
    CHECK((error.kind() == ErrorKind::unsupported));
    CHECK(std::string(error.what()).find("stored as F6_E2M3") != std::string::npos);
  }
}

TEST_CASE("safetensors: a shape that the engine cannot hold is listed, and unsupported as the engine's") {
  const TempDir dir;
  for (const char* shape : {"[1,1,1,1,1,1,1,1,0]", "[0,9223372036854775808]"}) {
    put(dir / "f", file_of(one("F32", shape, "[0,0]"), 0));
    const SafetensorsFile file(dir / "f");
    CHECK(to_string(file[0].shape) == shape);
    try {
      engine_shape(file[0]);
      FAIL("no error");
    } catch (const Error& error) { CHECK((error.kind() == ErrorKind::unsupported)); }
  }
}

TEST_CASE("safetensors: a file that is cut or grows under the reader is an error") {
  const TempDir dir;
  for (const int64_t change : {-4, 4}) {
    put(dir / "f", file_of(one("F32", "[1000]", "[0,4000]"), 4000));
    const SafetensorsFile file(dir / "f");
    std::filesystem::resize_file(dir / "f", std::filesystem::file_size(dir / "f") + static_cast<uintmax_t>(change));
    std::vector<float> values(1000);
    try {
      file.read_as_f32(file[0], values);
      FAIL("no error");
    } catch (const SafetensorsError& error) {
      CHECK((error.fault() == SafetensorsFault::file_changed));
      CHECK((error.kind() == ErrorKind::io));
    }
  }
}

TEST_CASE("safetensors: offsets beyond 4 GiB are read right") {
  const TempDir dir;
  const uint64_t large = uint64_t{5} << 30;
  std::string header = one("U8", "[" + std::to_string(large) + "]", "[0," + std::to_string(large) + "]");
  header.pop_back();
  header += "," + entry("z", "F32", "[3]", "[" + std::to_string(large) + "," + std::to_string(large + 12) + "]") + "}";
  put(dir / "f", length_prefix(header.size()) + header);
  if (::truncate((dir / "f").c_str(), static_cast<off_t>(8 + header.size() + large)) != 0) {
    std::cerr << "skipped: the temporary directory takes no sparse file of 5 GiB\n";
    return;
  }
  const float values[3] = {1.5f, -2.0f, 3.25f};
  std::ofstream(dir / "f", std::ios::binary | std::ios::app)
      .write(reinterpret_cast<const char*>(values), sizeof values);
  const SafetensorsFile file(dir / "f");
  std::vector<float> read(3);
  file.read_as_f32(*file.find("z"), read);
  CHECK((read == std::vector<float>{1.5f, -2.0f, 3.25f}));
}

#if !defined(__SANITIZE_ADDRESS__)
TEST_CASE("safetensors: a header of 62 MB with nearly a million tensors needs little memory") {
  // The highest memory use since it was last reset, and the use now, in bytes.
  const auto status = [](const std::string& key) {
    std::ifstream in("/proc/self/status");
    for (std::string line; std::getline(in, line);)
      if (line.rfind(key + ":", 0) == 0) return std::stoull(line.substr(key.size() + 1)) * 1024;
    return 0ull;
  };
  const TempDir dir;
  constexpr uint64_t kTensors = 999'990;
  uint64_t header_bytes = 0;
  {
    std::string header = "{";
    header.reserve(64 << 20);
    for (uint64_t i = 0; i < kTensors; ++i) {
      if (i > 0) header += ',';
      header +=
          "\"" + std::to_string(i * 7919 % kTensors) + "\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}";
    }
    header += "}";
    header.append(62'000'000 - header.size(), ' ');
    header_bytes = header.size();
    put(dir / "f", file_of(header, 0));
  }
  { std::ofstream("/proc/self/clear_refs") << 5; }
  const uint64_t before = status("VmRSS");
  if (before == 0 || status("VmHWM") > before + (16 << 20)) {
    std::cerr << "skipped: this system does not tell a process its highest memory use\n";
    return;
  }
  const SafetensorsFile file(dir / "f");
  const uint64_t grown = status("VmHWM") - before;
  CHECK(file.size() == kTensors);
  CHECK(file.find("999989"));
  CHECK(!file.find("999990"));
  CHECK(grown <= 4 * header_bytes + 64 * kTensors);
  CHECK(grown < 192'000'000);
  MESSAGE("reading a header of ", header_bytes, " bytes took ", grown, " bytes of memory");
}
#endif

TEST_CASE("safetensors: a damaged file gives an error or reads, whatever the damage") {
  const TempDir dir;
  const std::string header = "{\"__metadata__\":{\"format\":\"pt\",\"k\":\"\\u00e9\"}," +
                             entry("a.weight", "F32", "[2,3]", "[0,24]") + "," + entry("b", "I64", "[]", "[24,32]") +
                             "," + entry("c\\n", "F4", "[6]", "[32,35]") + "," +
                             entry("d", "BF16", "[0,7]", "[35,35]") + "}";
  constexpr size_t kData = 35;
  const std::vector<std::string> tokens{"{",
                                        "}",
                                        "[",
                                        "]",
                                        ",",
                                        ":",
                                        "\"",
                                        "\\",
                                        "\\u",
                                        "\\ud83d",
                                        "0",
                                        "-1",
                                        "18446744073709551616",
                                        "null",
                                        "true",
                                        "1e9",
                                        "\"dtype\"",
                                        "\"shape\"",
                                        "\"__metadata__\"",
                                        "\"F64\"",
                                        "[[[[",
                                        std::string(1, '\0'),
                                        "\xff",
                                        "\xc3"};
  std::mt19937 random(20260101);
  const auto below = [&](size_t n) { return static_cast<size_t>(random() % n); };
  const auto damaged = [&](std::string bytes) {
    for (size_t changes = 1 + below(3); changes > 0 && !bytes.empty(); --changes) {
      const size_t at = below(bytes.size());
      switch (below(5)) {
        case 0: bytes[at] = static_cast<char>(random()); break;
        case 1: bytes.erase(at, 1 + below(12)); break;
        case 2: bytes.insert(at, tokens[below(tokens.size())]); break;
        case 3: bytes.replace(at, 1 + below(8), tokens[below(tokens.size())]); break;
        case 4: bytes[at] = static_cast<char>(bytes[at] ^ (1 << below(8))); break;
      }
    }
    return bytes;
  };

  int accepted = 0, refused = 0;
  for (int round = 0; round < 200; ++round) {
    put(dir / "f", damaged(file_of(header, kData)));
    ++(verdict(dir / "f") == "accept" ? accepted : refused);
  }
  CHECK(refused > 100);
  // In exact memory, where a sanitizer sees a read beyond the end.
  for (int round = 0; round < 5000; ++round) {
    const std::string text = damaged(header);
    auto memory = std::make_unique_for_overwrite<char[]>(text.size());
    std::memcpy(memory.get(), text.data(), text.size());
    try {
      const SafetensorsHeader parsed(std::move(memory), text.size(), kData, "f");
      uint64_t bytes = 0;
      for (int64_t i = 0; i < parsed.size(); ++i) bytes += parsed[i].bytes();
      REQUIRE(bytes == kData);
      ++accepted;
    } catch (const SafetensorsError&) { ++refused; }
  }
  CHECK(accepted > 40);
  CHECK(refused > 2500);
}

TEST_CASE("safetensors: all shared vectors get the expected verdict") {
  const auto folder = test::shared_path("vectors/safetensors");
  if (folder.empty()) return;
  const auto expected = read_json_file(folder / "expected.json");
  int count = 0;
  for (const auto& [vector, facts] : expected.at("vectors").items()) {
    CAPTURE(vector);
    CHECK(verdict(folder / (vector + ".safetensors")) == facts.at("vtl_strict").get<std::string>());
    ++count;
  }
  CHECK(count == 107);
}

TEST_CASE("safetensors: a written file has exactly the bytes of the format") {
  const TempDir dir;
  const float a[2] = {1.0f, 2.0f}, b[1] = {3.0f};
  const int64_t steps[1] = {7};
  write_safetensors(dir / "f",
                    {tensor_from_memory("z\"\\\n\x01\x7f/", FileDType::f32, {2}, std::as_bytes(std::span(a))),
                     tensor_from_memory("bn.steps", FileDType::i64, {}, std::as_bytes(std::span(steps))),
                     tensor_from_memory("b", FileDType::f32, {1, 1}, std::as_bytes(std::span(b)))},
                    {{"vtl.run", "x"}});
  std::string header =
      "{\"__metadata__\":{\"format\":\"pt\",\"vtl.run\":\"x\"},"
      "\"bn.steps\":{\"dtype\":\"I64\",\"shape\":[],\"data_offsets\":[0,8]},"
      "\"b\":{\"dtype\":\"F32\",\"shape\":[1,1],\"data_offsets\":[8,12]},"
      "\"z\\\"\\\\\\n\\u0001\x7f/\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[12,20]}}";
  while (header.size() % 8 != 0) header += ' ';
  std::string expected = length_prefix(header.size()) + header;
  for (const std::span<const std::byte> bytes : std::initializer_list<std::span<const std::byte>>{
           std::as_bytes(std::span<const int64_t>(steps)), std::as_bytes(std::span<const float>(b)),
           std::as_bytes(std::span<const float>(a))})
    expected.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  CHECK(get(dir / "f") == expected);
  CHECK(SafetensorsFile(dir / "f").find("z\"\\\n\x01\x7f/"));
}

TEST_CASE("safetensors: a tensor of several names is written once") {
  const TempDir dir;
  const float a[2] = {1.0f, 2.0f};
  TensorToWrite tied = tensor_from_memory("m", FileDType::f32, {2}, std::as_bytes(std::span(a)));
  tied.aliases = {"z", "c"};
  write_safetensors(dir / "f", {tied});
  const SafetensorsFile file(dir / "f");
  REQUIRE(file.size() == 1);
  CHECK(file.name(0) == "c");
  CHECK((file.metadata() == std::map<std::string, std::string>{{"format", "pt"}, {"m", "c"}, {"z", "c"}}));
}

TEST_CASE("safetensors: what cannot be written is refused and leaves the old file alone") {
  const TempDir dir;
  put(dir / "f", "old");
  const std::vector<std::byte> bytes(8);
  const auto refused = [&](std::string name, FileDType dtype, std::vector<uint64_t> shape, int copies = 1) {
    std::vector<TensorToWrite> tensors;
    for (int i = 0; i < copies; ++i) tensors.push_back(tensor_from_memory(name, dtype, shape, bytes));
    try {
      write_safetensors(dir / "f", tensors);
    } catch (const Error& error) {
      CHECK((error.kind() == ErrorKind::bad_argument));
      CHECK(get(dir / "f") == "old");
      return true;
    }
    return false;
  };
  CHECK(refused("__metadata__", FileDType::u8, {8}));
  CHECK(refused("bad\xff", FileDType::u8, {8}));
  CHECK(refused(std::string("a\0b", 3), FileDType::u8, {8}));
  CHECK(refused(std::string(4097, 'a'), FileDType::u8, {8}));
  CHECK(refused("twice", FileDType::u8, {8}, 2));
  CHECK(refused("odd", FileDType::f4, {15}));
  CHECK(refused("large", FileDType::u8, {1ull << 32, 1ull << 32}));
  CHECK(refused("too few bytes", FileDType::u8, {9}));
  CHECK(refused("too many bytes", FileDType::u8, {7}));
  CHECK(std::distance(std::filesystem::directory_iterator(dir.path()), {}) == 1);  // no temporary file remains
  CHECK(!refused("fits", FileDType::u8, {8}));
  CHECK_THROWS_AS(write_safetensors(dir / "missing" / "f", {}), Error);
}

TEST_CASE("safetensors: reading and writing again gives the same bytes for a file in timm's order") {
  const auto path = test::shared_path("weights/tf_efficientnet_lite0/model.safetensors");
  if (path.empty()) return;
  const TempDir dir;
  const SafetensorsFile file(path);
  std::vector<TensorToWrite> tensors;
  for (int64_t i = 0; i < file.size(); ++i) {
    const TensorInfo tensor = file[i];
    tensors.push_back({std::string(tensor.name), tensor.dtype, tensor.shape,
                       [&file, tensor](const ByteSink& sink) { file.read_pieces(tensor, sink); }});
  }
  write_safetensors(dir / "copy", std::move(tensors), file.metadata());
  CHECK(sha256(File(path)) == sha256(File(dir / "copy")));
}

TEST_CASE("sha256: digests equal the examples of FIPS 180-4") {
  const auto digest = [](const std::string& text, size_t piece) {
    Sha256 hash;
    const auto bytes = bytes_of(text);
    for (size_t at = 0; at < bytes.size(); at += piece)
      hash.update(std::span(bytes).subspan(at, std::min(piece, bytes.size() - at)));
    return hash.finish();
  };
  const std::string two_blocks = "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
  CHECK(digest("", 1) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  CHECK(digest("abc", 3) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  for (const size_t piece : {1, 7, 64, 100}) {
    CHECK(digest(two_blocks, piece) == "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    CHECK(digest(std::string(1'000'000, 'a'), piece) ==
          "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
  }
}
