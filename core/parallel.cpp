#include "vtl/core/parallel.h"

#include <omp.h>

#include "vtl/core/error.h"

namespace vtl {

int compute_threads() { return omp_get_max_threads(); }

void set_compute_threads(int count) {
  VTL_CHECK(count >= 1, "set_compute_threads: ", count, " threads, expected 1 or more");
  omp_set_num_threads(count);
}

int compute_thread() { return omp_get_thread_num(); }

void detail::parallel_chunks(int64_t chunks, void (*body)(void*, int64_t), void* context) {
  if (chunks <= 1 || omp_get_max_threads() == 1 || omp_in_parallel()) {
    for (int64_t chunk = 0; chunk < chunks; ++chunk) body(context, chunk);
    return;
  }
  // A few chunks for each thread are handed out as threads come, because cores of a shared machine differ in speed.
#pragma omp parallel for schedule(dynamic, 1)
  for (int64_t chunk = 0; chunk < chunks; ++chunk) body(context, chunk);
}

}  // namespace vtl
