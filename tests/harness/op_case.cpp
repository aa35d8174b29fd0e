#include "vtl/tests/harness/op_case.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "vtl/core/allocator.h"
#include "vtl/core/context.h"
#include "vtl/core/error.h"
#include "vtl/core/parallel.h"
#include "vtl/core/rng.h"
#include "vtl/kernels/simt/settings.h"
#include "vtl/tests/harness/devices.h"

namespace vtl::test {
namespace {

constexpr double kDifferenceStep = 1e-5;
constexpr int64_t kEveryElementUpTo = 400;  // gradients of larger inputs are compared along random directions
constexpr int kDirections = 8;

uint32_t hash(const std::string& text) {
  uint32_t h = 2166136261u;
  for (const char c : text) h = (h ^ static_cast<unsigned char>(c)) * 16777619u;
  return h;
}

bool learnable(Kind kind) { return kind == Kind::activation || kind == Kind::parameter || kind == Kind::matrix; }

DType dtype_of_input(Kind kind, DType dtype) {
  switch (kind) {
    case Kind::activation:
    case Kind::matrix: return dtype;
    case Kind::labels: return DType::i64;
    default: return DType::f32;
  }
}

double dot(const Values& a, const Values& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

bool same_bits(const Tensor& a, const Tensor& b) {
  if (a.defined() != b.defined()) return false;
  if (!a.defined()) return true;
  std::vector<std::byte> x(a.bytes()), y(b.bytes());
  a.copy_to_host(x);
  b.copy_to_host(y);
  return x == y;
}

struct Result {
  Tensor output;
  std::vector<Tensor> gradients;  // undefined where frozen
  size_t recorded = 0;
};

enum class Mode { fresh, over_nan, add };
constexpr double kAddend = 0.25;

// One run of the op with the inputs of `mask` learning.
Result run_once(const OpCase& op, const std::vector<Values>& values, const Values& upstream, DType dtype, Device device,
                unsigned mask, Mode mode) {
  std::vector<Tensor> inputs;
  for (size_t i = 0; i < op.inputs.size(); ++i) {
    const auto& input = op.inputs[i];
    Tensor t = to_tensor(values[i], input.shape, dtype_of_input(input.kind, dtype), device);
    if (mask >> i & 1u) {
      auto slot = std::make_shared<Slot>();
      slot->parameter = input.kind != Kind::activation;
      const DType grad_dtype = slot->parameter ? DType::f32 : dtype;
      if (mode != Mode::fresh) {
        const double fill = mode == Mode::add ? kAddend : std::numeric_limits<double>::quiet_NaN();
        slot->grad = to_tensor(Values(static_cast<size_t>(input.shape.numel()), fill), input.shape, grad_dtype, device);
        slot->filled = mode == Mode::add;
      }
      t.set_slot(slot);
    }
    inputs.push_back(std::move(t));
  }
  Result result;
  Tape tape;
  {
    const TapeScope scope(tape);
    result.output = op.run(inputs);
  }
  result.recorded = tape.size();
  if (result.output.slot()) tape.backward(result.output, to_tensor(upstream, result.output.shape(), result.output.dtype(), device));
  result.output = result.output.value();
  for (const auto& input : inputs) result.gradients.push_back(input.slot() && input.slot()->filled ? input.slot()->grad : Tensor());
  return result;
}

double unit_roundoff(DType dtype) { return dtype == DType::bf16 ? 0x1p-8 : 0x1p-23; }

class Examination {
 public:
  Examination(const OpCase& op, DType dtype, Device device) : op_(op), dtype_(dtype), device_(device) {
    for (size_t i = 0; i < op.inputs.size(); ++i) {
      const auto& input = op.inputs[i];
      Values v = random_values(op.name + "." + input.name, input.shape.numel(), input.low, input.high);
      if (input.kind == Kind::labels)
        for (auto& x : v) x = std::floor(x);
      values_.push_back(rounded(v, input.kind == Kind::labels ? DType::i64 : dtype_of_input(input.kind, dtype)));
      if (learnable(input.kind)) all_ |= 1u << i;
    }
    expected_ = op.define(values_);
    upstream_ = rounded(random_values(op.name + ".upstream", static_cast<int64_t>(expected_.size())), dtype);
  }

  // An operation may have kernels for some devices only. Every one has them for the cpu.
  bool has_kernels() {
    if (device_.kind == DeviceKind::cpu) return true;
    try {
      once(all_, Mode::add);  // asks for all there is
    } catch (const Error& error) {
      if (error.kind() != ErrorKind::unsupported) throw;
      return false;
    }
    return true;
  }

  // Every mask, because a kernel that computes less may be another one.
  void races() {
    for (unsigned mask = 0; mask <= all_; ++mask) {
      if ((mask & all_) != mask) continue;
      INFO("learning inputs (bits): ", mask);
      for (const auto& race : races_of([&] { once(mask, Mode::add); })) FAIL_CHECK(race);
    }
  }

  void all() {
    forward();
    gradients();
    freeze_masks();
    write_and_add();
    determinism();
  }

 private:
  void forward() {
    const Result frozen = once(0, Mode::fresh);
    CHECK_MESSAGE(frozen.recorded == 0, "a call where nothing learns recorded operations");
    check_close("output", to_values(frozen.output), expected_, op_.terms);
    if (!all_) return;
    const Result full = once(all_, Mode::fresh);
    check_close("output while learning", to_values(full.output), expected_, op_.terms);
  }

  void gradients() {
    if (!all_ || expected_.empty()) return;
    const Result full = once(all_, Mode::fresh);
    for (size_t i = 0; i < op_.inputs.size(); ++i) {
      if (!(all_ >> i & 1u)) continue;
      INFO("gradient of ", op_.inputs[i].name);
      REQUIRE(full.gradients[i].defined());
      const Values got = to_values(full.gradients[i]);
      if (op_.inputs[i].shape.numel() <= kEveryElementUpTo)
        check_close("gradient of " + op_.inputs[i].name, got, differences(i), op_.gradient_terms);
      else
        check_directions(i, got);
    }
  }

  void freeze_masks() {
    const Result full = all_ ? once(all_, Mode::fresh) : Result{};
    for (unsigned mask = 1; mask < all_; ++mask) {
      if ((mask & all_) != mask) continue;
      INFO("learning inputs (bits): ", mask);
      const Result some = once(mask, Mode::over_nan);
      for (size_t i = 0; i < op_.inputs.size(); ++i) {
        CHECK(some.gradients[i].defined() == ((mask >> i & 1u) != 0));
        if (some.gradients[i].defined())
          check_close("gradient of " + op_.inputs[i].name, to_values(some.gradients[i]), to_values(full.gradients[i]),
                      op_.gradient_terms);
      }
    }
  }

  void write_and_add() {
    if (!all_) return;
    const Result fresh = once(all_, Mode::fresh), over_nan = once(all_, Mode::over_nan), added = once(all_, Mode::add);
    for (size_t i = 0; i < op_.inputs.size(); ++i) {
      if (!(all_ >> i & 1u)) continue;
      INFO("gradient of ", op_.inputs[i].name);
      CHECK_MESSAGE(same_bits(fresh.gradients[i], over_nan.gradients[i]), "old contents of the buffer leaked into the gradient");
      Values expected = to_values(fresh.gradients[i]);
      for (auto& x : expected) x += kAddend;
      check_close("sum with a gradient that was there", to_values(added.gradients[i]), expected, op_.gradient_terms);
    }
  }

  void determinism() {
    const Result first = once(all_, Mode::fresh), second = once(all_, Mode::fresh);
    check_same(first, second, "two runs differ in bits");
    if (device_.kind == DeviceKind::simt) {
      emulator::SettingsScope scope;
      emulator::settings().schedule = emulator::Schedule::greedy;
      emulator::settings().seed = 20;
      check_same(first, once(all_, Mode::fresh), "lock-step and greedy warps differ in bits");
      emulator::settings().lazy = true;
      check_same(first, once(all_, Mode::fresh), "work that runs at once and work that waits differ in bits");
    }
    if (!op_.same_bits_for_any_threads) return;
    const int threads = compute_threads();
    set_compute_threads(1);
    const Result one = once(all_, Mode::fresh);
    set_compute_threads(3);
    const Result three = once(all_, Mode::fresh);
    set_compute_threads(threads);
    check_same(one, three, "one thread and three differ in bits");
  }

  Result once(unsigned mask, Mode mode) { return run_once(op_, values_, upstream_, dtype_, device_, mask, mode); }

  // The derivative of sum(upstream * output) by every element of input i, by central differences of the definition.
  Values differences(size_t i) {
    Values gradient(values_[i].size());
    for (size_t e = 0; e < gradient.size(); ++e) {
      const double at = values_[i][e];
      gradient[e] = (loss_with(i, e, at + kDifferenceStep) - loss_with(i, e, at - kDifferenceStep)) / (2 * kDifferenceStep);
      values_[i][e] = at;
    }
    return gradient;
  }
  double loss_with(size_t i, size_t e, double value) {
    values_[i][e] = value;
    return dot(upstream_, op_.define(values_));
  }

  void check_directions(size_t i, const Values& got) {
    const Values at = values_[i];
    for (int d = 0; d < kDirections; ++d) {
      const Values direction = random_values(op_.name + ".direction" + std::to_string(d), static_cast<int64_t>(at.size()), -1, 1);
      const auto moved = [&](double step) {
        for (size_t e = 0; e < at.size(); ++e) values_[i][e] = at[e] + step * direction[e];
        return dot(upstream_, op_.define(values_));
      };
      const double expected = (moved(kDifferenceStep) - moved(-kDifferenceStep)) / (2 * kDifferenceStep);
      values_[i] = at;
      // Independent rounding errors of the elements add up like a random walk.
      const double spread = std::sqrt(dot(direction, direction)) * max_abs(got);
      INFO("direction ", d, " of input ", op_.inputs[i].name, " with ", at.size(), " elements");
      CHECK(std::abs(dot(got, direction) - expected) <= tolerance(op_.gradient_terms) * spread + 1e-6 * std::abs(expected));
    }
  }

  // Relative to the largest magnitude. bf16 results are rounded once at the end, and twice that is allowed; long sums are
  // in f32 either way.
  double tolerance(double terms) const {
    const double f32 = op_.ulps * unit_roundoff(DType::f32) * std::sqrt(std::max(terms, 1.0));
    return dtype_ == DType::bf16 ? 2 * unit_roundoff(DType::bf16) + f32 : f32;
  }

  void check_close(const std::string& what, const Values& got, const Values& expected, double terms) const {
    const double allowed = tolerance(terms) * max_abs(expected) + 1e-9, off = max_difference(got, expected);
    CHECK_MESSAGE(off <= allowed, what, ": off by ", off, ", allowed ", allowed);
  }

  void check_same(const Result& a, const Result& b, const char* message) const {
    CHECK_MESSAGE(same_bits(a.output, b.output), message);
    for (size_t i = 0; i < a.gradients.size(); ++i)
      CHECK_MESSAGE(same_bits(a.gradients[i], b.gradients[i]), message, ": gradient of ", op_.inputs[i].name);
  }

  const OpCase& op_;
  DType dtype_;
  Device device_;
  std::vector<Values> values_;
  Values expected_, upstream_;
  unsigned all_ = 0;
};

}  // namespace

namespace {

void examine_races(const OpCase& op) {
  Stream stream(Device::simt());
  const StreamScope scope(stream);
  for (const DType dtype : op.dtypes) {
    INFO(op.name, " in ", name(dtype));
    Examination examination(op, dtype, Device::simt());
    if (examination.has_kernels()) examination.races();
  }
}

}  // namespace

void examine(const OpCase& op) {
  if (&races_of) return examine_races(op);
  for (const Device& device : devices()) {
    Stream stream(device);
    const StreamScope scope(stream);
    for (const DType dtype : op.dtypes) {
      INFO(op.name, " on ", to_string(device), " in ", name(dtype));
      set_allocation_guards(true);
      const int64_t damaged_before = damaged_guards();
      {
        Examination examination(op, dtype, device);
        if (examination.has_kernels()) examination.all();
      }
      set_allocation_guards(false);
      CHECK_MESSAGE(damaged_guards() == damaged_before, "something wrote outside its memory");
    }
  }
}

Values random_values(const std::string& name, int64_t count, double low, double high) {
  RandomSequence random(hash(name), RandomStream::demo, 0, 0);
  Values values(static_cast<size_t>(count));
  for (auto& v : values) v = low + (high - low) * random.uniform();
  return values;
}

Values rounded(const Values& values, DType dtype) {
  Values result = values;
  for (auto& v : result) {
    if (dtype == DType::f32) v = static_cast<float>(v);
    if (dtype == DType::bf16) v = static_cast<float>(bf16(static_cast<float>(v)));
  }
  return result;
}

Tensor to_tensor(const Values& values, const Shape& shape, DType dtype, Device device) {
  const auto filled = [&]<class T>(std::vector<T> typed) {
    for (size_t i = 0; i < values.size(); ++i) {
      if constexpr (std::is_same_v<T, bf16>) typed[i] = bf16(static_cast<float>(values[i]));
      else typed[i] = static_cast<T>(values[i]);
    }
    return Tensor::from(std::span<const T>(typed), shape, device);
  };
  if (dtype == DType::bf16) return filled(std::vector<bf16>(values.size()));
  if (dtype == DType::i64) return filled(std::vector<int64_t>(values.size()));
  return filled(std::vector<float>(values.size()));
}

Values to_values(const Tensor& tensor) {
  const auto read = [&]<class T>(std::vector<T> typed) {
    tensor.copy_to_host(std::as_writable_bytes(std::span<T>(typed)));
    Values values;
    for (const T& v : typed) values.push_back(static_cast<double>(static_cast<float>(v)));
    return values;
  };
  const auto count = static_cast<size_t>(tensor.numel());
  if (tensor.dtype() == DType::bf16) return read(std::vector<bf16>(count));
  if (tensor.dtype() == DType::i64) return read(std::vector<int64_t>(count));
  VTL_CHECK(tensor.dtype() == DType::f32, "to_values: a tensor of ", name(tensor.dtype()));
  return read(std::vector<float>(count));
}

double max_abs(const Values& values) {
  double largest = 0;
  for (const double v : values) largest = std::max(largest, std::abs(v));
  return largest;
}

double max_difference(const Values& a, const Values& b) {
  if (a.size() != b.size()) return std::numeric_limits<double>::infinity();
  double largest = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    if (!std::isfinite(a[i]) || !std::isfinite(b[i])) return std::numeric_limits<double>::infinity();
    largest = std::max(largest, std::abs(a[i] - b[i]));
  }
  return largest;
}

}  // namespace vtl::test
