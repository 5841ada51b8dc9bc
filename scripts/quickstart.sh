#!/usr/bin/env bash
# Builds NeuroShard and runs its main job on two ranks: a small NeuroLLM from random weights, trained
# on a synthetic language whose entropy is known. About two minutes on two cores after the build.
# The ranks are processes under `mpirun` where there is one, else threads of one process; the weights
# that come out are the same to the bit. Arguments go to `neuroshard train`.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/requirements.sh
require_rust
require_cc

cargo build --release --locked
train=(target/release/neuroshard train
  --set "run.dir=runs/quickstart-$(date +%Y%m%d-%H%M%S)"
  # Two ranks also where there is one core.
  --set parallel.oversubscribe=true)

mpi_environment
if command -v mpirun >/dev/null && timeout 30 mpirun -np 2 true >/dev/null 2>&1; then
  echo "two ranks under $(command -v mpirun)"
  exec mpirun -np 2 "${train[@]}" "$@"
fi
echo "no mpirun that works here: two ranks as threads of one process"
exec "${train[@]}" --ranks 2 "$@"
