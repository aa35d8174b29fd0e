#include "vtl/kernels/cpu/columns.h"
#include "vtl/kernels/cpu/philox.h"
#include "vtl/kernels/drop.h"
#include "vtl/kernels/dropout/dropout.h"

// This file has a copy for __AVX512BF16__, where vec.h narrows to bf16 in one instruction.

namespace vtl::kernels::VTL_CPU {
namespace {

// y[i] = addend[i] + (kept ? x[i] / (1 - p) : 0)
template <class T>
void drop(const T* x, const T* addend, T* y, const StepState& state, DropoutDims d) {
  const uint64_t counter = random_counter(RandomStream::dropout, d.layer);
  const uint64_t key = step_key(state.seed, state.step, state.micro_batch, counter);
  const float scale = 1.0f / (1.0f - d.p);
  // Blocks of random numbers lie on multiples of kPhiloxBlock of the global index.
  parallel_for(d.count, kElementGrain, [&](int64_t begin, int64_t end) {
    float uniforms[kPhiloxBlock];
    for (int64_t i = begin; i < end;) {
      const int64_t global = d.first + i, inside = global % kPhiloxBlock;
      const int64_t left = kPhiloxBlock - inside, count = end - i < left ? end - i : left;
      philox_block(counter, static_cast<uint64_t>(global - inside) / 4, key, uniforms);
      for_lanes(count, [&](int64_t j, auto lanes) {
        const vfloat u = load_n(uniforms + inside + j, lanes);
        vfloat value = u < d.p ? vfloat{} : load_n(x + i + j, lanes) * scale;
        if (addend) value += load_n(addend + i + j, lanes);
        store_n(y + i + j, value, lanes);
      });
      i += count;
    }
  });
}

}  // namespace

void dropout_forward(Stream&, DType dtype, const void* x, void* y, const StepState* step, DropoutDims dims) {
  visit_float(dtype, [&]<class T>() { drop<T>(static_cast<const T*>(x), nullptr, static_cast<T*>(y), *step, dims); });
}

void dropout_backward(Stream&, DType dtype, const void* dy, Dest dx, const StepState* step, DropoutDims dims) {
  if (!dx.wanted()) return;
  visit_float(dtype, [&]<class T>() {
    drop(static_cast<const T*>(dy), static_cast<const T*>(dx.addend), static_cast<T*>(dx.out), *step, dims);
  });
}

}  // namespace vtl::kernels::VTL_CPU
