// The test program. VTL_TEST_CPU_LEVEL=plain|avx2|avx512 limits the instruction set for a whole run, VTL_TEST_DEVICE=cpu|simt|cuda
// the devices that operations are examined on.
#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

#include <cstdlib>
#include <cstring>
#include <iostream>

#include "vtl/core/cpu.h"

int main(int argc, char** argv) {
  if (const char* wanted = std::getenv("VTL_TEST_CPU_LEVEL")) {
    using enum vtl::CpuLevel;
    for (const auto level : {plain, avx2, avx512, avx512bf16})
      if (!std::strcmp(wanted, vtl::name(level)) && level <= vtl::detected_cpu_level()) vtl::limit_cpu_level(level);
    if (std::strcmp(wanted, vtl::name(vtl::cpu_level())) != 0) {
      std::cout << "skipped: this machine does not run " << wanted << '\n';
      return 0;
    }
  }
  std::cout << "cpu level " << vtl::name(vtl::cpu_level()) << '\n';
  return doctest::Context(argc, argv).run();
}
