// Which instruction set the CPU kernels use, chosen at run time.
#pragma once

namespace vtl {

// Every CPU kernel is compiled once for each level. `avx512` means F, BW, DQ, VL; `avx2` includes FMA and F16C.
enum class CpuLevel { plain, avx2, avx512, avx512bf16 };

// "plain", "avx2", "avx512", "avx512bf16"
const char* name(CpuLevel level);

// The best level that this machine runs and this build holds.
CpuLevel detected_cpu_level();

// The level in use: the detected one unless limited.
CpuLevel cpu_level();

// Uses nothing above `level`, in our kernels and in oneDNN; `plain` also turns oneDNN off. For the whole process, before
// the first kernel runs (oneDNN fixes its choice at first use). A level above the detected one is a bad_argument.
void limit_cpu_level(CpuLevel level);

}  // namespace vtl
