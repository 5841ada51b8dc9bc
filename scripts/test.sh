#!/usr/bin/env bash
# Runs every check of the project, in order; the same here and in continuous integration.
# Needs a Rust toolchain and a C compiler; says what is missing and how to get it.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/requirements.sh
require_rust
require_cc

step() { printf '\n== %s (after %d s)\n' "$*" "$SECONDS"; }

step "CUDA compiler"
scripts/setup-cuda.sh

step "format"
if cargo fmt --version >/dev/null 2>&1; then
  cargo fmt --check
else
  echo "SKIPPED LOUDLY: cargo fmt is not installed (rustup component add rustfmt)"
fi

step "clippy, warnings denied"
if cargo clippy --version >/dev/null 2>&1; then
  cargo clippy --locked --all-targets -- -D warnings
else
  echo "SKIPPED LOUDLY: clippy is not installed (rustup component add clippy)"
fi

step "kernels: nvcc's reports and the machine code"
scripts/check-kernels.sh

step "emulator of a GPU"
scripts/build-emulator.sh

step "tests"
cargo test --locked

step "pages in a real browser"
NEUROSHARD_BIN=${CARGO_TARGET_DIR:-target}/debug/neuroshard scripts/test-pages.sh

step "the guide, block by block"
NEUROSHARD_BIN=${CARGO_TARGET_DIR:-target}/debug/neuroshard scripts/test-guide.sh

step "fuzzing"
scripts/fuzz.sh 30

step "kernels under sanitizers, in other orders of threads, and with planted bugs"
scripts/test-emulator.sh

step "ranks over real MPIs"
scripts/test-mpi.sh

step "job scripts under a real Slurm"
scripts/test-slurm.sh

step "two hosts and a network that is cut"
scripts/test-net.sh

step "the check of GPU machines, dry, on the CPU"
cargo build --locked
NEUROSHARD_BIN=${CARGO_TARGET_DIR:-target}/debug/neuroshard scripts/gpu_check.sh --dry-run --out target/gpu-check --minutes 10

step "folders for Hugging Face's transformers, where Python has them"
scripts/test-hf.sh "${CARGO_TARGET_DIR:-target}/debug/neuroshard"

step "benches, once each, as tests"
cargo test --locked --benches

step "documentation, warnings denied"
RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --lib

step "all checks passed"
