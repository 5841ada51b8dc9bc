#!/usr/bin/env bash
# Runs every fuzz target for some seconds: scripts/fuzz.sh [SECONDS]. Needs nightly Rust and cargo-fuzz.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-60}
if ! cargo +nightly fuzz --version >/dev/null 2>&1; then
  echo "SKIPPED LOUDLY: cargo-fuzz or nightly Rust is not installed, no fuzz target has run (see fuzz/README.md);"
  echo "the bodies of the targets do run, on mutated messages: cargo test --test codec mutations"
  exit 0
fi
for target in block update; do
  mkdir -p fuzz/corpus/$target
  cargo +nightly fuzz run "$target" -- -max_total_time="$seconds" -max_len=65536 -timeout=10 -rss_limit_mb=2048
done
