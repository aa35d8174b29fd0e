// Loops over fixed chunks: the partition depends on the problem, never on the number of threads, so sums keep their bits.
#pragma once

#include <cstdint>
#include <type_traits>

namespace vtl {

// How many threads compute loops use in the calling thread (OpenMP's pool, which oneDNN shares).
int compute_threads();
// 1 or more. Applies to loops started from the calling thread.
void set_compute_threads(int count);
// Inside a loop: the number of the calling thread among those that run it, below the compute_threads() of the thread that
// started the loop. For choosing between pieces of scratch; results never depend on it.
int compute_thread();

namespace detail {
void parallel_chunks(int64_t chunks, void (*body)(void* context, int64_t chunk), void* context);
}

// Calls body(chunk) for chunk = 0 .. chunks-1, each once, on any thread, in any order. Exceptions must not leave body.
// Nested calls run in the calling thread.
template <class Body>
inline __attribute__((always_inline)) void parallel_chunks(int64_t chunks, Body&& body) {
  using Fn = std::remove_reference_t<Body>;
  detail::parallel_chunks(
      chunks, [](void* context, int64_t chunk) { (*static_cast<Fn*>(context))(chunk); },
      const_cast<void*>(static_cast<const void*>(&body)));
}

// Calls body(begin, end) over [0, count) in pieces of `grain` (the last one shorter).
template <class Body>
inline __attribute__((always_inline)) void parallel_for(int64_t count, int64_t grain, Body&& body) {
  if (count <= 0) return;
  if (count <= grain) {
    body(int64_t{0}, count);
    return;
  }
  parallel_chunks((count + grain - 1) / grain, [&](int64_t chunk) {
    const int64_t begin = chunk * grain, end = begin + grain;
    body(begin, end < count ? end : count);
  });
}

}  // namespace vtl
