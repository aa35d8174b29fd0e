// Eager linear autograd. Operations append to the tape in program order; backward walks it from the end and pops, so
// activations die as it goes. A tensor with a slot learns; one without is frozen: there is no other notion of freezing.
#pragma once

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <memory>
#include <span>
#include <vector>

#include "vtl/core/dest.h"
#include "vtl/core/tensor.h"

namespace vtl {

// Where the gradient of one tensor gathers.
struct Slot {
  Tensor grad;           // dense, the tensor's shape; f32 for parameters, the activation's dtype otherwise
  bool filled = false;   // grad holds a sum already: the next contribution adds to it
  bool parameter = false;  // grad stays where it is (an arena view) and is f32
  int pending = 0;       // recorded uses whose backward has not run
  std::function<void()> on_ready;  // called when the last gradient of this backward has arrived
};

// A tensor as the tape remembers it: its slot and what a gradient buffer must look like. It keeps no data alive.
struct SlotRef {
  std::shared_ptr<Slot> slot;
  Shape shape;
  DType dtype = DType::f32;
  Device device;
};

// What a backward function sees: the gradients of its outputs and where those of its inputs go.
class Grads {
 public:
  Grads(std::span<const SlotRef> outputs, std::span<const SlotRef> inputs) : outputs_(outputs), inputs_(inputs) {}

  // The gradient that arrived for output i: dense, in the output's dtype. Undefined when nothing depended on it.
  const Tensor& out(int i = 0) const;
  bool has_out(int i) const;
  // Input i learns.
  bool wanted(int i) const;
  // Where the gradient of input i goes: {null} when frozen; the first contribution overwrites, later ones add.
  // Each wanted input is asked for exactly once.
  Dest dest(int i);
  // The same for a kernel that may overwrite the gradient of output 0 while it reads it: uses that buffer itself where nobody
  // else holds it and it fits. After this call out(0) must not be read any more except by that kernel.
  Dest dest_over_out(int i);
  // Hands `gradient` on as that of input i without a copy. False when a sum is needed: then use dest.
  bool pass(int i, const Tensor& gradient);

 private:
  std::span<const SlotRef> outputs_, inputs_;
};

using Backward = std::function<void(Grads&)>;

class Tape {
 public:
  // The number of recorded operations.
  size_t size() const { return nodes_.size(); }
  const char* op(size_t i) const { return nodes_[i].op; }
  // Gradients of `root` (one element; its own gradient is 1) into every slot it depends on. The tape is empty after.
  void backward(const Tensor& root);
  // The same with a given gradient of `root`.
  void backward(const Tensor& root, const Tensor& gradient);
  void clear();

 private:
  friend void record(const char*, std::initializer_list<Tensor*>, std::span<const Tensor* const>, Backward);
  struct Node {
    const char* op;
    std::vector<SlotRef> outputs, inputs;
    Backward backward;
  };
  void run();
  std::vector<Node> nodes_;
};

// A tape is active in this thread and one of the tensors learns. Ask before keeping anything for backward.
bool learns(std::span<const Tensor* const> inputs);
template <class... Tensors>
bool learns(const Tensor& first, const Tensors&... others) {
  const Tensor* const inputs[] = {&first, &others...};
  return learns(std::span<const Tensor* const>(inputs));
}

// Appends an operation, and gives each output a slot, when some input learns; does nothing otherwise. Undefined inputs are
// allowed and never wanted. `backward` captures what it needs by value: tensors without their slots (Tensor::value).
void record(const char* op, std::initializer_list<Tensor*> outputs, std::span<const Tensor* const> inputs, Backward backward);
inline void record(const char* op, std::initializer_list<Tensor*> outputs, std::initializer_list<const Tensor*> inputs,
                   Backward backward) {
  record(op, outputs, std::span<const Tensor* const>(inputs.begin(), inputs.size()), std::move(backward));
}

}  // namespace vtl
