#include "vtl/optim/optimizer.h"

#include <unordered_set>
#include <utility>

#include "vtl/core/context.h"
#include "vtl/core/error.h"
#include "vtl/core/tape.h"
#include "vtl/kernels/grad_norm/grad_norm.h"
#include "vtl/kernels/sgd/sgd.h"

namespace vtl::optim {
namespace {

// Every parameter begins on a boundary of 256 bytes.
constexpr int64_t kAlignment = 64;

int64_t aligned(int64_t count) { return (count + kAlignment - 1) / kAlignment * kAlignment; }

template <class T>
Tensor bytes_on(Device device, std::span<const T> values) {
  const auto bytes = std::as_bytes(values);
  return Tensor::from_bytes(bytes, {static_cast<int64_t>(bytes.size())}, DType::u8, device);
}

}  // namespace

const char* name(OptimizerKind kind) { return kind == OptimizerKind::adamw ? "adamw" : "sgd"; }

Optimizer::Optimizer(const OptimizerOptions& options, std::vector<Group> groups, Device device, uint64_t seed)
    : options_(options), groups_(std::move(groups)) {
  VTL_CHECK(groups_.size() <= static_cast<size_t>(kMaxParameterGroups), "optimizer: ", groups_.size(),
            " parameter groups, at most ", kMaxParameterGroups, " are possible");
  std::unordered_set<const layers::Parameter*> seen;
  for (size_t g = 0; g < groups_.size(); ++g) {
    for (const Member& member : groups_[g].members) {
      VTL_CHECK(member.parameter->learns(), "optimizer: ", member.name, " is frozen; make it learn first");
      VTL_CHECK(seen.insert(member.parameter).second, "optimizer: ", member.name, " is in two places");
      kernels::ParameterSpan span;
      span.offset = arena_count_;
      span.count = member.parameter->shape().numel();
      span.weight_decay = static_cast<float>(weight_decay(groups_[g], member));
      span.learning_rate_factor = static_cast<float>(learning_rate_factor(groups_[g], member));
      span.group = static_cast<int32_t>(g);
      if (member.parameter->value().dtype() == DType::bf16) span.working = member.parameter->value().data_as<bf16>();
      host_spans_.push_back(span);
      members_.push_back(member);
      arena_count_ += aligned(span.count);
    }
  }
  VTL_CHECK(!members_.empty(), "optimizer: nothing learns; unfreeze at least one parameter");

  // Padding stays zero for ever: the norm runs over whole arenas.
  gradient_ = Tensor::zeros({arena_count_}, DType::f32, device);
  master_ = Tensor::zeros({arena_count_}, DType::f32, device);
  const bool adamw = options_.kind == OptimizerKind::adamw;
  if (adamw || options_.momentum != 0) first_moment_ = Tensor::zeros({arena_count_}, DType::f32, device);
  if (adamw) second_moment_ = Tensor::zeros({arena_count_}, DType::f32, device);

  for (size_t i = 0; i < members_.size(); ++i) {
    layers::Parameter& parameter = *members_[i].parameter;
    const Tensor master = arena_view(master_, i, parameter.shape());
    master.copy_from(parameter.master());
    parameter.make_learn(master);
    parameter.value().slot()->grad = arena_view(gradient_, i, parameter.shape());
  }
  spans_ = bytes_on<kernels::ParameterSpan>(device, host_spans_);
  StepState state;
  state.seed = seed;
  state_ = bytes_on<StepState>(device, std::span(&state, 1));
}

Tensor Optimizer::arena_view(const Tensor& arena, size_t span, const Shape& shape) const {
  return arena.view(static_cast<size_t>(host_spans_[span].offset) * sizeof(float), shape, DType::f32);
}

void Optimizer::zero_grad() {
  for (const Member& member : members_) member.parameter->value().slot()->filled = false;
}

void Optimizer::step(double rate_factor) {
  StepState state = read_state();
  for (size_t g = 0; g < groups_.size(); ++g)
    state.learning_rate[g] = static_cast<float>(groups_[g].learning_rate * rate_factor);
  write_state(state);
  // What nothing arrived for has a gradient of zero, not that of some step before.
  for (const Member& member : members_)
    if (const Slot& slot = *member.parameter->value().slot(); !slot.filled) slot.grad.zero();

  Stream& on = stream();
  const kernels::ParameterSpans spans{static_cast<const kernels::ParameterSpan*>(spans_.data()),
                                      static_cast<int64_t>(host_spans_.size()), arena_count_};
  kernels::grad_norm(on, gradient_.f32(), arena_count_, options_.clip_norm, device_state());
  if (options_.kind == OptimizerKind::adamw) {
    kernels::adamw(on, master_.f32(), gradient_.f32(), first_moment_.f32(), second_moment_.f32(), spans, device_state(),
                   options_.adamw);
  } else {
    kernels::sgd(on, master_.f32(), gradient_.f32(), first_moment_.defined() ? first_moment_.f32() : nullptr, spans,
                 device_state(), options_.momentum);
  }
  kernels::step_advance(on, device_state());
  for (const Member& member : members_) member.parameter->touch();
}

StepState Optimizer::read_state() const {
  StepState state;
  state_.copy_to_host(std::as_writable_bytes(std::span(&state, 1)));
  return state;
}

void Optimizer::write_state(const StepState& state) { state_.copy_from_host(std::as_bytes(std::span(&state, 1))); }

void Optimizer::set_micro_batch(int64_t index) {
  StepState state = read_state();
  state.micro_batch = index;
  write_state(state);
}

std::vector<std::pair<const char*, Tensor>> Optimizer::moments() const {
  if (options_.kind == OptimizerKind::adamw) return {{".m", first_moment_}, {".v", second_moment_}};
  if (first_moment_.defined()) return {{".velocity", first_moment_}};
  return {};
}

NamedTensors Optimizer::state_tensors() const {
  NamedTensors tensors;
  for (size_t i = 0; i < members_.size(); ++i)
    for (const auto& [suffix, arena] : moments()) {
      const Tensor view = arena_view(arena, i, members_[i].parameter->shape());
      Tensor copy = empty_like(view);
      copy.copy_from(view);
      tensors.emplace_back(members_[i].name + suffix, std::move(copy));
    }
  const int64_t step = read_state().step;
  tensors.emplace_back("step", Tensor::from(std::span(&step, 1), {}));
  return tensors;
}

void Optimizer::load_state(const NamedTensors& tensors) {
  std::vector<std::string> problems;
  const auto find = [&](const std::string& wanted, const Shape& shape, DType dtype) -> const Tensor* {
    for (const auto& [tensor_name, tensor] : tensors) {
      if (tensor_name != wanted) continue;
      if (tensor.shape() == shape && tensor.dtype() == dtype) return &tensor;
      problems.push_back(concat(wanted, ": ", tensor.shape(), " of ", vtl::name(tensor.dtype()), ", expected ", shape,
                                " of ", vtl::name(dtype)));
      return nullptr;
    }
    problems.push_back(wanted + ": missing");
    return nullptr;
  };

  std::vector<std::pair<Tensor, Tensor>> copies;  // to, from
  for (size_t i = 0; i < members_.size(); ++i)
    for (const auto& [suffix, arena] : moments()) {
      const Tensor view = arena_view(arena, i, members_[i].parameter->shape());
      if (const Tensor* from = find(members_[i].name + suffix, view.shape(), DType::f32))
        copies.emplace_back(view, *from);
    }
  const Tensor* step = find("step", {}, DType::i64);
  if (problems.empty() && tensors.size() != copies.size() + 1)
    problems.push_back(concat(tensors.size() - copies.size() - 1, " tensors belong to no learning parameter"));
  if (!problems.empty())
    throw Error(ErrorKind::bad_model,
                concat("optimizer: the saved state does not fit this model and strategy (", problems.size(),
                       " problems, the first: ", problems.front(), ")"),
                problems);

  for (const auto& [to, from] : copies) to.copy_from(from.to(to.device()));
  StepState state = read_state();
  step->copy_to_host(std::as_writable_bytes(std::span(&state.step, 1)));
  write_state(state);
}

size_t Optimizer::arena_bytes() const {
  const int arenas = 2 + (first_moment_.defined() ? 1 : 0) + (second_moment_.defined() ? 1 : 0);
  return static_cast<size_t>(arenas) * static_cast<size_t>(arena_count_) * sizeof(float);
}

}  // namespace vtl::optim
