// The CPU optimizers' loop over parameter spans.
#pragma once

#include "vtl/core/parallel.h"
#include "vtl/kernels/cpu/vec.h"
#include "vtl/kernels/parameter_span.h"

namespace vtl::kernels::VTL_CPU {

// Elements of the arena that one chunk of the parallel loop takes.
inline constexpr int64_t kParameterGrain = 1 << 16;

// body(span, begin, end) for the pieces of spans that lie in each chunk of the arena: begin and end are arena elements.
// No element is in two pieces.
template <class F>
VTL_INLINE void for_parameter_pieces(ParameterSpans parameters, F&& body) {
  parallel_for(parameters.arena_count, kParameterGrain, [&](int64_t begin, int64_t end) {
    // The first span that ends after `begin`.
    int64_t low = 0, high = parameters.count;
    while (low < high) {
      const int64_t middle = (low + high) / 2;
      const ParameterSpan& span = parameters.spans[middle];
      if (span.offset + span.count <= begin)
        low = middle + 1;
      else
        high = middle;
    }
    for (; low < parameters.count && parameters.spans[low].offset < end; ++low) {
      const ParameterSpan& span = parameters.spans[low];
      const int64_t last = span.offset + span.count;
      body(span, span.offset > begin ? span.offset : begin, last < end ? last : end);
    }
  });
}

}  // namespace vtl::kernels::VTL_CPU
