#!/usr/bin/env bash
# Training over a network: two hosts of a laboratory, joined by a switch that can be cut. What
# counts is the hash of the training state: always that of one process. Prints `N passed, M failed`.
#     scripts/test-net.sh              NEUROSHARD names the program; none: the development build
set -uo pipefail
cd "$(dirname "$0")/.."

if [ "${1:-}" != inside ]; then
  . scripts/requirements.sh
  require_lab || exit 0
  if ! [ -c /dev/net/tun ]; then
    echo "SKIPPED LOUDLY: test-net.sh: /dev/net/tun is missing, so there is no network to cut"
    exit 0
  fi
  # Both at once, as `cargo test` has built them.
  cargo build --locked --bins --example netsim || exit 1
  if [ -z "${NEUROSHARD:-}" ]; then
    NEUROSHARD=$PWD/target/debug/neuroshard
  fi
  export NEUROSHARD WORK
  mpi_environment
  # Waiting ranks give the processor away: there are more of them than cores.
  export OMPI_MCA_mpi_yield_when_idle=1
  WORK=$(mktemp -d)
  trap 'rm -rf "$WORK"' EXIT
  NETLAB_SECS=180 tests/lab/netlab.sh 2 scripts/test-net.sh inside
  exit
fi

. tests/lab/checks.sh
host=$NETLAB/host
cd "$WORK"
EVIDENCE="*.out"
# So many of a longer schedule: runs that are cut must not be over before.
STEPS=${STEPS:-60}
SETS="$(small_run) train.steps=100000"
arguments=()
for set in $SETS; do arguments+=(--set "$set"); done

# alone STEP: the state of one process after that step, from the beginning.
alone() {
  "$NEUROSHARD" train --set "run.dir=alone-$1" "${arguments[@]}" --set "train.stop_after=$1" > alone.out 2>&1
  state_hash "alone-$1" "$1"
}
WANT=$(alone "$STEPS")
[ -n "$WANT" ] || { cat alone.out; echo "0 passed, 1 failed"; exit 1; }

# Four ranks, two on each host.
open_mpi() {
  "$host" n1 timeout -k 2 60 mpirun.openmpi --mca plm_rsh_agent "$NETLAB/rsh" --mca btl_tcp_if_include net0 \
    --mca oob_tcp_if_include net0 -x NETLAB -H n1:2,n2:2 \
    "$NEUROSHARD" train --set "run.dir=$1" "${arguments[@]}" "${@:2}" > "$1.out" 2>&1
}

mpich() {
  "$host" n1 timeout -k 2 60 mpirun.mpich -launcher ssh -launcher-exec "$NETLAB/rsh" -iface net0 \
    -genv UCX_NET_DEVICES net0 -genv NETLAB "$NETLAB" -hosts n1:1,n2:1 -n 2 \
    "$NEUROSHARD" train --set "run.dir=$1" "${arguments[@]}" "${@:2}" > "$1.out" 2>&1
}

starts=0
# without_mpi DIR RENDEZVOUS ARGS...: two ranks, one on each host. The exit code is that of the
# first that failed.
without_mpi() {
  local rank pids=() code=0
  # Each start is a job of its own: what the last one left at the file is not for it.
  starts=$((starts + 1))
  for rank in 0 1; do
    NEUROSHARD_JOB=$starts NEUROSHARD_RENDEZVOUS=$2 NEUROSHARD_RANK=$rank NEUROSHARD_RANKS=2 \
      "$host" "n$((rank + 1))" timeout -k 2 60 "$NEUROSHARD" train --set "run.dir=$1" "${arguments[@]}" "${@:3}" \
      >> "$1.out" 2>&1 &
    pids+=($!)
  done
  for rank in 0 1; do wait "${pids[$rank]}" || code=$?; done
  return $code
}

trained() {
  local dir=$1
  shift
  "$@" --set "train.stop_after=$STEPS" && same_state "$dir" "$STEPS" "$WANT"
}

# goes_on DIR COMMAND...: the command resumes the run in DIR, some steps further, to the same state
# as that of an undisturbed process.
goes_on() {
  local dir=$1 step
  shift
  step=$(($(steps_in "$dir") + 20))
  "$@" --resume --set "train.stop_after=$step" && same_state "$dir" "$step" "$(alone "$step")"
}

# A cut in the middle of a run of COMMAND: all ranks must end by themselves, with the name of one
# that is silent; and the run must go on when the link is back.
cut_off() {
  local dir=$1 job launcher
  shift
  "$@" &
  job=$!
  within 30 has_steps "$dir" 20 || return
  "$NETLAB/ctl" cut n1 n2
  within 45 gone "$dir" || { "$NETLAB/ctl" heal; wait $job; return 1; }
  # Open MPI's mpirun goes on waiting for its own daemon behind the cut.
  for launcher in $(processes_of "$dir" "$(command -v mpirun.openmpi)"); do kill -9 "$launcher"; done
  wait $job
  "$NETLAB/ctl" heal
  grep -qE '^error on rank [0-3] \(host n[12]\): step [0-9]+: rank [0-3](, [0-3])* (silent|is gone)' "$dir.out" &&
    goes_on "$dir" "$@"
}

# Kill -9 of the rank on the second host.
killed() {
  local job
  without_mpi killed "file://$WORK/killed.meet" &
  job=$!
  within 30 has_steps killed 20 && kill -9 "$(process_with NEUROSHARD_RANK=1)" || return
  wait $job
  grep -q 'rank 1 is gone' killed.out && grep -q 'rank 1 is on host n2' killed.out &&
    goes_on killed without_mpi killed "file://$WORK/killed.meet"
}

check "Open MPI, 4 ranks on two hosts: the state of one process" trained open open_mpi open
check "MPICH, 2 ranks on two hosts: the state of one process" trained mpich mpich mpich
check "without MPI, meeting by a file: the state of one process" trained file without_mpi file "file://$WORK/meet"
check "without MPI, meeting at an address: the state of one process" trained tcp without_mpi tcp tcp://10.77.0.1:7777
check "Open MPI, link cut: the ranks end with the name of a silent one, resume to the same state" cut_off cut-open open_mpi cut-open
check "without MPI, link cut: the same" cut_off cut-file without_mpi cut-file "file://$WORK/cut.meet"
check "kill -9 of the rank on the other host: named, resumes to the same state" killed
summary
