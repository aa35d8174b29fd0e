#include "vtl/core/tape.h"

#include <cassert>
#include <utility>

#include "vtl/core/context.h"
#include "vtl/core/error.h"

namespace vtl {
namespace {

const Tensor kUndefined;

SlotRef ref(const Tensor& t) {
  return t.defined() ? SlotRef{t.slot(), t.shape(), t.dtype(), t.device()} : SlotRef{};
}

void contribution_done(Slot& slot) {
  if (--slot.pending == 0 && slot.on_ready) slot.on_ready();
}

}  // namespace

const Tensor& Grads::out(int i) const {
  const auto& slot = outputs_[i].slot;
  return slot && slot->filled ? slot->grad : kUndefined;
}

bool Grads::has_out(int i) const { return out(i).defined(); }

bool Grads::wanted(int i) const { return inputs_[i].slot != nullptr; }

Dest Grads::dest(int i) {
  if (!wanted(i)) return {};
  const SlotRef& input = inputs_[i];
  Slot& slot = *input.slot;
  if (!slot.filled) {
    if (!slot.grad.defined())
      slot.grad = Tensor::empty(input.shape, slot.parameter ? DType::f32 : input.dtype, input.device);
    slot.filled = true;
    return {slot.grad.data(), nullptr};
  }
  // A buffer that was handed on by pass() may be read by somebody else: add into a fresh one then.
  if (slot.parameter || slot.grad.unique()) return {slot.grad.data(), slot.grad.data()};
  // The old buffer stays alive: whoever else holds it does so until the end of this backward function.
  const void* addend = slot.grad.data();
  slot.grad = empty_like(slot.grad);
  return {slot.grad.data(), addend};
}

Dest Grads::dest_over_out(int i) {
  if (!wanted(i)) return {};
  Slot& slot = *inputs_[i].slot;
  const Tensor& gradient = out(0);
  const bool fits = gradient.unique() && gradient.is_dense() && gradient.dtype() == inputs_[i].dtype &&
                    gradient.numel() == inputs_[i].shape.numel();
  if (slot.parameter || !fits) return dest(i);
  void* const buffer = gradient.data();
  if (!slot.filled) {
    slot.grad = gradient.reshape(inputs_[i].shape).value();
    slot.filled = true;
    return {buffer, nullptr};
  }
  return dest(i);
}

bool Grads::pass(int i, const Tensor& gradient) {
  if (!wanted(i)) return true;
  Slot& slot = *inputs_[i].slot;
  if (slot.filled || slot.parameter || !gradient.is_dense() || gradient.dtype() != inputs_[i].dtype) return false;
  slot.grad = gradient.reshape(inputs_[i].shape).value();
  slot.filled = true;
  return true;
}

void Tape::backward(const Tensor& root) {
  VTL_CHECK(root.numel() == 1 && root.dtype() == DType::f32, "backward: the root has shape ", root.shape(), " and holds ",
            name(root.dtype()), ", expected one f32");
  const float one = 1.0f;
  backward(root, Tensor::from(std::span(&one, 1), root.shape(), root.device()));
}

void Tape::backward(const Tensor& root, const Tensor& gradient) {
  VTL_CHECK(root.slot(), "backward: nothing that the root depends on learns");
  VTL_CHECK(gradient.numel() == root.numel() && gradient.dtype() == root.dtype() && gradient.is_dense(), "backward: gradient ",
            gradient.shape(), " ", name(gradient.dtype()), " for a root ", root.shape(), " ", name(root.dtype()));
  root.slot()->grad = gradient.value();
  root.slot()->filled = true;
  run();
}

void Tape::run() {
  Tape* const active = std::exchange(context().tape, nullptr);  // backward itself records nothing
  try {
    while (!nodes_.empty()) {
      Node& node = nodes_.back();
      bool arrived = false;
      for (const auto& output : node.outputs) arrived |= output.slot->filled;
      if (arrived) {
        Grads grads(node.outputs, node.inputs);
        node.backward(grads);
      }
      for (const auto& output : node.outputs) {
        output.slot->grad = Tensor();
        output.slot->filled = false;
      }
      node.backward = nullptr;
      for (const auto& input : node.inputs)
        if (input.slot) contribution_done(*input.slot);
      nodes_.pop_back();
    }
  } catch (...) {
    context().tape = active;
    clear();
    throw;
  }
  context().tape = active;
}

void Tape::clear() {
  for (auto& node : nodes_)
    for (const auto& input : node.inputs)
      if (input.slot) input.slot->pending = 0;
  while (!nodes_.empty()) nodes_.pop_back();
}

bool learns(std::span<const Tensor* const> inputs) {
  if (!context().tape) return false;
  for (const Tensor* input : inputs)
    if (input->slot()) return true;
  return false;
}

void record(const char* op, std::initializer_list<Tensor*> outputs, std::span<const Tensor* const> inputs, Backward backward) {
  if (!learns(inputs)) return;
  Tape::Node node{op, {}, {}, std::move(backward)};
  for (const Tensor* input : inputs) {
    if (input->slot()) ++input->slot()->pending;
    node.inputs.push_back(ref(*input));
  }
  for (Tensor* output : outputs) {
    output->set_slot(std::make_shared<Slot>());
    node.outputs.push_back(ref(*output));
  }
  context().tape->nodes_.push_back(std::move(node));
}

}  // namespace vtl
