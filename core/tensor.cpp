#include "vtl/core/tensor.h"

#include <array>
#include <utility>

#include "vtl/core/allocator.h"
#include "vtl/core/context.h"
#include "vtl/core/error.h"
#include "vtl/core/runtime.h"

namespace vtl {
namespace {

void* queue_on(Device device) {
  const Stream* stream = context().stream;
  return stream && stream->device() == device ? stream->native() : nullptr;
}

}  // namespace

Storage::Storage(Device device, size_t bytes) : device_(device), bytes_(bytes), data_(allocate(device, bytes)) {}
Storage::~Storage() { deallocate(device_, data_); }

Tensor Tensor::empty(const Shape& shape, DType dtype, Device device) {
  Tensor t;
  t.storage_ = std::make_shared<Storage>(device, static_cast<size_t>(shape.numel()) * size_of(dtype));
  t.shape_ = shape;
  t.strides_ = shape.strides();
  t.dtype_ = dtype;
  return t;
}

Tensor Tensor::zeros(const Shape& shape, DType dtype, Device device) {
  Tensor t = empty(shape, dtype, device);
  t.zero();
  return t;
}

Tensor Tensor::from_bytes(std::span<const std::byte> bytes, const Shape& shape, DType dtype, Device device) {
  Tensor t = empty(shape, dtype, device);
  t.copy_from_host(bytes);
  return t;
}

Tensor Tensor::reshape(const Shape& shape) const {
  VTL_CHECK(is_dense(), "reshape: the tensor of shape ", shape_, " is not dense; copy it first");
  VTL_CHECK(shape.numel() == numel(), "reshape: ", shape_, " has ", numel(), " elements, ", shape, " has ", shape.numel());
  Tensor t = *this;
  t.shape_ = shape;
  t.strides_ = shape.strides();
  return t;
}

Tensor Tensor::slice(int dim, int64_t begin, int64_t end) const {
  if (dim < 0) dim += rank();
  VTL_CHECK(!slot_, "slice: this tensor learns; use layers::slice");
  VTL_CHECK(dim >= 0 && dim < rank() && 0 <= begin && begin <= end && end <= shape_[dim], "slice: [", begin, ", ", end,
            ") of dimension ", dim, " of ", shape_);
  Tensor t = *this;
  t.offset_ += static_cast<size_t>(begin * strides_[dim]) * size_of(dtype_);
  t.shape_ = shape_.with(dim, end - begin);
  return t;
}

Tensor Tensor::permute(std::initializer_list<int> order) const {
  VTL_CHECK(!slot_, "permute: this tensor learns; use layers::permute");
  VTL_CHECK(static_cast<int>(order.size()) == rank(), "permute: ", order.size(), " dimensions for ", shape_);
  std::array<int64_t, kMaxDims> dims{}, strides{};
  unsigned seen = 0;
  int to = 0;
  for (const int from : order) {
    VTL_CHECK(from >= 0 && from < rank() && !(seen >> from & 1u), "permute: not a permutation of ", rank(), " dimensions");
    seen |= 1u << from;
    dims[to] = shape_[from];
    strides[to++] = strides_[from];
  }
  Tensor t = *this;
  t.shape_ = Shape(std::span<const int64_t>(dims.data(), order.size()));
  t.strides_ = Shape(std::span<const int64_t>(strides.data(), order.size()));
  return t;
}

Tensor Tensor::view(size_t byte_offset, const Shape& shape, DType dtype) const {
  const size_t bytes = static_cast<size_t>(shape.numel()) * size_of(dtype);
  VTL_CHECK(storage_ && offset_ + byte_offset + bytes <= storage_->bytes(), "view: ", shape, " of ", name(dtype),
            " at byte ", byte_offset, " does not fit");
  Tensor t = value();
  t.offset_ += byte_offset;
  t.shape_ = shape;
  t.strides_ = shape.strides();
  t.dtype_ = dtype;
  return t;
}

Tensor Tensor::to(Device device) const {
  if (!defined() || device == this->device()) return *this;
  VTL_CHECK(is_dense(), "to: the tensor of shape ", shape_, " is not dense; copy it first");
  Tensor t = empty(shape_, dtype_, device);
  const Device here = this->device();
  if (here.kind == DeviceKind::cpu) {
    runtime(device).copy_to_device(device, queue_on(device), t.data(), data(), bytes());
  } else if (device.kind == DeviceKind::cpu) {
    runtime(here).copy_to_host(here, queue_on(here), t.data(), data(), bytes());
    runtime(here).synchronize(here, queue_on(here));
  } else {
    return to(Device::cpu()).to(device);
  }
  return t;
}

void Tensor::copy_to_host(std::span<std::byte> out) const {
  VTL_CHECK(is_dense() && out.size() == bytes(), "copy_to_host: ", out.size(), " bytes for a tensor of ", bytes());
  runtime(device()).copy_to_host(device(), queue_on(device()), out.data(), data(), bytes());
  runtime(device()).synchronize(device(), queue_on(device()));
}

void Tensor::copy_from_host(std::span<const std::byte> in) const {
  VTL_CHECK(is_dense() && in.size() == bytes(), "copy_from_host: ", in.size(), " bytes for ", shape_, " of ", name(dtype_),
            ", which has ", bytes());
  runtime(device()).copy_to_device(device(), queue_on(device()), data(), in.data(), bytes());
}

void Tensor::copy_from(const Tensor& other) const {
  VTL_CHECK(shape_ == other.shape_ && dtype_ == other.dtype_ && device() == other.device() && is_dense() && other.is_dense(),
            "copy_from: ", other.shape_, " ", name(other.dtype_), " into ", shape_, " ", name(dtype_));
  runtime(device()).copy_on_device(device(), queue_on(device()), data(), other.data(), bytes());
}

void Tensor::zero() const {
  VTL_CHECK(is_dense(), "zero: the tensor of shape ", shape_, " is not dense");
  runtime(device()).zero(device(), queue_on(device()), data(), bytes());
}

float Tensor::item() const {
  VTL_CHECK(numel() == 1, "item: the tensor of shape ", shape_, " has ", numel(), " elements, expected one");
  check_dtype(DType::f32);
  float value = 0;
  copy_to_host(std::as_writable_bytes(std::span(&value, 1)));
  return value;
}

Tensor Tensor::value() const {
  Tensor t = *this;
  t.slot_.reset();
  return t;
}

void Tensor::check_dtype(DType wanted) const {
  VTL_CHECK(dtype_ == wanted, "tensor of shape ", shape_, " holds ", name(dtype_), ", expected ", name(wanted));
}

Tensor empty_like(const Tensor& like) { return Tensor::empty(like.shape(), like.dtype(), like.device()); }

}  // namespace vtl
