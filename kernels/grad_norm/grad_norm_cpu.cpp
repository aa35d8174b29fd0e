#include "vtl/kernels/grad_norm/grad_norm.h"

#include "vtl/core/parallel.h"
#include "vtl/kernels/cpu/vec.h"

namespace vtl::kernels::VTL_CPU {
namespace {

constexpr int64_t kGrain = 1 << 16;

typedef double vdouble __attribute__((vector_size(kLanes * 8)));

// The sum of squares in f64, where no f32 overflows. Sums of squares are never negative: one NaN or infinity in them
// stays.
VTL_INLINE double sum_of_squares(const float* from, int64_t count) {
  vdouble a{}, b{};
  int64_t i = 0;
  for (; i + 2 * kLanes <= count; i += 2 * kLanes) {
    const vdouble x = __builtin_convertvector(load(from + i), vdouble);
    const vdouble y = __builtin_convertvector(load(from + i + kLanes), vdouble);
    a += x * x;
    b += y * y;
  }
  a += b;
  double total = 0;
  for (int lane = 0; lane < kLanes; ++lane) total += a[lane];
  for (; i < count; ++i) total += static_cast<double>(from[i]) * static_cast<double>(from[i]);
  return total;
}

}  // namespace

void grad_norm(Stream& stream, const float* gradient, int64_t count, float max_norm, StepState* state) {
  const int64_t chunks = (count + kGrain - 1) / kGrain;
  const Scratch scratch = stream.scratch(static_cast<size_t>(chunks) * 8);
  auto* const parts = static_cast<double*>(scratch.data());
  parallel_for(count, kGrain, [&](int64_t begin, int64_t end) {
    parts[begin / kGrain] = sum_of_squares(gradient + begin, end - begin);
  });
  double total = 0;
  for (int64_t chunk = 0; chunk < chunks; ++chunk) total += parts[chunk];

  const float norm = static_cast<float>(__builtin_sqrt(total));
  state->grad_norm = norm;
  state->skip = __builtin_isfinite(norm) ? 0 : 1;
  const float factor = max_norm / (norm + 1e-6f);
  state->clip_factor = max_norm > 0 && factor < 1.0f ? factor : 1.0f;
}

void step_advance(Stream&, StepState* state) {
  if (!state->skip) ++state->step;
  state->micro_batch = 0;
}

}  // namespace vtl::kernels::VTL_CPU
