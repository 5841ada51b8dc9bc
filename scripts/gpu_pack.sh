#!/usr/bin/env bash
# Packs everything that scripts/gpu_check.sh needs on a machine without Rust into one tar: the program
# (release), the test executables, the scripts. Build it where nvcc is (scripts/setup-cuda.sh), on a
# system whose C library is not newer than the GPU machine's.
#   scripts/gpu_pack.sh [FILE]        default: target/neuroshard-gpu-check.tar.gz
# There: tar xf FILE && neuroshard-gpu-check/scripts/gpu_check.sh
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/requirements.sh
require_rust
require_cc
tar=${1:-target/neuroshard-gpu-check.tar.gz}
# The tests that touch a device or carry bytes between ranks, and the harness's own.
TESTS=(cuda collective collective_nccl collective_socket bench)

NEUROSHARD_COMMIT=$(git rev-parse HEAD 2>/dev/null || echo unknown)
git diff --quiet HEAD 2>/dev/null || NEUROSHARD_COMMIT+="-modified"
export NEUROSHARD_COMMIT

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
pack=$folder/neuroshard-gpu-check
mkdir -p "$pack/bin/tests" "$pack/scripts"
cargo build --release --locked
bin=${CARGO_TARGET_DIR:-target}/release/neuroshard
if "$bin" doctor 2>&1 | grep -q "built without kernels"; then
  echo "the program has no kernels for GPUs: run scripts/setup-cuda.sh (or set NVCC), then this again" >&2
  exit 1
fi
cp "$bin" "$pack/bin/"
targets=()
for test in "${TESTS[@]}"; do targets+=(--test "$test"); done
cargo test --release --locked --no-run "${targets[@]}" --message-format=json 2>"$folder/words" |
  sed -n 's/.*"kind":\["test"\].*"name":"\([a-z_]*\)".*"executable":"\([^"]*\)".*/\1 \2/p' >"$folder/executables" || {
  cat "$folder/words" >&2
  exit 1
}
for test in "${TESTS[@]}"; do
  executable=$(awk -v name="$test" '$1 == name { print $2 }' "$folder/executables")
  [ -n "$executable" ] || { echo "cargo did not say where it put the tests of $test" >&2; exit 1; }
  cp "$executable" "$pack/bin/tests/$test"
done
strip --strip-debug "$pack"/bin/neuroshard "$pack"/bin/tests/* 2>/dev/null ||
  echo "note: no strip here; the tar is larger than it must be"
cp scripts/gpu_check.sh scripts/bench_peers_gpu.py "$pack/scripts/"
echo "$NEUROSHARD_COMMIT" >"$pack/COMMIT"
mkdir -p "$(dirname "$tar")"
tar -C "$folder" -czf "$tar" neuroshard-gpu-check
echo "$tar: $(du -h "$tar" | cut -f1), commit $NEUROSHARD_COMMIT"
