// Tensor: a handle on shared storage with shape, strides, dtype and, when it learns, a gradient slot.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "vtl/core/device.h"
#include "vtl/core/dtype.h"
#include "vtl/core/shape.h"

namespace vtl {

class Storage {
 public:
  Storage(Device device, size_t bytes);
  ~Storage();
  Storage(const Storage&) = delete;
  Storage& operator=(const Storage&) = delete;

  Device device() const { return device_; }
  size_t bytes() const { return bytes_; }
  void* data() const { return data_; }

 private:
  Device device_;
  size_t bytes_;
  void* data_;
};

struct Slot;

// Copying shares the storage. Views change metadata only. Nothing crosses devices unless one writes `.to(device)`.
class Tensor {
 public:
  Tensor() = default;  // undefined: no storage

  static Tensor empty(const Shape& shape, DType dtype, Device device);
  static Tensor zeros(const Shape& shape, DType dtype, Device device);
  // A copy of `values` (numel of them) on `device`.
  template <class T>
  static Tensor from(std::span<const T> values, const Shape& shape, Device device = Device::cpu()) {
    return from_bytes(std::as_bytes(values), shape, dtype_of<T>::value, device);
  }
  static Tensor from_bytes(std::span<const std::byte> bytes, const Shape& shape, DType dtype, Device device);

  bool defined() const { return storage_ != nullptr; }
  const Shape& shape() const { return shape_; }
  const Shape& strides() const { return strides_; }  // in elements
  int rank() const { return shape_.rank(); }
  int64_t dim(int i) const { return shape_[i]; }
  int64_t numel() const { return shape_.numel(); }
  DType dtype() const { return dtype_; }
  Device device() const { return storage_->device(); }
  size_t bytes() const { return static_cast<size_t>(numel()) * size_of(dtype_); }
  bool is_dense() const { return strides_ == shape_.strides(); }

  // The first element. Null when undefined.
  void* data() const { return storage_ ? static_cast<char*>(storage_->data()) + offset_ : nullptr; }
  // The same, typed; the dtype is checked.
  template <class T>
  T* data_as() const {
    check_dtype(dtype_of<T>::value);
    return static_cast<T*>(data());
  }
  float* f32() const { return data_as<float>(); }

  // Views of the same storage. `reshape` needs a dense tensor and keeps the slot (a gradient is dense); the others are for
  // data that does not learn: layers have differentiable ones.
  Tensor reshape(const Shape& shape) const;
  Tensor slice(int dim, int64_t begin, int64_t end) const;
  Tensor permute(std::initializer_list<int> order) const;
  // A dense view of `shape` and `dtype` that starts `byte_offset` bytes after this tensor's first element.
  Tensor view(size_t byte_offset, const Shape& shape, DType dtype) const;

  // A copy on `device` (the same tensor when it is there already), ordered on the context's stream. Dense tensors only.
  Tensor to(Device device) const;
  // A dense copy on the host. Waits.
  void copy_to_host(std::span<std::byte> bytes) const;
  void copy_from_host(std::span<const std::byte> bytes) const;
  void copy_from(const Tensor& other) const;  // same shape, dtype, device; dense
  void zero() const;
  // The only element, of an f32 tensor. Waits.
  float item() const;

  // Nobody else holds this storage.
  bool unique() const { return storage_.use_count() == 1; }
  bool same_storage(const Tensor& other) const { return storage_ == other.storage_; }

  // The gradient slot; null when this tensor is frozen.
  const std::shared_ptr<Slot>& slot() const { return slot_; }
  void set_slot(std::shared_ptr<Slot> slot) { slot_ = std::move(slot); }
  // The same data without a slot.
  Tensor value() const;

 private:
  void check_dtype(DType wanted) const;

  std::shared_ptr<Storage> storage_;
  size_t offset_ = 0;  // bytes
  Shape shape_, strides_;
  DType dtype_ = DType::f32;
  std::shared_ptr<Slot> slot_;
};

Tensor empty_like(const Tensor& like);

}  // namespace vtl
