#!/usr/bin/env bash
# Builds what a machine with a GPU needs to check and measure this tree, where nothing can be built or fetched: the tests, the
# benches and vtl-finetune for sm_90, static but for libc, libm and the driver, with small photographs and real weights.
#   tools/gpu_kit.sh [KIT]           KIT: the folder that is made (default: build-gpu/kit)
#   VTL_PHOTOS, VTL_WEIGHTS          a folder of class folders, and a model directory (default: those of ../shared)
# On the GPU machine, in this tree with KIT carried along: tools/gpu_check.sh OUT --kit KIT
set -euo pipefail
cd "$(dirname "$0")/.."

build=build-gpu
kit=${1:-$build/kit}
photos=${VTL_PHOTOS:-../shared/data/hymenoptera}
weights=${VTL_WEIGHTS:-../shared/weights/tf_efficientnet_lite0}

tools/setup.sh
library() { find /usr/lib /usr/lib64 -name "$1" -print -quit; }

# A folder that holds only archives comes first where the linker looks for what the compiler adds by itself.
mkdir -p $build/archives "$kit"
ln -sf "$(g++ -print-file-name=libgomp.a)" $build/archives/libgomp.a

cmake -S . -B $build -G Ninja -DCMAKE_BUILD_TYPE=Release -DVTL_CUDA=ON -DVTL_ONEDNN=OFF -DVTL_TEST_SOURCE_DIR=. \
  -DCMAKE_CUDA_ARCHITECTURES=90 -DCMAKE_CUDA_FLAGS=-lineinfo -DCMAKE_BUILD_RPATH='$ORIGIN' \
  -DCMAKE_EXE_LINKER_FLAGS="-static-libgcc -static-libstdc++ -L$PWD/$build/archives" \
  -DVTL_TURBOJPEG_LIBRARY="$(library libturbojpeg.a)" -DPNG_PNG_INCLUDE_DIR=/usr/include \
  -DPNG_LIBRARY_RELEASE="$(library libpng16.a)" -DZLIB_LIBRARY_RELEASE="$(library libz.a)"
programs=(vtl_tests vtl_bench vtl_step_bench vtl-finetune)
cmake --build $build --target "${programs[@]}"
for program in "${programs[@]}"; do
  found=$(find $build -type f -name "$program" -perm -u+x ! -path "$kit/*" -print -quit)
  strip -o "$kit/$program" "$found"
done
cp -L "$(library 'libbenchmark.so.1')" "$kit/"  # Debian has no archive of it

# Half the size in each direction: enough for 224 pixels, a quarter of the bytes.
if [ -d "$photos" ] && [ ! -d "$kit/photos" ]; then
  if command -v djpeg >/dev/null && command -v cjpeg >/dev/null; then
    (cd "$photos" && find . -name '*.jpg') | while read -r picture; do
      mkdir -p "$kit/photos/$(dirname "$picture")"
      djpeg -scale 1/2 "$photos/$picture" | cjpeg -quality 85 >"$kit/photos/$picture"
    done
  else
    echo "gpu_kit: no djpeg and cjpeg (libjpeg-turbo-progs): the kit has no photographs, and the fine-tune is left out" >&2
  fi
fi
if [ -d "$weights" ]; then cp -r "$weights" "$kit/weights"; fi

size=$(du -sm "$kit" | cut -f1)
echo "gpu_kit: $kit, $size MiB"
if [ "$size" -gt 40 ]; then
  echo "gpu_kit: more than 40 MiB" >&2
  exit 1
fi
