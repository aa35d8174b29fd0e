#include "vtl/core/shape.h"

#include <cassert>
#include <ostream>

#include "vtl/core/error.h"

namespace vtl {

Shape::Shape(std::span<const int64_t> dims) : rank_(static_cast<int>(dims.size())) {
  VTL_CHECK(dims.size() <= kMaxDims, "shape: ", dims.size(), " dimensions, expected at most ", kMaxDims);
  int64_t numel = 1;
  for (int i = 0; i < rank_; ++i) {
    VTL_CHECK(dims[i] >= 0, "shape: dimension ", i, " is ", dims[i], ", expected 0 or more");
    VTL_CHECK(!__builtin_mul_overflow(numel, dims[i] == 0 ? 1 : dims[i], &numel), "shape: more than 2^63 elements");
    dims_[i] = dims[i];
  }
}

int64_t Shape::operator[](int dim) const {
  if (dim < 0) dim += rank_;
  assert(dim >= 0 && dim < rank_);
  return dims_[dim];
}

int64_t Shape::numel() const {
  int64_t n = 1;
  for (int i = 0; i < rank_; ++i) n *= dims_[i];
  return n;
}

Shape Shape::strides() const {
  Shape s = *this;
  int64_t step = 1;
  for (int i = rank_ - 1; i >= 0; --i) {
    s.dims_[i] = step;
    step *= dims_[i];
  }
  return s;
}

Shape Shape::with(int dim, int64_t extent) const {
  if (dim < 0) dim += rank_;
  assert(dim >= 0 && dim < rank_);
  Shape s = *this;
  s.dims_[dim] = extent;
  return s;
}

std::string to_string(const Shape& shape) {
  std::string text = "[";
  for (int i = 0; i < shape.rank(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + "]";
}

std::ostream& operator<<(std::ostream& out, const Shape& shape) { return out << to_string(shape); }

}  // namespace vtl
