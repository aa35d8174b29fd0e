#include "vtl/core/cpu.h"

#include <atomic>

#include "vtl/core/error.h"

namespace vtl {
namespace {

std::atomic<int> limit{static_cast<int>(CpuLevel::avx512bf16)};

CpuLevel detect() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  if (avx512 && __builtin_cpu_supports("avx512bf16")) return CpuLevel::avx512bf16;
  if (avx512) return CpuLevel::avx512;
  if (avx2) return CpuLevel::avx2;
#endif
  return CpuLevel::plain;
}

}  // namespace

const char* name(CpuLevel level) {
  switch (level) {
    case CpuLevel::plain: return "plain";
    case CpuLevel::avx2: return "avx2";
    case CpuLevel::avx512: return "avx512";
    case CpuLevel::avx512bf16: return "avx512bf16";
  }
  return "?";
}

CpuLevel detected_cpu_level() {
  static const CpuLevel level = detect();
  return level;
}

CpuLevel cpu_level() {
  const int detected = static_cast<int>(detected_cpu_level()), allowed = limit.load(std::memory_order_relaxed);
  return static_cast<CpuLevel>(allowed < detected ? allowed : detected);
}

void limit_cpu_level(CpuLevel level) {
  VTL_CHECK(level <= detected_cpu_level(), "limit_cpu_level: this machine runs ", name(detected_cpu_level()), ", not ",
            name(level));
  limit.store(static_cast<int>(level), std::memory_order_relaxed);
}

}  // namespace vtl
