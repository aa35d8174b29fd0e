#!/bin/sh
# Runs vtl and PyTorch side by side and writes the table below bench/results.
#
#   bench/peers/run.sh [compare.py's flags]         e.g. --only "resnet18 train" --rounds 2
#
# VTL_BUILD    the build folder                     (default: build)
# VTL_PYTHON   an interpreter with requirements.txt (default: bench/peers/venv, made on first use)
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
bench=${VTL_BUILD:-$root/build}/bench/vtl_step_bench
python=${VTL_PYTHON:-$here/venv/bin/python}

if [ ! -x "$bench" ]; then
  echo "run.sh: $bench is not there; build the target vtl_step_bench or set VTL_BUILD" >&2
  exit 2
fi
if [ ! -x "$python" ]; then
  python3 -m venv "$here/venv"
  python=$here/venv/bin/python
  "$python" -m pip install --quiet -r "$here/requirements.txt"
fi
exec "$python" "$here/compare.py" --vtl "$bench" --python "$python" "$@"
