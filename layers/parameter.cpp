#include "vtl/layers/parameter.h"

#include "vtl/core/error.h"
#include "vtl/kernels/copy/copy.h"

namespace vtl::layers {

Shape Parameter::file_shape() const {
  if (layout_ == FileLayout::same) return shape_;
  return {shape_[0], shape_[3], shape_[1], shape_[2]};
}

void Parameter::set_value(Tensor value) {
  VTL_CHECK(value.shape() == shape_ && is_float(value.dtype()), "parameter: a value ", value.shape(), " of ", name(value.dtype()),
            " for a parameter of shape ", shape_);
  value_ = value.value();
  master_ = value_.dtype() == DType::f32 ? value_ : Tensor();
  touch();
}

void Parameter::make_learn(Tensor master) {
  VTL_CHECK(master.shape() == shape_ && master.dtype() == DType::f32, "parameter: a master ", master.shape(), " of ",
            name(master.dtype()), " for a parameter of shape ", shape_, ", expected f32");
  master_ = master.value();
  if (value_.dtype() == DType::f32) {
    value_ = master_;
  } else {
    kernels::cast(stream(), DType::f32, master_.data(), value_.dtype(), value_.data(), value_.numel());
  }
  auto slot = std::make_shared<Slot>();
  slot->parameter = true;
  value_.set_slot(std::move(slot));
  touch();
}

void Parameter::freeze() {
  value_.set_slot(nullptr);
  if (value_.dtype() != DType::f32) master_ = Tensor();
}

}  // namespace vtl::layers
