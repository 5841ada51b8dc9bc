#!/usr/bin/env bash
# Everything that can be learnt on a machine with a GPU, into one folder: whether results are right
# to the bit, which launch parameters are fastest, what each operation and whole steps reach. Needs no Rust: it
# runs from the tar that scripts/gpu_pack.sh makes (or from a checkout with a release build).
#
#   scripts/gpu_check.sh [--minutes N] [--out FOLDER] [--only PART,...] [--kind cuda|emulator|cpu] [--dry-run]
#
# Every part has a time limit and a log of its own; a part that fails is recorded and the rest goes
# on. The exit code is 1 if any failed. --minutes (default 60) bounds the whole; what would begin after that is
# skipped, and said to be. --dry-run runs the same commands tiny, on the CPU unless --kind says otherwise: it
# shows that they work and measures nothing. NEUROSHARD_BIN names another program.
set -uo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)

minutes=60 out='' only='' kind='' dry=''
while [ $# -gt 0 ]; do
  case $1 in
    --minutes) minutes=${2:?}; shift 2 ;;
    --out) out=${2:?}; shift 2 ;;
    --only) only=,${2:?},; shift 2 ;;
    --kind) kind=${2:?}; shift 2 ;;
    --dry-run) dry=yes; shift ;;
    *) echo "unknown argument $1; see the head of $0" >&2; exit 2 ;;
  esac
done
[ -n "$kind" ] || kind=$([ -n "$dry" ] && echo cpu || echo cuda)
[[ $minutes =~ ^[0-9]+$ ]] || { echo "--minutes: $minutes is no number" >&2; exit 2; }
out=${out:-gpu-check-$(date -u +%Y%m%dT%H%M%SZ)}
mkdir -p "$out" || exit 2
out=$(cd "$out" && pwd)
bin=${NEUROSHARD_BIN:-}
for candidate in "$here/bin/neuroshard" "$here/target/release/neuroshard"; do
  [ -n "$bin" ] || { [ -x "$candidate" ] && bin=$candidate; }
done
[ -x "$bin" ] || { echo "there is no program: make the tar with scripts/gpu_pack.sh, or set NEUROSHARD_BIN" >&2; exit 2; }
[ -f "$here/COMMIT" ] && NEUROSHARD_COMMIT=$(cat "$here/COMMIT") && export NEUROSHARD_COMMIT
device=(--set "device.kind=$kind")

# What the parts do: here, and in a dry run.
if [ -n "$dry" ]; then
  RUNS=2 OUTPUTS=20000 STEPS=4 RESUME_STEPS=60 BENCH_STEPS=3 QUICK=(--quick) MODELS=nano
  SHAPES=("nano 2 32") SMALL=(--set train.batch_sequences=2 --set train.seq_len=32)
  # The emulator takes minutes for what a CPU does in a second.
  [ "$kind" = emulator ] && STEPS=2 RESUME_STEPS=20 SHAPES=("nano 1 16") SMALL+=(--set model.layers=1 --set train.seq_len=16)
else
  RUNS=1000 OUTPUTS=1000000000 STEPS=20 RESUME_STEPS=200 BENCH_STEPS=30 QUICK=() MODELS=125m,1b
  # Preset, sequences of a step (one micro-batch each time), tokens in a sequence.
  SHAPES=("125m 64 1024" "350m 32 1024" "1b 8 2048") SMALL=()
fi
# What every training here is given: nothing but the steps themselves.
QUIET=(--set train.eval_sequences=0 --set train.checkpoint_every=0)

begun=$(date +%s)
left() { echo $((begun + minutes * 60 - $(date +%s))); }
: >"$out/parts.tsv"
failed=0 late=0

# Every part is a process group of its own, so that one signal ends it and all that it started.
set -m

# part NAME SECONDS COMMAND...: runs it with its own log, within its and the whole's time.
part() {
  local name=$1 limit=$2 start code verdict pid guard
  shift 2
  [ -z "$only" ] || [[ $only == *,$name,* ]] || return 0
  if [ "$(left)" -le 5 ]; then
    late=$((late + 1))
    printf '%s\tSKIPPED (no time left)\t0\n' "$name" | tee -a "$out/parts.tsv"
    return 0
  fi
  [ "$limit" -lt "$(left)" ] || limit=$(left)
  start=$(date +%s)
  ("$@") >"$out/$name.log" 2>&1 &
  pid=$!
  (
    sleep "$limit"
    echo "TIME IS UP after $limit s" >>"$out/$name.log"
    kill -KILL -- -$pid
  ) 2>/dev/null &
  guard=$!
  wait $pid 2>/dev/null
  code=$?
  kill -KILL -- -$guard 2>/dev/null
  wait $guard 2>/dev/null
  case $code in
    0) verdict=ok ;;
    77) verdict="SKIPPED: $(tail -1 "$out/$name.log")" ;;
    *) verdict="FAILED (code $code)" ;;
  esac
  grep -q '^TIME IS UP' "$out/$name.log" && verdict="FAILED (time limit of $limit s)"
  [[ $verdict == FAILED* ]] && failed=$((failed + 1))
  printf '%s\t%s\t%s\n' "$name" "$verdict" $(($(date +%s) - start)) | tee -a "$out/parts.tsv"
}

skip() { echo "$*"; exit 77; }

# A training's state hash: train_hash FOLDER ARGUMENTS...
train_hash() {
  local folder=$1
  shift
  rm -rf "$folder"
  "$bin" train --set run.dir="$folder" "${SMALL[@]}" "${QUIET[@]}" "$@" >"$folder.out" 2>"$folder.err" ||
    { cat "$folder.err" >&2; return 1; }
  sed -n 's/^state hash *//p' "$folder.out"
}

# --- the parts ---------------------------------------------------------------------------------

machine() {
  date -u +%FT%TZ
  uname -srm
  "$bin" --version
  echo "commit ${NEUROSHARD_COMMIT:-unknown}"
  grep -m1 'model name' /proc/cpuinfo
  command -v nvidia-smi >/dev/null && nvidia-smi
  true
}

doctor() {
  "$bin" doctor
}

# The kernels against the CPU backend, and ranks against one rank.
tests() {
  local found='' bad=0 test
  for test in "$here"/bin/tests/*; do
    [ -x "$test" ] || continue
    found=yes
    echo "== $(basename "$test")"
    (cd "$here" && "$test" --nocapture) || bad=1
  done
  [ -n "$found" ] || skip "no test executables here (scripts/gpu_pack.sh packs them)"
  return $bad
}

# Every operation at awkward shapes, the same bits in every run and on the CPU.
equal() { "$bin" bench equal --runs $RUNS "${device[@]}"; }

# Random products against the tensor core's model.
tensor_core() {
  local core=hopper
  command -v nvidia-smi >/dev/null && nvidia-smi --query-gpu=compute_cap --format=csv,noheader | grep -q '^8' && core=ampere
  local who bad=0 whose=('')
  # Our kernels, and every plan of cuBLASLt's that its probe admits.
  [ "$kind" = cuda ] && whose=(ours cublaslt)
  for who in "${whose[@]}"; do
    "$bin" bench tensor-core --outputs $OUTPUTS --seconds 450 "${device[@]}" --set numerics.tensor_core=$core ${who:+--product $who} || bad=1
  done
  return $bad
}

# A training is the same training on both devices.
hashes() {
  local profile here there bad=0 work=$out/hashes
  mkdir -p "$work"
  for profile in f32 bf16 tc; do
    here=$(train_hash "$work/$profile-$kind" "${device[@]}" --set numerics.profile=$profile --set train.steps=$STEPS) || { bad=1; here=failed; }
    there=$(train_hash "$work/$profile-cpu" --set numerics.profile=$profile --set train.steps=$STEPS) || { bad=1; there='failed too'; }
    if [ "$here" = "$there" ]; then echo "equal   $profile $here"; else echo "DIFFERS $profile $here $there"; bad=1; fi
  done
  return $bad
}

# Killed without warning and resumed, it ends as if nothing had been.
resume() {
  local work=$out/resume whole again pid
  mkdir -p "$work"
  local args=("${device[@]}" "${SMALL[@]}" --set train.steps=$RESUME_STEPS --set train.eval_sequences=0 --set train.checkpoint_every=5)
  whole=$(train_hash "$work/whole" "${device[@]}" --set train.steps=$RESUME_STEPS) || return 1
  rm -rf "$work/killed"
  "$bin" train --set run.dir="$work/killed" "${args[@]}" >"$work/killed.out" 2>&1 &
  pid=$!
  while kill -0 $pid 2>/dev/null && [ -z "$(ls "$work/killed/checkpoints" 2>/dev/null)" ]; do sleep 0.02; done
  if kill -KILL $pid 2>/dev/null; then echo "killed after $(ls "$work/killed/checkpoints")"; else echo "it had ended before it could be killed"; fi
  wait $pid 2>/dev/null
  "$bin" train --resume --set run.dir="$work/killed" "${args[@]}" >"$work/resumed.out" 2>&1 || { cat "$work/resumed.out"; return 1; }
  again=$(sed -n 's/^state hash *//p' "$work/resumed.out")
  echo "$whole whole, $again resumed"
  [ "$whole" = "$again" ]
}

# Two ranks; on a GPU both on the same one, which NCCL 2.30 and newer can.
two_ranks() {
  local work=$out/two_ranks alone together rank bad=0 pids=()
  mkdir -p "$work"
  local args=("${device[@]}" --set train.steps=$STEPS --set parallel.shards=2)
  alone=$(train_hash "$work/alone" "${args[@]}") || return 1
  rm -rf "$work/together" "$work/meet"
  [ "$kind" = cuda ] && args+=(--set device.index=0)
  for rank in 0 1; do
    NCCL_MULTI_RANK_GPU_ENABLE=1 NEUROSHARD_RENDEZVOUS="file://$work/meet" NEUROSHARD_RANK=$rank NEUROSHARD_RANKS=2 \
      "$bin" train --set run.dir="$work/together" --set parallel.oversubscribe=true "${SMALL[@]}" "${QUIET[@]}" "${args[@]}" \
      >"$work/rank$rank.out" 2>&1 &
    pids+=($!)
  done
  for pid in "${pids[@]}"; do wait "$pid" || bad=1; done
  [ $bad = 0 ] || { cat "$work"/rank?.out; return 1; }
  together=$(sed -n 's/^state hash *//p' "$work/rank0.out")
  echo "$alone alone, $together together"
  [ "$alone" = "$together" ]
}

# Every operation beside the ceilings, with launch parameters that were measured first.
kernels() {
  "$bin" bench kernels "${device[@]}" --sweep --table "$out/tuning.toml" --model $MODELS "${QUICK[@]}" \
    --json "$out/kernels.jsonl" --svg "$out/roofline.svg"
}

# Whole steps. `mfu` is strict (6 N + 6 L H D T a token: causal attention counted once), of the peak that the
# device's maker states.
steps() {
  local shape model sequences length bad=0 tuning=()
  [ -f "$out/tuning.toml" ] && tuning=(--set "device.tuning=$out/tuning.toml")
  : >"$out/steps.jsonl"
  for shape in "${SHAPES[@]}"; do
    read -r model sequences length <<<"$shape"
    local folder=$out/steps-$model
    rm -rf "$folder"
    if ! "$bin" train --set run.dir="$folder" "${device[@]}" "${tuning[@]}" "${QUIET[@]}" --set model.preset=$model \
      --set numerics.profile=tc --set train.seq_len=$length --set train.batch_sequences=$sequences \
      --set train.micro_batch_sequences=$sequences --set parallel.shards=1 --set train.steps=$BENCH_STEPS; then
      echo "$model FAILED"
      bad=1
      continue
    fi
    local speed rate mfu
    speed=$(median tokens_per_s "$folder") rate=$(median gflops "$folder") mfu=$(median mfu "$folder")
    echo "| $model | T $length | $speed tokens/s | $rate GFLOP/s | strict MFU ${mfu:-unknown} |"
    echo "{\"kind\":\"step\",\"side\":\"neuroshard\",\"model\":\"$model\",\"sequences\":$sequences,\"seq_len\":$length,\"dtype\":\"tc\",\"tokens_per_s\":${speed:-null},\"gflops\":${rate:-null},\"mfu\":${mfu:-null}}" >>"$out/steps.jsonl"
    rm -rf "$folder/checkpoints"
  done
  return $bad
}

# The median of a key in a run's metrics, the first quarter of the steps left out.
median() {
  sed -n "/\"kind\":\"step\"/s/.*\"$1\":\([0-9.e+-]*\).*/\1/p" "$2/metrics.jsonl" | tail -n +$((BENCH_STEPS / 4 + 1)) |
    sort -g | awk '{ all[NR] = $1 } END { if (NR) print all[int((NR + 1) / 2)] }'
}

sanitizer() {
  command -v compute-sanitizer >/dev/null || skip "compute-sanitizer is not installed"
  [ -x "$here/bin/tests/cuda" ] || skip "no test executables here (scripts/gpu_pack.sh packs them)"
  local tool bad=0
  for tool in memcheck racecheck initcheck; do
    compute-sanitizer --tool $tool --error-exitcode 9 "$here/bin/tests/cuda" >"$out/sanitizer-$tool.log" 2>&1 || bad=1
    echo "$tool: $(tail -1 "$out/sanitizer-$tool.log")"
  done
  return $bad
}

peers() {
  command -v python3 >/dev/null || skip "there is no python3"
  local args=(--ours "$out/kernels.jsonl" --steps "$out/steps.jsonl" --out "$out/peers.jsonl")
  if [ -n "$dry" ]; then
    python3 "$here/scripts/bench_peers_gpu.py" "${args[@]}" --dry-run
  else
    python3 -c 'import torch, sys; sys.exit(not torch.cuda.is_available())' 2>/dev/null || skip "PyTorch with CUDA is not installed"
    python3 "$here/scripts/bench_peers_gpu.py" "${args[@]}"
  fi
}

# --- all of them -------------------------------------------------------------------------------

sampler=''
if command -v nvidia-smi >/dev/null && [ -z "$dry" ]; then
  nvidia-smi --query-gpu=timestamp,index,clocks.sm,clocks.mem,power.draw,temperature.gpu,utilization.gpu,memory.used,clocks_event_reasons.active \
    --format=csv -l 1 >"$out/clocks.csv" 2>/dev/null &
  sampler=$!
  trap 'kill -KILL -- -$sampler 2>/dev/null' EXIT
fi
echo "results in $out"
part machine 60 machine
part doctor 60 doctor
part tests 900 tests
part equal 900 equal
part tensor_core 1000 tensor_core
part hashes 600 hashes
part resume 300 resume
part two_ranks 300 two_ranks
part kernels 900 kernels
part steps 900 steps
part sanitizer 1200 sanitizer
part peers 1200 peers

{
  echo "# GPU check of $(date -u +%FT%TZ)"
  [ -z "$dry" ] || echo "A dry run on $kind: its numbers mean nothing."
  echo
  echo "| part | outcome | seconds |"
  echo "|---|---|--:|"
  awk -F'\t' '{ print "| " $1 " | " $2 " | " $3 " |" }' "$out/parts.tsv"
  [ ! -s "$out/steps.log" ] || { echo; grep '^| ' "$out/steps.log"; }
} >"$out/summary.md"
echo "$failed part(s) failed, $late skipped for want of time; $out/summary.md"
[ $failed = 0 ]
