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
    cargo build --locked || exit 1
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
STEPS=${STEPS:-200}
SETS="$(small_run) train.steps=$STEPS"
arguments=()
for set in $SETS; do arguments+=(--set "$set"); done

"$NEUROSHARD" train --set run.dir=alone "${arguments[@]}" > alone.out 2>&1
WANT=$(state_hash alone "$STEPS")
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
  "$@" && same_state "$dir" "$STEPS" "$WANT"
}

# A cut in the middle of a run of COMMAND: it must end by itself, in time, with the silent rank's
# name; and go on when the link is back.
cut_off() {
  local dir=$1 job code
  shift
  "$@" &
  job=$!
  within 30 has_steps "$dir" 20 || return
  "$NETLAB/ctl" cut n1 n2
  wait $job
  code=$?
  "$NETLAB/ctl" heal
  [ $code != 0 ] && [ $code != 85 ] && [ $code != 124 ] && [ $code != 137 ] || { echo "    exit code $code"; return 1; }
  # Every rank names the other side: whichever's words arrive.
  grep -qE 'rank [0-3](, [0-3])* (silent|is gone)' "$dir.out" && grep -q 'host n[12]' "$dir.out" || return
  "$@" --resume && same_state "$dir" "$STEPS" "$WANT"
}

# Kill -9 of the rank on the second host.
killed() {
  local job code
  without_mpi killed "file://$WORK/killed.meet" &
  job=$!
  within 30 has_steps killed 20 || return
  kill -9 "$(process_with NEUROSHARD_RANK=1)" || return
  wait $job
  grep -q 'rank 1 is gone' killed.out && grep -q 'rank 1 is on host n2' killed.out &&
    without_mpi killed "file://$WORK/killed.meet" --resume && same_state killed "$STEPS" "$WANT"
}

check "Open MPI, 4 ranks on two hosts: the state of one process" trained open open_mpi open
check "MPICH, 2 ranks on two hosts: the state of one process" trained mpich mpich mpich
check "without MPI, meeting by a file: the state of one process" trained file without_mpi file "file://$WORK/meet"
check "without MPI, meeting at an address: the state of one process" trained tcp without_mpi tcp tcp://10.77.0.1:7777
"$NETLAB/ctl" set all delay=1 loss=0.001
check "the same with a slow and lossy network" trained lossy without_mpi lossy tcp://10.77.0.1:7778
"$NETLAB/ctl" set all delay=0 loss=0
check "Open MPI, link cut: ends with the silent rank's name, resumes to the same state" cut_off cut-open open_mpi cut-open
check "without MPI, link cut: the same" cut_off cut-file without_mpi cut-file "file://$WORK/cut.meet"
check "kill -9 of the rank on the other host: named, resumes to the same state" killed
summary
