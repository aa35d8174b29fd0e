#include "vtl/io/safetensors.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <memory>

#include "vtl/core/error.h"
#include "vtl/io/sha256.h"
#include "vtl/io/strict_json.h"

namespace vtl::io {
namespace {

static_assert(std::endian::native == std::endian::little, "safetensors are little-endian, and so must the machine be");

constexpr size_t kPiece = 1 << 20;

float float_from_f16(uint16_t half) {
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000u) << 16;
  const uint32_t exponent = half >> 10 & 31u, mantissa = half & 0x3ffu;
  if (exponent == 0)
    return std::bit_cast<float>(sign | std::bit_cast<uint32_t>(static_cast<float>(mantissa) * 0x1p-24f));
  const uint32_t widened = exponent == 31 ? 255u : exponent + 127 - 15;
  return std::bit_cast<float>(sign | widened << 23 | mantissa << 13);
}

// Element i of `bytes`, which may lie at any address.
template <class T>
T element(std::span<const std::byte> bytes, size_t i) {
  T value;
  std::memcpy(&value, bytes.data() + i * sizeof(T), sizeof(T));
  return value;
}

// `bytes` hold as many elements as `values` has places.
void convert_to_f32(FileDType dtype, std::span<const std::byte> bytes, std::span<float> values) {
  switch (dtype) {
    case FileDType::f32: std::memcpy(values.data(), bytes.data(), bytes.size()); return;
    case FileDType::f16:
      for (size_t i = 0; i < values.size(); ++i) values[i] = float_from_f16(element<uint16_t>(bytes, i));
      return;
    case FileDType::bf16:
      for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(element<bf16>(bytes, i));
      return;
    case FileDType::f64:
      for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(element<double>(bytes, i));
      return;
    default: fail(ErrorKind::internal, "safetensors: no conversion from ", name(dtype), " to f32");
  }
}

void check_converts(const TensorInfo& tensor, const std::filesystem::path& path) {
  using enum FileDType;
  if (tensor.dtype == f32 || tensor.dtype == f16 || tensor.dtype == bf16 || tensor.dtype == f64) return;
  fail(ErrorKind::unsupported, path.string(), ": tensor ", in_quotes(tensor.name), " is stored as ", name(tensor.dtype),
       ", expected F32, F16, BF16 or F64");
}

// In quotes for a shell, and within for Python.
std::string convert_command(const std::filesystem::path& path) {
  std::filesystem::path target = path;
  target.replace_extension(".safetensors");
  if (target == path) target += ".safetensors";
  return concat("python -c \"import torch, safetensors.torch as s; d = torch.load('", path.string(),
                "', map_location='cpu', weights_only=True); d = d.get('state_dict', d.get('model', d)); "
                "s.save_file({k: v.contiguous().clone() for k, v in d.items() if torch.is_tensor(v)}, '",
                target.string(), "', {'format': 'pt'})\"");
}

// What a file that is no safetensors file is instead, and what to do; empty when it cannot be told.
std::string other_format(std::string_view start, const std::filesystem::path& path) {
  const auto begins = [&](std::string_view magic) { return start.substr(0, magic.size()) == magic; };
  const bool pickle = start.size() >= 2 && start[0] == '\x80' && start[1] >= 2 && start[1] <= 5;
  if (begins("PK\x03\x04") || pickle)
    return "; it is a PyTorch file (.pth, .pt or .bin), not safetensors: convert it once with " + convert_command(path);
  if (begins("version https://git-lfs"))
    return "; it is a Git LFS pointer, not the weights themselves: fetch them with git lfs pull";
  if (begins("<!DOCTYPE") || begins("<!doctype") || begins("<html"))
    return "; it is a web page: the download went wrong";
  if (begins("GGUF")) return "; it is a GGUF file, expected safetensors";
  if (begins("\x89HDF")) return "; it is an HDF5 (Keras) file, expected safetensors";
  if (begins("\x93NUMPY")) return "; it is a NumPy file, expected safetensors";
  if (begins("\x1f\x8b") || begins("\xfd"
                                   "7zXZ"))
    return "; it is a compressed file: unpack it first";
  return "";
}

}  // namespace

SafetensorsFile::SafetensorsFile(File file, const SafetensorsLimits& limits)
    : file_(std::move(file)), header_(read_header(limits)) {}

SafetensorsHeader SafetensorsFile::read_header(const SafetensorsLimits& limits) {
  const std::string source = path().string();
  const uint64_t size = file_.size();
  std::array<char, 32> buffer{};
  const size_t got = file_.read(0, std::as_writable_bytes(std::span(buffer)));
  const std::string_view start(buffer.data(), got);

  if (size < 8)
    refuse(SafetensorsFault::header_too_small, source, "the file has ", size, " bytes, expected at least 8",
           other_format(start, path()));
  if (got < 8) check_unchanged();
  uint64_t length;
  std::memcpy(&length, start.data(), 8);
  if (length > limits.header_bytes)
    refuse(SafetensorsFault::header_too_large, source, "the header claims ", length, " bytes, expected at most ",
           limits.header_bytes, other_format(start, path()));
  if (length > size - 8)
    refuse(SafetensorsFault::header_length_beyond_file, source, "the header claims ", length,
           " bytes, but the file has ", size, " (a truncated file?)", other_format(start, path()));

  auto text = std::make_unique_for_overwrite<char[]>(length);
  read(8, std::as_writable_bytes(std::span(text.get(), length)));
  data_at_ = 8 + length;
  return SafetensorsHeader(std::move(text), length, size - data_at_, source, limits);
}

std::optional<TensorInfo> SafetensorsFile::find(std::string_view name) const {
  const int64_t index = header_.find(name);
  if (index < 0) return {};
  return header_[index];
}

void SafetensorsFile::check_range(const TensorInfo& tensor) const {
  VTL_CHECK(tensor.begin <= tensor.end && tensor.end <= data_bytes(), path().string(), ": tensor ",
            in_quotes(tensor.name), " is none of this file");
}

void SafetensorsFile::check_unchanged() const {
  const uint64_t now = file_.size_now();
  if (now != file_.size())
    refuse(SafetensorsFault::file_changed, path().string(), "the file had ", file_.size(),
           " bytes when it was opened and has ", now, " now");
}

void SafetensorsFile::read(uint64_t offset, std::span<std::byte> bytes) const {
  const size_t got = file_.read(offset, bytes);
  check_unchanged();
  if (got < bytes.size())
    fail(ErrorKind::io, "cannot read ", path().string(), ": ", got, " of ", bytes.size(), " bytes came");
}

void SafetensorsFile::read_raw(const TensorInfo& tensor, std::span<std::byte> bytes) const {
  check_range(tensor);
  VTL_CHECK(bytes.size() == tensor.bytes(), path().string(), ": tensor ", in_quotes(tensor.name), " has ",
            tensor.bytes(), " bytes, the destination ", bytes.size());
  read(data_at_ + tensor.begin, bytes);
}

void SafetensorsFile::read_as_f32(const TensorInfo& tensor, std::span<float> values) const {
  check_converts(tensor, path());
  VTL_CHECK(values.size() == tensor.count(), path().string(), ": tensor ", in_quotes(tensor.name), " has ",
            tensor.count(), " values, the destination ", values.size());
  if (tensor.dtype == FileDType::f32) return read_raw(tensor, std::as_writable_bytes(values));
  const size_t element_bytes = static_cast<size_t>(bits_of(tensor.dtype)) / 8;
  read_pieces(tensor, [&](std::span<const std::byte> piece) {
    const size_t count = piece.size() / element_bytes;
    convert_to_f32(tensor.dtype, piece, values.first(count));
    values = values.subspan(count);
  });
}

void SafetensorsFile::read_pieces(const TensorInfo& tensor, const ByteSink& sink) const {
  check_range(tensor);
  const auto buffer = std::make_unique_for_overwrite<std::byte[]>(std::min<uint64_t>(kPiece, tensor.bytes()));
  for (uint64_t at = tensor.begin; at < tensor.end;) {
    const std::span<std::byte> piece(buffer.get(), std::min<uint64_t>(kPiece, tensor.end - at));
    read(data_at_ + at, piece);
    sink(piece);
    at += piece.size();
  }
}

int64_t SafetensorsFile::count_non_finite(const TensorInfo& tensor) const {
  check_converts(tensor, path());
  const size_t element_bytes = static_cast<size_t>(bits_of(tensor.dtype)) / 8;
  std::vector<float> values;
  int64_t count = 0;
  read_pieces(tensor, [&](std::span<const std::byte> piece) {
    values.resize(piece.size() / element_bytes);
    convert_to_f32(tensor.dtype, piece, values);
    count += std::count_if(values.begin(), values.end(), [](float value) { return !std::isfinite(value); });
  });
  return count;
}

std::string SafetensorsFile::sha256_of(uint64_t offset, uint64_t bytes) const {
  const std::string digest = io::sha256(file_, offset, bytes);
  check_unchanged();
  return digest;
}

}  // namespace vtl::io
