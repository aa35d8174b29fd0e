// How the emulator runs, for the whole process. Tests change it in a scope.
#pragma once

#include <cstddef>
#include <cstdint>

namespace vtl::emulator {

class Observer;

// Which thread of a block goes on when another one waits. A correct kernel gives the same bits under both.
enum class Schedule {
  lock_step,  // warps take turns after each warp operation, lower lanes first
  greedy      // a warp goes on as far as it can, later warps and higher lanes first
};

// The most shared memory that a block can have.
inline constexpr size_t kSharedSm86 = size_t{99} << 10, kSharedSm80 = size_t{163} << 10,
                        kSharedSm90 = size_t{227} << 10;

struct Settings {
  Schedule schedule = Schedule::lock_step;
  uint64_t seed = 0;  // of the order of blocks (0: as numbered) and, in lazy mode, of queues
  size_t shared_limit = kSharedSm86;
  // A thread that touches memory so often is taken to wait for another block, which a GPU may never run.
  uint64_t most_accesses = uint64_t{1} << 28;
  bool lazy = false;             // queued work runs only when somebody has to wait for it
  Observer* observer = nullptr;  // sees every launch, which then runs on one OS thread
};

Settings& settings();

// Puts everything back at its end.
class SettingsScope {
 public:
  SettingsScope() : before_(settings()) {}
  explicit SettingsScope(const Settings& now) : SettingsScope() { settings() = now; }
  ~SettingsScope() { settings() = before_; }
  SettingsScope(const SettingsScope&) = delete;
  SettingsScope& operator=(const SettingsScope&) = delete;

 private:
  Settings before_;
};

}  // namespace vtl::emulator
