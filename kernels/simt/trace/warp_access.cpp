#include "vtl/kernels/simt/trace/warp_access.h"

#include <algorithm>
#include <bit>

namespace vtl::emulator {
namespace {

constexpr uint64_t kSector = 32, kWord = 4, kBanks = 32;
constexpr int kMostUnits = 32 * 5;  // 16 bytes touch up to five words, when they are not aligned

// The distinct units (sectors, words) that the lanes in `lanes` touch; returns how many.
int distinct_units(const WarpAccess& access, uint32_t lanes, uint64_t unit, uint64_t* units) {
  int count = 0;
  for (; lanes; lanes &= lanes - 1) {
    const uint64_t begin = access.address[std::countr_zero(lanes)];
    for (uint64_t u = begin / unit; u <= (begin + access.bytes - 1) / unit; ++u) units[count++] = u;
  }
  std::sort(units, units + count);
  return static_cast<int>(std::unique(units, units + count) - units);
}

uint64_t distinct_bytes(const WarpAccess& access) {
  uint64_t addresses[32];
  int count = 0;
  for (uint32_t lanes = access.lanes; lanes; lanes &= lanes - 1)
    addresses[count++] = access.address[std::countr_zero(lanes)];
  std::sort(addresses, addresses + count);
  return static_cast<uint64_t>(std::unique(addresses, addresses + count) - addresses) * access.bytes;
}

}  // namespace

Sectors count_sectors(const WarpAccess& access) {
  uint64_t units[kMostUnits];
  return {static_cast<uint64_t>(distinct_units(access, access.lanes, kSector, units)),
          (distinct_bytes(access) + kSector - 1) / kSector};
}

Wavefronts count_wavefronts(const WarpAccess& access) {
  const int together = access.bytes >= 16 ? 8 : access.bytes == 8 ? 16 : 32;
  Wavefronts total{0, 0};
  for (int first = 0; first < 32; first += together) {
    const uint32_t part = access.lanes & (~0u >> (32 - together)) << first;
    if (!part) continue;
    uint64_t words[kMostUnits];
    const int count = distinct_units(access, part, kWord, words);
    uint64_t in_bank[kBanks] = {}, most = 0;
    for (int i = 0; i < count; ++i) most = std::max(most, ++in_bank[words[i] % kBanks]);
    total.needed += most;
    total.least += 1;
  }
  return total;
}

}  // namespace vtl::emulator
