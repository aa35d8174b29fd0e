#!/usr/bin/env bash
# From a fresh Debian or Ubuntu machine to a complete transfer-learning run: packages, build, demo.
set -euo pipefail
cd "$(dirname "$0")/.."

tools/setup.sh
cmake -S . -B build -G Ninja -DCMAKE_BUILD_TYPE=Release -DVTL_BUILD_TESTS=OFF -DVTL_BUILD_BENCH=OFF
cmake --build build
build/vtl-finetune demo "$@"
