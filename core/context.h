// The one ambient state: what layers read instead of taking it as an argument. Each thread has its own.
#pragma once

#include "vtl/core/stream.h"
#include "vtl/core/tape.h"

namespace vtl {

class Communicator;
struct StepState;

// fp32: everything f32. bf16: activations and working copies of matmul and conv weights are bf16; statistics, softmax, loss,
// parameter gradients, masters and moments stay f32.
enum class Precision { fp32, bf16 };
const char* name(Precision precision);
constexpr DType compute_dtype(Precision precision) { return precision == Precision::bf16 ? DType::bf16 : DType::f32; }

struct Context {
  Stream* stream = nullptr;  // set by StreamScope; a cpu stream of the thread when none was
  Tape* tape = nullptr;      // null: nothing is recorded
  bool training = false;     // dropout, drop path and BatchNorm statistics; never touches slots
  const StepState* step = nullptr;  // on the stream's device: keys of random numbers
  Communicator* communicator = nullptr;  // null in a single process
};

Context& context();
// The stream of the context.
Stream& stream();

// Sets one field of the context for a scope.
template <class T>
class ContextScope {
 public:
  ContextScope(T Context::* field, T value) : field_(field), before_(context().*field) { context().*field = value; }
  ~ContextScope() { context().*field_ = before_; }
  ContextScope(const ContextScope&) = delete;
  ContextScope& operator=(const ContextScope&) = delete;

 private:
  T Context::* field_;
  T before_;
};

struct StreamScope : ContextScope<Stream*> {
  explicit StreamScope(Stream& stream) : ContextScope(&Context::stream, &stream) {}
};
struct TapeScope : ContextScope<Tape*> {
  explicit TapeScope(Tape& tape) : ContextScope(&Context::tape, &tape) {}
};
struct NoTapeScope : ContextScope<Tape*> {
  NoTapeScope() : ContextScope(&Context::tape, nullptr) {}
};
struct TrainingScope : ContextScope<bool> {
  explicit TrainingScope(bool training = true) : ContextScope(&Context::training, training) {}
};
struct StepScope : ContextScope<const StepState*> {
  explicit StepScope(const StepState* step) : ContextScope(&Context::step, step) {}
};

}  // namespace vtl
