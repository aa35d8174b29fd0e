#!/usr/bin/env bash
# Installs what vtl is built with on Debian or Ubuntu. Needs root (or sudo) only when something is missing.
set -euo pipefail

packages=(g++ cmake ninja-build libdnnl-dev libturbojpeg0-dev libpng-dev libstb-dev libcli11-dev nlohmann-json3-dev doctest-dev
  libbenchmark-dev)

missing=()
for package in "${packages[@]}"; do
  dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
done
if [ ${#missing[@]} -eq 0 ]; then
  echo "setup: everything is there"
  exit 0
fi

echo "setup: installing ${missing[*]}"
as_root=()
if [ "$(id -u)" -ne 0 ]; then
  if ! command -v sudo >/dev/null; then
    echo "setup: not root and no sudo; install these yourself: ${missing[*]}" >&2
    exit 1
  fi
  as_root=(sudo)
fi
"${as_root[@]}" apt-get update -qq
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
echo "setup: done"
