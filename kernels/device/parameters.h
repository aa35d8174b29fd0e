// The optimizers' loop over the spans of flat parameter arenas: all parameters in one launch. What an optimizer does is
// a struct, its body:
//
//   bool aligned() const;                     on the host: whether its arenas are aligned to kParameterWidth values
//   step(state)                               what a warp computes once for the step
//   span(step, state, span)                   what it computes once for a span
//   at<N>(i, span) -> Floats<N>               updates the N elements from element i of the arenas; returns the masters
#pragma once

#include "vtl/core/step_state.h"
#include "vtl/kernels/device/floats.h"
#include "vtl/kernels/device/launch.h"
#include "vtl/kernels/device/warp.h"
#include "vtl/kernels/parameter_span.h"

namespace vtl::kernels::VTL_GPU {

inline constexpr int kParameterThreads = 256;
inline constexpr int kParameterBlocks = 4;  // on a multiprocessor at once: 64 registers for a thread
inline constexpr int kParameterWidth = kVecLanes<float>;
// Of the arena, for each warp: long enough to pay for the search for its spans, short enough that the 25 million
// parameters of a ResNet-50 keep all multiprocessors of an H200 busy for three rounds.
inline constexpr int64_t kParameterChunk = 1024;

// The first span that ends behind element `begin`; the count when there is none. The 32 lanes of a warp look at 32
// places at a time, so that a few hundred spans take two reads, one after the other.
VTL_DEVICE int64_t first_span(const ParameterSpan* spans, int64_t count, int64_t begin) {
  int64_t low = 0, high = count;
  while (low < high) {
    const int64_t stride = (high - low + kWarpLanes - 1) / kWarpLanes, at = low + lane_index() * stride;
    const bool ends_before = at < high && load(&spans[at].offset) + load(&spans[at].count) <= begin;
    const int64_t passed = count_bits(ballot(ends_before));
    if (passed == 0) return low;
    high = min(high, low + passed * stride);
    low += (passed - 1) * stride + 1;
  }
  return low;
}

// One warp takes kParameterChunk elements of the arenas: a lane 4 neighbouring ones at a time, or one where a span
// begins or ends within four.
template <class Body>
__global__ void __launch_bounds__(kParameterThreads, kParameterBlocks)
    each_parameter(Body body, ParameterSpans parameters, const StepState* state, bool vectors) {
  const int64_t chunk = static_cast<int64_t>(blockIdx.x) * (kParameterThreads / kWarpLanes) + warp_index();
  const int64_t begin = chunk * kParameterChunk, end = min(begin + kParameterChunk, parameters.arena_count);
  if (begin >= end || load(&state->skip)) return;
  const auto step = body.step(state);
  for (int64_t s = first_span(parameters.spans, parameters.count, begin); s < parameters.count; ++s) {
    const ParameterSpan span = load(parameters.spans + s);
    if (span.offset >= end) return;
    const auto of_span = body.span(step, state, span);
    const int64_t first = max(begin, span.offset), last = min(end, span.offset + span.count);
    const bool whole_vectors = vectors && span.offset % kParameterWidth == 0 &&
                               reinterpret_cast<uintptr_t>(span.working) % (kParameterWidth * sizeof(bf16)) == 0;
    const int64_t middle = whole_vectors ? first + (last - first) / kParameterWidth * kParameterWidth : first;
    for (int64_t i = first + lane_index() * kParameterWidth; i < middle; i += kWarpLanes * kParameterWidth) {
      const auto value = body.template at<kParameterWidth>(i, of_span);
      if (span.working) store_floats(span.working + (i - span.offset), value);
    }
    for (int64_t i = middle + lane_index(); i < last; i += kWarpLanes) {
      const auto value = body.template at<1>(i, of_span);
      if (span.working) store_floats(span.working + (i - span.offset), value);
    }
  }
}

// `name` is that of the kernel, for errors and counts: a literal.
template <class Body>
void for_each_parameter(Stream& stream, const char* name, const Body& body, ParameterSpans parameters,
                        const StepState* state) {
  if (parameters.count == 0 || parameters.arena_count == 0) return;
  const unsigned blocks = blocks_for(parameters.arena_count, kParameterChunk * (kParameterThreads / kWarpLanes));
  launch(stream, {name, blocks, kParameterThreads}, each_parameter<Body>, body, parameters, state, body.aligned());
}

}  // namespace vtl::kernels::VTL_GPU
