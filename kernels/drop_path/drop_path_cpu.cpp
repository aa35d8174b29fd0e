#include "vtl/kernels/cpu/columns.h"
#include "vtl/kernels/drop.h"
#include "vtl/kernels/drop_path/drop_path.h"

// This file has a copy for __AVX512BF16__, where vec.h narrows to bf16 in one instruction.

namespace vtl::kernels::VTL_CPU {
namespace {

// y[b,i] = addend[b,i] + (kept ? x[b,i] / (1 - p) : 0)
template <class T>
void drop(const T* x, const T* addend, T* y, const StepState& state, DropPathDims d) {
  const uint64_t counter = random_counter(RandomStream::drop_path, d.layer);
  const uint64_t key = step_key(state.seed, state.step, state.micro_batch, counter);
  const float scale = 1.0f / (1.0f - d.p);
  const int64_t pieces = (d.count + kElementGrain - 1) / kElementGrain;
  parallel_chunks(d.batch * pieces, [&](int64_t task) {
    const int64_t b = task / pieces, begin = task % pieces * kElementGrain;
    const int64_t count = d.count - begin < kElementGrain ? d.count - begin : kElementGrain;
    const uint64_t sample = static_cast<uint64_t>(d.first + b);
    const bool keep = uniform(philox(counter, sample / 4, key).v[sample % 4]) >= d.p;
    const T *from = x + b * d.count + begin, *plus = addend ? addend + b * d.count + begin : nullptr;
    T* to = y + b * d.count + begin;
    if (!keep && plus == to) return;
    for_lanes(count, [&](int64_t i, auto lanes) {
      vfloat value = keep ? load_n(from + i, lanes) * scale : vfloat{};
      if (plus) value += load_n(plus + i, lanes);
      store_n(to + i, value, lanes);
    });
  });
}

}  // namespace

void drop_path_forward(Stream&, DType dtype, const void* x, const void* residual, void* y, const StepState* step,
                       DropPathDims dims) {
  visit_float(dtype, [&]<class T>() {
    drop(static_cast<const T*>(x), static_cast<const T*>(residual), static_cast<T*>(y), *step, dims);
  });
}

void drop_path_backward(Stream&, DType dtype, const void* dy, Dest dx, const StepState* step, DropPathDims dims) {
  if (!dx.wanted()) return;
  visit_float(dtype, [&]<class T>() {
    drop(static_cast<const T*>(dy), static_cast<const T*>(dx.addend), static_cast<T*>(dx.out), *step, dims);
  });
}

}  // namespace vtl::kernels::VTL_CPU
