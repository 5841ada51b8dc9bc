#!/usr/bin/env bash
# Installs what compiles and inspects CUDA kernels under target/cuda, from PyPI: nvcc, its headers and
# the disassemblers (about 110 MB to download, 280 MB on disk). Needs no root, no GPU, no driver.
# Does nothing if all of it is there. A CUDA toolkit elsewhere is used instead with NVCC=/path/to/nvcc.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/requirements.sh

# Pinned, each of them: the wheels do not pin one another, and an nvcc with another version's nvvm or
# ptxas refuses its own output. 13.0 is the newest whose PTX a driver 580 takes.
WHEELS=(
  nvidia-cuda-nvcc==13.0.88
  nvidia-nvvm==13.0.88
  nvidia-cuda-crt==13.0.88
  nvidia-cuda-runtime==13.0.96
  nvidia-cuda-cccl==13.0.85
  # The disassemblers of 13.0 are not on PyPI; these read its code.
  nvidia-cuda-cuobjdump==13.2.86
  nvidia-cuda-nvdisasm==13.2.86
)
FOLDER=target/cuda
NVCC=$FOLDER/nvidia/cu13/bin/nvcc
STAMP=$FOLDER/installed

if [ -f "$STAMP" ] && [ "$(cat "$STAMP")" = "${WHEELS[*]}" ] && "$NVCC" --version >/dev/null 2>&1; then
  echo "CUDA compiler: $NVCC is there"
  exit 0
fi

require_pip
require_cxx
mkdir -p target
fresh=$FOLDER.new
for attempt in 1 2 3 4; do
  rm -rf "$fresh"
  if python3 -m pip install --quiet --no-deps --only-binary=:all: --no-compile --no-cache-dir \
    --disable-pip-version-check --root-user-action=ignore --target "$fresh" "${WHEELS[@]}"; then
    break
  fi
  if [ $attempt = 4 ]; then
    echo "The CUDA compiler could not be installed from PyPI; see pip's words above." >&2
    exit 1
  fi
  sleep $((5 * attempt))
done
"$fresh/nvidia/cu13/bin/nvcc" --version | grep -q 'V13\.0\.88' || {
  echo "The nvcc of $fresh is not 13.0.88" >&2
  exit 1
}
rm -rf "$FOLDER"
mv "$fresh" "$FOLDER"
echo "${WHEELS[*]}" >"$STAMP"
# build.rs looks for nvcc again when its own time stamp changes.
touch build.rs
echo "CUDA compiler: installed $NVCC"
