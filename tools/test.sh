#!/usr/bin/env bash
# Sets up, builds and runs everything that has to pass: the suite; the operations again on the kernels of lesser instruction
# sets; all of it under the address and undefined-behaviour sanitizers.
#   tools/test.sh            everything
#   tools/test.sh --quick    the suite only
set -euo pipefail
cd "$(dirname "$0")/.."

quick=no
[ "${1:-}" = --quick ] && quick=yes

tools/setup.sh
launcher=()
command -v ccache >/dev/null && launcher=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache -DCMAKE_CUDA_COMPILER_LAUNCHER=ccache)

step() { printf '\n== %s (%s s)\n' "$1" "$SECONDS"; }

step "build"
cmake -S . -B build -G Ninja -DCMAKE_BUILD_TYPE=Release "${launcher[@]}"
cmake --build build

step "suite"
ctest --test-dir build --output-on-failure --no-tests=error
if [ $quick = yes ]; then exit 0; fi

# What depends on the instruction set: the tests named after a room of the kernels or a layer.
operations=$(ls -d kernels/*/ layers/*.h | sed -E 's:/$::; s:.*/([a-z0-9_]+)(\.h)?$:*/\1*_test*:' | sort -u | paste -sd,)
for level in avx2 plain; do
  step "operations, kernels limited to $level"
  VTL_TEST_DEVICE=cpu VTL_TEST_CPU_LEVEL=$level build/tests/vtl_tests --source-file="$operations"
done

step "build with sanitizers"
cmake -S . -B build-sanitize -G Ninja -DCMAKE_BUILD_TYPE=Debug -DVTL_SANITIZE=address,undefined -DVTL_BUILD_BENCH=OFF \
  -DVTL_CUDA=OFF "${launcher[@]}"  # sanitizers see what the host runs; the kernels' text is there as simt
cmake --build build-sanitize

step "suite with sanitizers"
VTL_TEST_DEVICE=cpu ctest --test-dir build-sanitize --output-on-failure --no-tests=error -E consumer

step "done"
