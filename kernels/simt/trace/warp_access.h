// What one access of a warp costs, from the addresses of its lanes.
#pragma once

#include <cstdint>

namespace vtl::emulator {

// One instruction of one warp: lane i accesses `bytes` at address[i] where bit i of `lanes` is set.
struct WarpAccess {
  uint64_t address[32];
  uint32_t lanes = 0;
  uint32_t bytes = 0;
};

// Device memory moves in sectors of 32 bytes. At least: as many as the distinct bytes need.
struct Sectors {
  uint64_t moved, least;
};
Sectors count_sectors(const WarpAccess& access);

// Shared memory has 32 banks of 4 bytes. A wavefront serves each bank once; lanes that want the same word share it. 8
// bytes go in two halves of the warp, 16 bytes in four quarters. At least: one for each part that has a lane.
struct Wavefronts {
  uint64_t needed, least;
};
Wavefronts count_wavefronts(const WarpAccess& access);

}  // namespace vtl::emulator
