// Counts what decides the speed of a kernel on a GPU, and finds races. Sees every access of kernels that were compiled
// with the thread sanitizer's instrumentation (whose runtime is replaced by hooks.cpp), and the wrapped ones of all
// others.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "vtl/kernels/simt/observer.h"
#include "vtl/kernels/simt/settings.h"

namespace vtl::emulator {

// One place in a kernel's text.
struct SiteCounts {
  std::string place;
  AccessKind kind = AccessKind::read;
  bool shared = false;                            // memory
  uint32_t bytes = 0;                             // of one lane
  uint64_t instructions = 0;                      // of warps
  uint64_t sectors = 0, least_sectors = 0;        // device memory
  uint64_t wavefronts = 0, least_wavefronts = 0;  // shared memory
};

// All launches of one kernel.
struct KernelCounts {
  std::string kernel;
  uint64_t launches = 0;
  uint64_t bytes_read = 0, bytes_written = 0;  // distinct bytes of device memory in each launch: what DRAM has to move
  uint64_t sectors = 0, least_sectors = 0;
  uint64_t wavefronts = 0, least_wavefronts = 0;
  uint64_t tensor_instructions = 0;
  std::vector<SiteCounts> sites;

  double sector_efficiency() const {
    return sectors ? static_cast<double>(least_sectors) / static_cast<double>(sectors) : 1;
  }
  double wavefront_ratio() const {
    return least_wavefronts ? static_cast<double>(wavefronts) / static_cast<double>(least_wavefronts) : 1;
  }
};

// A table for people: the kernel in one line, each place that is not ideal in another.
std::string describe(const KernelCounts& counts);

// Races need a shadow of 32 bytes for each byte touched.
enum class Races { find, ignore };

// Observes all launches while it lives.
class Trace final : public Observer {
 public:
  explicit Trace(Races races = Races::find);
  ~Trace() override;

  // In the order of the first launches.
  std::vector<KernelCounts> kernels() const;
  // "kernel: kernels/x/x_cuda.cu:12 writes what kernels/x/x_cuda.cu:15 reads, without a barrier between them", each
  // once.
  std::vector<std::string> races() const;

  void launch_begins(const LaunchShape& shape) override;
  void launch_ends() override;
  void block_begins(const Block& block) override;
  void block_ends() override;
  void block_barrier() override;
  void warp_barrier(unsigned warp, uint32_t lanes) override;
  void access(unsigned warp, unsigned lane, const Access& access) override;
  void tensor_instruction() override;

 private:
  struct State;
  SettingsScope scope_;
  std::unique_ptr<State> state_;
};

}  // namespace vtl::emulator
