#include "vtl/models/pretrained_source.h"

#include <algorithm>
#include <cstring>
#include <span>

#include "vtl/core/context.h"
#include "vtl/core/error.h"
#include "vtl/layers/shape_ops.h"

namespace vtl::models {

bool Origin::one_dtype() const {
  return std::all_of(parts.begin(), parts.end(), [&](const io::TensorInfo& t) { return t.dtype == parts[0].dtype; });
}

std::vector<uint64_t> Origin::shape() const {
  std::vector<uint64_t> whole = parts[0].shape;
  for (size_t i = 1; i < parts.size(); ++i) {
    const std::vector<uint64_t>& part = parts[i].shape;
    const bool fits =
        !whole.empty() && part.size() == whole.size() && std::equal(part.begin() + 1, part.end(), whole.begin() + 1);
    if (!fits)
      fail(ErrorKind::bad_model, "tensors ", parts[0].name, " ", io::to_string(parts[0].shape), " and ", parts[i].name,
           " ", io::to_string(part), " do not fit under each other");
    whole[0] += part[0];
  }
  return whole;
}

Inventory take_inventory(const io::WeightFile& file, const Recognised& recognised) {
  Inventory inventory;
  std::map<std::string, std::map<int, io::TensorInfo>> found;
  for (int64_t i = 0; i < file.size(); ++i) {
    const std::string name(file.name(i));
    const std::optional<Renamed> renamed = rename(recognised, name);
    if (!renamed)
      inventory.problems.push_back(name + " is not a name of this dialect");
    else if (renamed->name.empty())
      inventory.ignored.push_back(name);
    else if (!found[renamed->name].emplace(renamed->part, file[i]).second)
      inventory.problems.push_back(name + " is there twice under different names");
  }
  for (auto& [name, parts] : found) {
    const bool whole = parts.size() == 1 && parts.begin()->first == -1;
    const bool split = parts.size() == 3 && parts.begin()->first == 0;
    if (!whole && !split) inventory.problems.push_back(name + " needs query, key and value, and some are missing");
    Origin origin;
    for (auto& [part, info] : parts) origin.parts.push_back(info);
    inventory.origins.emplace(name, std::move(origin));
  }
  return inventory;
}

const Origin* PretrainedSource::find(const std::string& name) const {
  const auto found = origins_.find(name);
  return found == origins_.end() ? nullptr : &found->second;
}

Tensor PretrainedSource::read(const Origin& origin) const {
  std::vector<int64_t> dims;
  for (const uint64_t extent : origin.shape()) dims.push_back(static_cast<int64_t>(extent));
  const Tensor whole = Tensor::empty(Shape(std::span<const int64_t>(dims)), DType::f32, Device::cpu());
  float* at = whole.f32();
  for (const io::TensorInfo& part : origin.parts) {
    file_.read_as_f32(part, {at, static_cast<size_t>(part.count())});
    at += part.count();
  }
  return whole;
}

Tensor PretrainedSource::read(const Origin& origin, layers::FileLayout layout) const {
  return to_kernel_layout(read(origin), layout);
}

Tensor PretrainedSource::read_counter(const Origin& origin) const {
  const io::TensorInfo& info = origin.parts[0];
  int64_t value = 0;
  if (info.dtype == io::FileDType::i64) {
    file_.read_raw(info, std::as_writable_bytes(std::span(&value, 1)));
  } else {
    int32_t narrow = 0;
    file_.read_raw(info, std::as_writable_bytes(std::span(&narrow, 1)));
    value = narrow;
  }
  return Tensor::from(std::span<const int64_t>(&value, 1), {});
}

bool PretrainedSource::holds(const std::string& name, const Tensor& buffer) const {
  const Origin* origin = find(name);
  if (!origin) return false;
  const Tensor host = buffer.to(Device::cpu());
  const Tensor file = host.dtype() == DType::i64 ? read_counter(*origin) : read(*origin);
  return file.shape() == host.shape() && std::memcmp(file.data(), host.data(), host.bytes()) == 0;
}

std::string PretrainedSource::sha256() const {
  std::call_once(hashed_, [&] { sha256_ = file_.sha256(); });
  return sha256_;
}

namespace {

// A 1x1 filter is the same in both layouts.
bool is_pixel(int64_t height, int64_t width) { return height == 1 && width == 1; }

}  // namespace

Tensor to_kernel_layout(const Tensor& values, layers::FileLayout layout) {
  if (layout == layers::FileLayout::same) return values;
  const Shape& s = values.shape();
  if (is_pixel(s[2], s[3])) return values.reshape({s[0], 1, 1, s[1]});
  NoTapeScope no_tape;
  return layers::permute(values, {0, 2, 3, 1});
}

Tensor to_file_layout(const Tensor& values, layers::FileLayout layout) {
  if (layout == layers::FileLayout::same) return values;
  const Shape& s = values.shape();
  if (is_pixel(s[1], s[2])) return values.reshape({s[0], s[3], 1, 1});
  NoTapeScope no_tape;
  return layers::permute(values, {0, 3, 1, 2});
}

}  // namespace vtl::models
