#!/usr/bin/env bash
# The shipped job scripts, unchanged, under a real Slurm: two nodes, two ranks on each, preempted,
# requeued, killed. What counts is the hash of the training state: always that of one process which
# nobody disturbed. About a minute and a half. Prints `N passed, M failed`.
#     scripts/test-slurm.sh            NEUROSHARD names the program; none: the development build
set -uo pipefail
cd "$(dirname "$0")/.."

if [ "${1:-}" != inside ]; then
  . scripts/requirements.sh
  require_lab || exit 0
  if [ -z "${NEUROSHARD:-}" ]; then
    cargo build --locked || exit 1
    NEUROSHARD=$PWD/target/debug/neuroshard
  fi
  export NEUROSHARD
  # All nodes are one host: Open MPI must not think that they share memory as several hosts.
  export OMPI_MCA_btl=self,tcp OMPI_MCA_btl_tcp_if_include=lo OMPI_MCA_mpi_yield_when_idle=1
  export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
  export OMPI_MCA_rmaps_base_oversubscribe=1
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  SANDBOX_SECS=240 tests/lab/slurm-sandbox.sh with "$work/slurm" 2 scripts/test-slurm.sh inside "$work"
  exit
fi

. tests/lab/checks.sh
project=$PWD
cd "$2"
EVIDENCE="*.out *.ranks.log"
STEPS=${STEPS:-300}
RANKS='4 ranks on n\[1-2\]'
export SETS
SETS="$(small_run) train.steps=$STEPS"

submit() { timeout 20 sbatch --parsable "$@"; }
state_of() { timeout 5 scontrol -o show job "$1" 2> /dev/null | grep -o 'JobState=[A-Z_]*' | cut -d= -f2; }
is() { [ "$(state_of "$1")" = "$2" ]; }
ended() { case $(state_of "$1") in COMPLETED | FAILED | CANCELLED | TIMEOUT | NODE_FAIL) ;; *) false ;; esac; }
restarts() { timeout 5 scontrol -o show job "$1" | grep -o 'Restarts=[0-9]*' | cut -d= -f2; }
words() { grep -q "$2" "neuroshard-$1.out"; }
# A requeued job waits two minutes unless told otherwise, and cannot be told before it is pending.
restarted() {
  [ "$(restarts "$1")" -ge 1 ] && is "$1" RUNNING && return
  timeout 5 scontrol update JobId="$1" StartTime=now 2> /dev/null
  false
}
goes_on() { within 30 restarted "$1" && within 60 ended "$1" && is "$1" COMPLETED; }
train() { submit "$@" "$project/slurm/train.sbatch"; }
run_of() { echo "runs/neuroshard-$1"; }

# shellcheck disable=SC2046
"$NEUROSHARD" train --set run.dir=alone $(printf -- '--set %s ' $SETS) > alone.out 2>&1
WANT=$(state_hash alone "$STEPS")
[ -n "$WANT" ] || { cat alone.out; echo "0 passed, 1 failed"; exit 1; }

undisturbed() {
  local job
  job=$(LAUNCH=$1 train) && within 60 ended "$job" && is "$job" COMPLETED &&
    words "$job" "$RANKS" && same_state "$(run_of "$job")" "$STEPS" "$WANT"
}

signalled() {
  local job
  job=$(train) && within 40 has_steps "$(run_of "$job")" 20 &&
    timeout 5 scancel --batch --signal=USR1 "$job" && within 20 words "$job" "back into the queue" &&
    goes_on "$job" && same_state "$(run_of "$job")" "$STEPS" "$WANT"
}

preempted() {
  local job
  job=$(train --exclusive) && within 40 has_steps "$(run_of "$job")" 20 &&
    timeout 40 sbatch -W -p high -N2 --exclusive -t1 -o high.out --wrap 'echo ran' > /dev/null &&
    grep -q ran high.out && words "$job" "stopped with a checkpoint" &&
    goes_on "$job" && same_state "$(run_of "$job")" "$STEPS" "$WANT"
}

node_down() {
  local job
  job=$(train) && within 40 has_steps "$(run_of "$job")" 20 &&
    timeout 5 scontrol update NodeName=n2 State=DOWN Reason=test && within 15 is "$job" PENDING
  local outcome=$?
  timeout 5 scontrol update NodeName=n2 State=RESUME
  [ $outcome = 0 ] && goes_on "$job" && same_state "$(run_of "$job")" "$STEPS" "$WANT"
}

cancelled() {
  local job
  job=$(train) && within 40 has_steps "$(run_of "$job")" 20 && timeout 5 scancel "$job" &&
    within 15 is "$job" CANCELLED && within 15 words "$job" "ended by Slurm.*code 85" &&
    sleep 1 && is "$job" CANCELLED && ! words "$job" "back into the queue"
}

# A rank of a running job, by its place in the job: the id of its process.
rank_of() {
  local process
  for process in /proc/[0-9]*; do
    if tr '\0' '\n' < "$process/environ" 2> /dev/null | grep -qx "SLURM_PROCID=$2" &&
      tr '\0' '\n' < "$process/environ" 2> /dev/null | grep -qx "SLURM_JOB_ID=$1" &&
      [ "$(readlink "$process/exe")" = "$(readlink -f "$NEUROSHARD")" ]; then
      echo "${process#/proc/}"
      return
    fi
  done
  return 1
}

rank_killed() {
  local job
  job=$(train) && within 40 has_steps "$(run_of "$job")" 20 && kill -9 "$(rank_of "$job" 2)" &&
    within 20 ended "$job" && is "$job" FAILED && words "$job" "FAILED with code" &&
    words "$job" "rank 2.*n2" && words "$job" "last step"
}

refused() {
  local job
  job=$(SETS="train.stepz=1" train) && within 30 ended "$job" && is "$job" FAILED &&
    words "$job" "did you mean train.steps"
}

for launch in plain pmix mpirun; do
  check "train.sbatch as shipped, 2 nodes x 2 ranks, started by $launch: the state of one process" undisturbed $launch
done
check "SIGUSR1 to the script: checkpoint, requeue, resume, the same state" signalled
check "a job of a higher partition preempts: checkpoint, requeue, resume, the same state" preempted
check "a node goes down: requeue, resume, the same state" node_down
check "scancel: a checkpoint, and the job does not come back" cancelled
check "kill -9 of a rank: the job fails and names rank, host and last step" rank_killed
check "a wrong setting: the job fails with the reason in its output" refused
summary
