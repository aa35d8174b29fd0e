// Weights, images and probes as functions of a tensor's name, the same numbers as tests/reference/formula.py: golden
// files need not hold them. The formula in words is in tests/reference/README.md.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "vtl/core/tensor.h"
#include "vtl/models/model.h"

namespace vtl::test {

// Number `index` of `name`: uniform in [-1, 1), a multiple of 2^-23.
class FormulaNumbers {
 public:
  explicit FormulaNumbers(const std::string& name);
  double operator[](uint64_t index) const {
    uint64_t z = seed_ + (index + 1) * 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    z ^= z >> 31;
    return static_cast<double>(z >> 40) * 0x1p-23 - 1.0;
  }

 private:
  uint64_t seed_;
};

// Gives every parameter and buffer of `model` its formula value, rounded to bf16 where the model keeps bf16. With
// `Learning::all` every parameter learns, its master being the formula's f32 value.
enum class Learning { none, all };
void fill_with_formula(const models::Model& model, Learning learning);

// [batch, size, size, 3], f32, made from the numbers of `name`.
Tensor formula_images(int64_t batch, int64_t size, const std::string& name = "input");

// The tensor of the formula that a file would hold under `name`; `ends_branch`: the last BatchNorm of a residual
// branch.
Tensor formula_weight(const std::string& name, const Shape& file_shape, bool ends_branch);

struct Summary {
  double norm = 0, probe = 0;
};
// Of f32 values in the file's layout.
Summary summarise(const std::string& name, const Tensor& values);

}  // namespace vtl::test
