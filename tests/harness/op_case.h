// One description of an operation, from which a whole examination follows: forward against the fp64 definition, every gradient
// against finite differences of it, all freeze masks, gradients written over NaN and added to known values, guard zones,
// the same bits twice and for any number of threads; on every device that this build holds.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "vtl/core/tensor.h"

namespace vtl::test {

using Values = std::vector<double>;

enum class Kind {
  activation,  // f32 or bf16, as the case's dtype says; its gradient has the same dtype
  parameter,   // f32; its gradient is f32
  matrix,      // a weight: the case's dtype, its gradient f32
  constant,    // f32, never learns
  labels       // i64 indices in [0, high), never learns
};

struct OpInput {
  std::string name;
  Shape shape;
  Kind kind = Kind::activation;
  double low = -1.5, high = 1.5;
};

struct OpCase {
  std::string name;
  std::vector<OpInput> inputs;
  // The definition: values of all inputs, row-major, in; values of the output out.
  std::function<Values(const std::vector<Values>&)> define;
  // The layer under test, called inside a tape when something learns.
  std::function<Tensor(const std::vector<Tensor>&)> run;
  std::vector<DType> dtypes{DType::f32, DType::bf16};
  // The length of the longest sum behind one value of the output, and behind one value of a gradient.
  double terms = 1, gradient_terms = 1;
  // Rounding errors tolerated, in units of eps * sqrt(terms) * the largest magnitude of the result.
  double ulps = 4;
  // Results keep their bits whatever the number of threads. (oneDNN's need not.)
  bool same_bits_for_any_threads = true;
};

// Runs everything and reports through doctest. In a program whose kernels are traced: looks for races, and that is all.
void examine(const OpCase& op);

// The races of all kernels that `work` launches. Only a program whose kernels are traced has this function.
std::vector<std::string> races_of(const std::function<void()>& work) __attribute__((weak));

// Uniform in [low, high), fixed by the name: the same on every machine.
Values random_values(const std::string& name, int64_t count, double low = -1.5, double high = 1.5);
// `values` as a tensor of f32, bf16 or i64; and back.
Tensor to_tensor(const Values& values, const Shape& shape, DType dtype, Device device = Device::cpu());
Values to_values(const Tensor& tensor);
// values as they are after rounding to dtype.
Values rounded(const Values& values, DType dtype);
double max_abs(const Values& values);
// The largest |a - b|; infinite when the lengths differ or something is not finite.
double max_difference(const Values& a, const Values& b);

}  // namespace vtl::test
