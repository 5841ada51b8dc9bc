#!/usr/bin/env bash
# What ranks cost and how fast they start and stop, measured on this machine; prints tables.
#     scripts/bench_ranks.sh [speed] [start] [stop] [memory]      all of them if none is named
#     ROUNDS=3 STEPS=12 MODELS="nano tiny"     how long to look at the speed
#     NEUROSHARD=...                           another program than the release build
# A busy machine shows in every number: the load is printed beside them.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/requirements.sh
require_rust
require_cc
mpi_environment
command -v mpirun >/dev/null || install_packages openmpi-bin || { echo "mpirun is missing: apt install openmpi-bin" >&2; exit 1; }
[ -n "${NEUROSHARD:-}" ] || cargo build --release --locked

neuroshard=${NEUROSHARD:-target/release/neuroshard}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# What is measured is training alone: no evaluation, no periodic checkpoint.
settings() {
  local set
  for set in train.eval_every=0 train.eval_sequences=0 train.checkpoint_every=0 parallel.oversubscribe=true "$@"; do
    printf -- '--set\n%s\n' "$set"
  done
}

# train RANKS DIR SETTINGS...: a run on so many ranks, each a process.
train() {
  local ranks=$1 dir=$2 words start=()
  shift 2
  mapfile -t words < <(settings "run.dir=$dir" "$@")
  [ "$ranks" = 1 ] || start=(mpirun -np "$ranks")
  # The bench's own shell must not stay between a signal and mpirun.
  exec ${start[@]+"${start[@]}"} $neuroshard train "${words[@]}" > "$dir.log" 2>&1
}

median() { sort -n | awk '{ v[NR] = $1 } END { print NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'; }
now_ms() { echo $(($(date +%s%N) / 1000000)); }
until_exists() { until [ -s "$1" ]; do sleep 0.005; done; }
value() { grep -o "\"$1\":[0-9.e+-]*" | cut -d: -f2; }
load() { cut -d' ' -f1 /proc/loadavg; }

# 2 ranks x 1 thread against 1 rank x 2 threads, in turns.
speed() {
  local model round
  printf '\n%-6s %18s %18s %8s %7s   (tokens/s, medians of %s rounds)\n' \
    model "1 rank x 2 threads" "2 ranks x 1 thread" ratio load "${ROUNDS:-3}"
  for model in ${MODELS:-nano tiny}; do
    : > "$work/one"
    : > "$work/two"
    for round in $(seq "${ROUNDS:-3}"); do
      for side in "one 1 2" "two 2 1"; do
        set -- $side
        (train "$2" "$work/$model-$1-$round" "device.threads=$3" "model.preset=$model" "train.steps=${STEPS:-12}" \
          train.batch_sequences=8)
        # The first steps touch memory for the first time.
        value tokens_per_s < "$work/$model-$1-$round/metrics.jsonl" | tail -n +3 | median >> "$work/$1"
      done
    done
    awk -v m="$model" -v one="$(median < "$work/one")" -v two="$(median < "$work/two")" -v load="$(load)" \
      'BEGIN { printf "%-6s %18.0f %18.0f %8.3f %7s\n", m, one, two, two / one, load }'
  done
}

# From mpirun to the beginning of the first step, and to its end, with four ranks.
start() {
  local round begun ended step_ms
  printf '\n%-30s %12s %12s %7s\n' "start, nano, 4 ranks, median" "step begins" "step ends" load
  : > "$work/begins"
  : > "$work/ends"
  for round in 1 2 3 4 5; do
    begun=$(now_ms)
    (train 4 "$work/start-$round" device.threads=1 model.preset=nano train.steps=1) &
    until_exists "$work/start-$round/metrics.jsonl"
    ended=$(now_ms)
    wait $!
    step_ms=$(value step_ms < "$work/start-$round/metrics.jsonl" | head -n 1)
    echo $((ended - begun - ${step_ms%.*})) >> "$work/begins"
    echo $((ended - begun)) >> "$work/ends"
  done
  printf '%-30s %9s ms %9s ms %7s\n' "" "$(median < "$work/begins")" "$(median < "$work/ends")" "$(load)"
}

# From SIGUSR1 to the end of the job, its checkpoint on the disk: the rest of a step and the writing.
stop() {
  local round sent pid code step_ms
  printf '\n%-30s %12s %12s %12s %7s\n' "SIGUSR1, tiny, 2 ranks" checkpoint "job's end" "one step" load
  for round in 1 2 3; do
    (train 2 "$work/stop-$round" device.threads=1 model.preset=tiny train.steps=1000 train.batch_sequences=8) &
    pid=$!
    until [ "$(grep -c . "$work/stop-$round/metrics.jsonl" 2>/dev/null || true)" -ge 3 ] 2>/dev/null; do sleep 0.01; done
    sent=$(now_ms)
    kill -USR1 $pid
    until compgen -G "$work/stop-$round/checkpoints/0*" >/dev/null; do sleep 0.005; done
    saved=$(now_ms)
    code=0
    wait $pid || code=$?
    [ $code = 85 ] || { echo "exit code $code instead of 85"; tail -n 20 "$work/stop-$round.log"; exit 1; }
    step_ms=$(value step_ms < "$work/stop-$round/metrics.jsonl" | tail -n 1)
    printf '%-30s %9s ms %9s ms %9s ms %7s\n' "" $((saved - sent)) $(($(now_ms) - sent)) "${step_ms%.*}" "$(load)"
  done
}

# Predicted and largest resident memory of every rank, as the run itself reports them.
memory() {
  local shape dir
  printf '\nmemory, tiny, 8 x 256 tokens a step\n'
  for shape in "2 0 1" "2 1 1" "2 2 1" "2 3 1" "4 1 1" "2 0 2" "4 1 2"; do
    set -- $shape
    dir=$work/memory-$1-$2-$3
    (train "$1" "$dir" device.threads=1 model.preset=tiny train.steps=2 train.batch_sequences=8 \
      "parallel.zero=$2" "parallel.stages=$3") || { tail -n 20 "$dir.log"; exit 1; }
    printf '%s ranks, zero %s, %s stage(s): %s\n' "$1" "$2" "$3" "$(sed -n 's/^peak memory *//p' "$dir.log")"
  done
}

echo "$(grep -m1 'model name' /proc/cpuinfo | cut -d: -f2-), $(nproc) cores; $(mpirun --version | head -n 1)"
for part in ${@:-speed start stop memory}; do
  case $part in
    speed | start | stop | memory) $part ;;
    *) echo "usage: $0 [speed] [start] [stop] [memory]" >&2; exit 2 ;;
  esac
done
