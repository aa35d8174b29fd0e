// Grids of blocks: the emulator's <<<...>>>.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>

// As CUDA has it.
struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

namespace vtl::emulator {

struct LaunchShape {
  const char* kernel;  // its name, for errors and tables
  dim3 grid, block;
  size_t shared_bytes = 0;  // dynamic
};

inline int64_t volume(const dim3& d) { return static_cast<int64_t>(d.x) * d.y * d.z; }
std::string to_string(const dim3& d);

// Throws when no GPU, or none with this much shared memory, would take the launch.
void check_shape(const LaunchShape& shape);

// Runs `body` once for each thread of each block, blocks spread over the OS threads in an order that the seed decides.
// The first thing that a thread does wrong ends the launch: an Error (internal) names kernel, block, thread and place.
void run_grid(const LaunchShape& shape, const std::function<void()>& body);

}  // namespace vtl::emulator
