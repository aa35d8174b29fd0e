// What a layer learns or loads: a tensor with its role, its layout in files and, when it learns, its f32 master.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "vtl/core/context.h"
#include "vtl/core/tensor.h"

namespace vtl::layers {

// matrix: weight of a matmul or convolution, bf16 in a bf16 model, decayed. vector: norm scales and biases. token: class and
// register tokens, position embeddings. vector and token are always f32 and never decayed.
enum class Role { matrix, vector, token };

// Files hold convolution weights as [out, in, kh, kw]; kernels want [out, kh, kw, in].
enum class FileLayout { same, oihw };

// What kernels derive from a weight that does not change (a packed form), kept until it does.
class DerivedCache {
 public:
  // The value derived for `version`, made by `make` (returning a shared_ptr<const T>) when there is none yet.
  template <class T, class Make>
  std::shared_ptr<const T> get(uint64_t version, Make&& make) {
    if (version != version_) {
      held_ = std::shared_ptr<const T>(make());
      version_ = version;
    }
    return std::static_pointer_cast<const T>(held_);
  }

 private:
  uint64_t version_ = 0;
  std::shared_ptr<const void> held_;
};

class Parameter {
 public:
  Parameter() = default;  // absent: a layer without bias
  Parameter(const Shape& shape, Role role, FileLayout layout = FileLayout::same) : shape_(shape), role_(role), layout_(layout) {
    present_ = true;
  }

  bool present() const { return present_; }
  Role role() const { return role_; }
  FileLayout layout() const { return layout_; }
  // As kernels see it, and as files do.
  const Shape& shape() const { return shape_; }
  Shape file_shape() const;

  DType working_dtype(Precision precision) const {
    return role_ == Role::matrix ? compute_dtype(precision) : DType::f32;
  }

  // What forward uses; undefined until allocated. It has a slot exactly when the parameter learns.
  const Tensor& value() const { return value_; }
  // f32, the tensor itself when value is f32. Undefined for a frozen bf16 value.
  const Tensor& master() const { return master_; }
  bool learns() const { return value_.slot() != nullptr; }

  // Sets value (and master when it is f32). Frozen after this.
  void set_value(Tensor value);
  // Makes it learn: `master` is f32 and dense; a bf16 value becomes a working copy of it, an f32 value becomes `master` itself.
  void make_learn(Tensor master);
  void freeze();
  // Gathers this parameter's gradient in `slot` (null: frozen).
  void share_slot(std::shared_ptr<Slot> slot) { value_.set_slot(std::move(slot)); }

  // Raised by whoever writes into value: packed forms are made anew.
  uint64_t version() const { return version_; }
  void touch() { ++version_; }
  // Packed forms for the forward pass and for the gradient of the input.
  DerivedCache& packed_forward() const { return packed_forward_; }
  DerivedCache& packed_backward() const { return packed_backward_; }

 private:
  Shape shape_;
  Role role_ = Role::vector;
  FileLayout layout_ = FileLayout::same;
  bool present_ = false;
  Tensor value_, master_;
  uint64_t version_ = 1;
  mutable DerivedCache packed_forward_, packed_backward_;
};

}  // namespace vtl::layers
