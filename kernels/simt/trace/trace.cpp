#include "vtl/kernels/simt/trace/trace.h"

#include <algorithm>
#include <map>
#include <set>
#include <tuple>
#include <unordered_map>

#include "vtl/core/error.h"
#include "vtl/kernels/simt/block.h"
#include "vtl/kernels/simt/trace/byte_set.h"
#include "vtl/kernels/simt/trace/race_shadow.h"
#include "vtl/kernels/simt/trace/symbols.h"
#include "vtl/kernels/simt/trace/warp_access.h"

namespace vtl::emulator {
namespace {

// What tells one kind of access from another: a place in the text or the address of an instruction, and what it does.
struct SiteKey {
  const void* where;
  uint32_t line, column, bytes;
  AccessKind kind;
  bool shared;

  friend auto operator<=>(const SiteKey&, const SiteKey&) = default;
  friend bool operator==(const SiteKey&, const SiteKey&) = default;
};

struct SiteHash {
  size_t operator()(const SiteKey& key) const {
    return (reinterpret_cast<size_t>(key.where) * 31 + key.line * 1031 + key.column * 131 + key.bytes) *
               0x9e3779b97f4a7c15ull >>
           20;
  }
};

// The accesses of one warp at one site. The k-th of each lane belong to one instruction.
struct SiteLog {
  uint32_t done[32] = {};
  std::vector<WarpAccess> accesses;
};

std::string place_of_key(const SiteKey& key) {
  return key.line ? concat(static_cast<const char*>(key.where), ":", key.line) : place_of(key.where);
}

}  // namespace

struct Trace::State {
  Races find_races;
  // Sites of the kernel that runs, by number.
  std::unordered_map<SiteKey, uint32_t, SiteHash> numbers;
  std::vector<SiteKey> sites;
  std::vector<SiteLog> logs[32];  // [warp][site]

  std::vector<std::string> order;  // kernels
  std::map<std::string, KernelCounts> kernels;
  KernelCounts* kernel = nullptr;
  std::map<std::tuple<KernelCounts*, SiteKey>, SiteCounts> counts;
  ByteSet read, written;
  const Block* block = nullptr;

  RaceShadow device_shadow, shared_shadow;
  std::set<std::tuple<std::string, SiteKey, SiteKey, bool, bool>> races;

  uint32_t number_of(const Access& access, bool shared) {
    SiteKey key{access.instruction, 0, 0, access.bytes, access.kind, shared};
    if (!key.where) {
      key.where = access.site.file_name();
      key.line = access.site.line();
      key.column = access.site.column();
    }
    const auto [found, is_new] = numbers.try_emplace(key, static_cast<uint32_t>(sites.size()));
    if (is_new) sites.push_back(key);
    return found->second;
  }

  void log(unsigned warp, unsigned lane, uint32_t site, const Access& access) {
    auto& of_warp = logs[warp];
    if (of_warp.size() <= site) of_warp.resize(sites.size());
    SiteLog& log = of_warp[site];
    const uint32_t k = log.done[lane]++;
    if (log.accesses.size() <= k) log.accesses.resize(k + 1);
    WarpAccess& together = log.accesses[k];
    together.address[lane] = reinterpret_cast<uint64_t>(access.address);
    together.lanes |= 1u << lane;
    together.bytes = access.bytes;
  }

  void find_race(RaceShadow& shadow, unsigned thread, uint32_t site, const Access& access) {
    for (uint32_t i = 0; i < access.bytes; ++i) {
      RaceShadow::Race race;
      const AccessKind kind = access.kind == AccessKind::landing ? AccessKind::write : access.kind;
      if (shadow.touch(reinterpret_cast<uint64_t>(access.address) + i, thread, kind, site, race))
        races.insert({kernel->kernel, sites[race.earlier], sites[race.later], race.earlier_writes, race.later_writes});
    }
  }

  // Turns the block's accesses into counts.
  void flush() {
    for (auto& of_warp : logs) {
      for (size_t s = 0; s < of_warp.size(); ++s) {
        if (of_warp[s].accesses.empty()) continue;
        SiteCounts& site = counts[{kernel, sites[s]}];
        for (const WarpAccess& access : of_warp[s].accesses) {
          ++site.instructions;
          if (sites[s].shared) {
            const Wavefronts w = count_wavefronts(access);
            site.wavefronts += w.needed;
            site.least_wavefronts += w.least;
          } else {
            const Sectors sectors = count_sectors(access);
            site.sectors += sectors.moved;
            site.least_sectors += sectors.least;
          }
        }
        of_warp[s] = {};
      }
    }
  }
};

Trace::Trace(Races races) : state_(std::make_unique<State>()) {
  state_->find_races = races;
  settings().observer = this;
}
Trace::~Trace() = default;

void Trace::launch_begins(const LaunchShape& shape) {
  State& s = *state_;
  const auto [found, is_new] = s.kernels.try_emplace(shape.kernel);
  s.kernel = &found->second;
  if (is_new) {
    s.kernel->kernel = shape.kernel;
    s.order.push_back(shape.kernel);
  }
  ++s.kernel->launches;
  s.device_shadow.launch_begins();
}

void Trace::launch_ends() {
  State& s = *state_;
  s.kernel->bytes_read += s.read.size();
  s.kernel->bytes_written += s.written.size();
  s.read.clear();
  s.written.clear();
}

void Trace::block_begins(const Block& block) {
  state_->block = &block;
  state_->device_shadow.block_begins();
  // Shared memory is new to each block: what others did in the same place is as far away as another launch.
  state_->shared_shadow.launch_begins();
  state_->shared_shadow.block_begins();
}
void Trace::block_ends() { state_->flush(); }
void Trace::block_barrier() {
  state_->device_shadow.block_barrier();
  state_->shared_shadow.block_barrier();
}
void Trace::warp_barrier(unsigned warp, uint32_t lanes) {
  state_->device_shadow.warp_barrier(warp, lanes);
  state_->shared_shadow.warp_barrier(warp, lanes);
}
void Trace::tensor_instruction() { ++state_->kernel->tensor_instructions; }

void Trace::access(unsigned warp, unsigned lane, const Access& access) {
  State& s = *state_;
  if (s.block->on_a_stack(access.address)) return;
  const bool shared = s.block->shared().contains(access.address);
  const uint32_t site = s.number_of(access, shared);
  if (s.find_races == Races::find)
    s.find_race(shared ? s.shared_shadow : s.device_shadow, warp * kWarpLanes + lane, site, access);
  if (access.kind == AccessKind::landing) return;  // counted when it was issued
  s.log(warp, lane, site, access);
  if (shared) return;
  if (access.kind != AccessKind::write) s.read.insert(reinterpret_cast<uint64_t>(access.address), access.bytes);
  if (access.kind != AccessKind::read) s.written.insert(reinterpret_cast<uint64_t>(access.address), access.bytes);
}

std::vector<KernelCounts> Trace::kernels() const {
  std::vector<KernelCounts> all;
  for (const auto& name : state_->order) {
    const KernelCounts& known = state_->kernels.at(name);
    KernelCounts kernel = known;
    // What unrolling and templates have multiplied is one place again.
    std::map<std::tuple<std::string, AccessKind, bool, uint32_t>, SiteCounts> places;
    for (const auto& [key, counts] : state_->counts) {
      const auto& [of_kernel, site] = key;
      if (of_kernel != &known) continue;
      const std::string place = shortened_place(place_of_key(site));
      SiteCounts& sum = places[{place, site.kind, site.shared, site.bytes}];
      sum.place = place;
      sum.kind = site.kind;
      sum.shared = site.shared;
      sum.bytes = site.bytes;
      sum.instructions += counts.instructions;
      sum.sectors += counts.sectors;
      sum.least_sectors += counts.least_sectors;
      sum.wavefronts += counts.wavefronts;
      sum.least_wavefronts += counts.least_wavefronts;
    }
    for (const auto& [key, site] : places) {
      kernel.sectors += site.sectors;
      kernel.least_sectors += site.least_sectors;
      kernel.wavefronts += site.wavefronts;
      kernel.least_wavefronts += site.least_wavefronts;
      kernel.sites.push_back(site);
    }
    all.push_back(std::move(kernel));
  }
  return all;
}

std::vector<std::string> Trace::races() const {
  std::set<std::string> all;
  for (const auto& [kernel, earlier, later, earlier_writes, later_writes] : state_->races)
    all.insert(concat(kernel, ": ", shortened_place(place_of_key(earlier)), earlier_writes ? " writes" : " reads",
                      " what ", shortened_place(place_of_key(later)), later_writes ? " writes" : " reads",
                      ", and nothing orders them"));
  return {all.begin(), all.end()};
}

std::string describe(const KernelCounts& k) {
  std::string text =
      concat(k.kernel, ": ", k.launches, " launches, ", k.bytes_read, " bytes read, ", k.bytes_written,
             " written; sector efficiency ", k.sector_efficiency(), " (", k.sectors, " sectors); wavefronts ",
             k.wavefront_ratio(), " of the ideal (", k.wavefronts, "); ", k.tensor_instructions, " mma\n");
  for (const auto& s : k.sites)
    if (s.sectors > s.least_sectors || s.wavefronts > s.least_wavefronts)
      text +=
          concat("  ", s.place, s.kind == AccessKind::read ? " reads " : " writes ", s.bytes, " bytes a lane, ",
                 s.instructions, " times: ", s.shared ? s.wavefronts : s.sectors, s.shared ? " wavefronts" : " sectors",
                 ", ideal ", s.shared ? s.least_wavefronts : s.least_sectors, "\n");
  return text;
}

}  // namespace vtl::emulator
