#!/usr/bin/env bash
# A CPU kernel is compiled once for each instruction set. A function that two copies share (inline, template) would be kept once
# by the linker, perhaps in its AVX-512 form: none may exist. Looks at the object files below BUILD.
#   shared_symbols.sh BUILD
set -euo pipefail
found=0 seen=0
while IFS= read -r object; do
  seen=$((seen + 1))
  shared=$(nm -C "$object" | awk '$2 ~ /^[WVu]$/ || ($1 ~ /^[WVu]$/ && NF == 2)' | grep -vE 'DW\.ref\.__gxx_personality_v0' || true)
  if [ -n "$shared" ]; then
    echo "${object#"$1"/} shares:"
    echo "$shared"
    found=1
  fi
done < <(find "$1" -path '*vtl_cpu_*' -name '*.o')
echo "$seen object files"
[ "$seen" -gt 0 ] && [ "$found" -eq 0 ]
