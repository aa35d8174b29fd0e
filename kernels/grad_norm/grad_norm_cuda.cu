#include "vtl/kernels/device/block.h"
#include "vtl/kernels/device/floats.h"
#include "vtl/kernels/device/launch.h"
#include "vtl/kernels/grad_norm/grad_norm.h"

namespace vtl::kernels::VTL_GPU {
namespace {

constexpr int kThreads = 256, kWidth = kVecLanes<float>;
constexpr int kLoads = 8;  // under way in a thread: 128 bytes
// Of one partial sum, whatever the device: a constant, so that the sum has the same bits everywhere.
constexpr int64_t kPart = int64_t{kThreads} * kWidth * kLoads;
constexpr int kFinishThreads = 1024;
constexpr float kLargest = 3.402823466e38f;

// In f64, where no square of an f32 overflows and none that matters vanishes; sums of squares are never negative, so
// that one NaN or infinity among them stays.
template <int N>
VTL_DEVICE double sum_of_squares(const Floats<N>& values) {
  double sum = 0;
  VTL_UNROLL
  for (int k = 0; k < N; ++k) sum += static_cast<double>(values[k]) * static_cast<double>(values[k]);
  return sum;
}

// parts[b] = the sum over kPart elements of gradient^2. One block for each part; a thread has 4 N elements of every
// 1024 N. N is 4 where the gradient is aligned to that, else 1.
template <int N>
__global__ void __launch_bounds__(kThreads, 4) sum_squares(const float* gradient, int64_t count, double* parts) {
  const int64_t begin = static_cast<int64_t>(blockIdx.x) * kPart, end = min(begin + kPart, count);
  double sum = 0;
  if (begin + kPart <= count) {
    constexpr int kAtOnce = kThreads * N, kSteps = kPart / kAtOnce;
    static_assert(kSteps % kLoads == 0);
    const float* from = gradient + begin + threadIdx.x * N;
    for (int step = 0; step < kSteps; step += kLoads) {
      Floats<N> values[kLoads];
      VTL_UNROLL
      for (int k = 0; k < kLoads; ++k) values[k] = load_floats<N>(from + (step + k) * kAtOnce);
      VTL_UNROLL
      for (int k = 0; k < kLoads; ++k) sum += sum_of_squares(values[k]);
    }
  } else {
    for (int64_t i = begin + threadIdx.x; i < end; i += kThreads) sum += sum_of_squares(load_floats<1>(gradient + i));
  }
  sum = block_sum<kThreads>(sum);
  if (threadIdx.x == 0) store(parts + blockIdx.x, sum);
}

// One block: what follows for the step from the sum of all parts.
__global__ void __launch_bounds__(kFinishThreads)
    finish_norm(const double* parts, int64_t count, float max_norm, StepState* state) {
  double sum = 0;
  for (int64_t i = threadIdx.x; i < count; i += kFinishThreads) sum += load(parts + i);
  sum = block_sum<kFinishThreads>(sum);
  if (threadIdx.x != 0) return;
  const float norm = static_cast<float>(sqrt(sum)), factor = max_norm / (norm + 1e-6f);
  store(&state->grad_norm, norm);
  store(&state->skip, norm <= kLargest ? 0 : 1);  // NaN, too, is not
  store(&state->clip_factor, max_norm > 0 && factor < 1.0f ? factor : 1.0f);
}

__global__ void __launch_bounds__(32) advance(StepState* state) {
  if (threadIdx.x != 0) return;
  if (!load(&state->skip)) store(&state->step, load(&state->step) + 1);
  store(&state->micro_batch, int64_t{0});
}

}  // namespace

void grad_norm(Stream& stream, const float* gradient, int64_t count, float max_norm, StepState* state) {
  const int64_t parts = (count + kPart - 1) / kPart;
  const Scratch scratch = stream.scratch(static_cast<size_t>(parts) * sizeof(double));
  auto* const sums = static_cast<double*>(scratch.data());
  if (parts > 0) {
    const unsigned blocks = blocks_for(count, kPart);
    if (aligned_to<kWidth>(gradient))
      launch(stream, {"grad_norm", blocks, kThreads}, sum_squares<kWidth>, gradient, count, sums);
    else
      launch(stream, {"grad_norm", blocks, kThreads}, sum_squares<1>, gradient, count, sums);
  }
  launch(stream, {"grad_norm finish", 1, kFinishThreads}, finish_norm, sums, parts, max_norm, state);
}

void step_advance(Stream& stream, StepState* state) { launch(stream, {"step_advance", 1, 32}, advance, state); }

}  // namespace vtl::kernels::VTL_GPU
