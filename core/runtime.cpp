#include "vtl/core/runtime.h"

#include "vtl/core/error.h"

namespace vtl {
namespace {

const Runtime* find(DeviceKind kind) {
  switch (kind) {
    case DeviceKind::cpu: return cpu_runtime();
    case DeviceKind::cuda: return cuda_runtime();
    case DeviceKind::simt: return &simt_runtime ? simt_runtime() : nullptr;
  }
  return nullptr;
}

}  // namespace

#if !defined(VTL_HAS_CUDA_RUNTIME)
const Runtime* cuda_runtime() { return nullptr; }
#endif

bool has_runtime(DeviceKind kind) { return find(kind) != nullptr; }

const Runtime& runtime(Device device) {
  const Runtime* table = find(device.kind);
  if (!table)
    fail(ErrorKind::unsupported, "device ", device, ": this build or machine has none; use the cpu",
         device.kind == DeviceKind::cuda ? ", or configure with -DVTL_CUDA=ON on a machine with an NVIDIA GPU" : "");
  return *table;
}

}  // namespace vtl
