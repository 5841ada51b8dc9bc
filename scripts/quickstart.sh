#!/usr/bin/env bash
# Builds NeuroShard and runs its main job: a small NeuroLLM from random weights, trained on a
# synthetic language whose entropy is known. About two minutes on two cores after the build.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/requirements.sh
require_rust
require_cc

cargo build --release --locked
dir="runs/quickstart-$(date +%Y%m%d-%H%M%S)"
exec target/release/neuroshard train --set "run.dir=$dir" "$@"
