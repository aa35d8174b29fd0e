#!/bin/sh
# Checks and measures this tree on a machine with a GPU: see tools/gpu_check.py.
#   tools/gpu_check.sh OUT [--second] [--kit build-gpu/kit] [--device cuda|simt]
set -eu
cd "$(dirname "$0")/.."
exec python3 tools/gpu_check.py "$@"
