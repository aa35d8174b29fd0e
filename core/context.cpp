#include "vtl/core/context.h"

namespace vtl {

const char* name(Precision precision) { return precision == Precision::bf16 ? "bf16" : "fp32"; }

Context& context() {
  thread_local Context instance;
  return instance;
}

Stream& stream() {
  if (Stream* current = context().stream) return *current;
  thread_local Stream cpu(Device::cpu());
  return cpu;
}

}  // namespace vtl
