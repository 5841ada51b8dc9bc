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
    # Both at once, as `cargo test` has built them.
    cargo build --locked --bins --example netsim || exit 1
    NEUROSHARD=$PWD/target/debug/neuroshard
  fi
  export NEUROSHARD
  # All nodes are one host: Open MPI must not think that they share memory as several hosts.
  export OMPI_MCA_btl=self,tcp OMPI_MCA_btl_tcp_if_include=lo OMPI_MCA_mpi_yield_when_idle=1
  mpi_environment
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  SANDBOX_SECS=240 tests/lab/slurm-sandbox.sh with "$work/slurm" 2 scripts/test-slurm.sh inside "$work"
  exit
fi

. tests/lab/checks.sh
project=$PWD
cd "$2"
EVIDENCE="*.out *.ranks.log slurm/log/slurmctld.log"
STEPS=${STEPS:-600}
RANKS='4 ranks on n\[1-2\]'
export SETS
# Evaluations make the runs long enough to be interrupted, and change no state.
SETS="$(small_run) train.steps=$STEPS train.eval_every=1 train.eval_sequences=32"

submit() { timeout 20 sbatch --parsable "$@"; }
state_of() { timeout 5 scontrol -o show job "$1" 2> /dev/null | grep -o 'JobState=[A-Z_]*' | cut -d= -f2; }
is() { [ "$(state_of "$1")" = "$2" ]; }
ended() { case $(state_of "$1") in COMPLETED | FAILED | CANCELLED | TIMEOUT | NODE_FAIL) ;; *) false ;; esac; }
restarts() { timeout 5 scontrol -o show job "$1" | grep -o 'Restarts=[0-9]*' | cut -d= -f2; }
words() { grep -q "$2" "neuroshard-$1.out"; }
# A requeued job waits two minutes unless told otherwise. It must not be told before its nodes have
# got over its first start, nor so often that its wait for the scheduler always begins anew.
runs_again() { [ "$(restarts "$1")" -ge 1 ] && { is "$1" RUNNING || ended "$1"; }; }
restarted() {
  sleep 3
  timeout 5 scontrol update JobId="$1" StartTime=now 2> /dev/null
  within 4 runs_again "$1"
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
  # It may have come back by itself.
  timeout 5 scontrol update NodeName=n2 State=RESUME 2> /dev/null
  [ $outcome = 0 ] && goes_on "$job" && same_state "$(run_of "$job")" "$STEPS" "$WANT"
}

cancelled() {
  local job
  job=$(train) && within 40 has_steps "$(run_of "$job")" 20 && timeout 5 scancel "$job" &&
    within 15 is "$job" CANCELLED && within 15 words "$job" "ended by Slurm.*code 85" &&
    sleep 1 && is "$job" CANCELLED && ! words "$job" "back into the queue"
}

rank_killed() {
  local job
  job=$(train) && within 40 has_steps "$(run_of "$job")" 20 && kill -9 "$(process_with SLURM_JOB_ID="$job" SLURM_PROCID=2)" &&
    within 20 ended "$job" && is "$job" FAILED && words "$job" "FAILED with code" &&
    words "$job" '^error on rank [0-3] (host .*): step [0-9]*: rank 2 is gone' && words "$job" 'rank 2 is on host'
}

refused() {
  local job
  job=$(SETS="train.stepz=1" train) && within 30 ended "$job" && is "$job" FAILED &&
    words "$job" "did you mean train.steps"
}

swept() {
  local job task
  printf 'train.steps=20\ntrain.steps=20 optim.lr=1e-4\n' > sweep.txt
  job=$(SCRIPTS=$project/slurm submit --array=1-2 "$project/slurm/array-sweep.sbatch" sweep.txt) || return
  for task in 1 2; do
    within 60 ended "${job}_$task" && is "${job}_$task" COMPLETED || return
  done
  [ -n "$(state_hash "runs/sweep-$job/1" 20)" ] && [ -n "$(state_hash "runs/sweep-$job/2" 20)" ] &&
    [ "$(state_hash "runs/sweep-$job/1" 20)" != "$(state_hash "runs/sweep-$job/2" 20)" ]
}

chained() {
  local job next
  job=$(SCRIPTS=$project/slurm LINKS=3 submit "$project/slurm/resume.sbatch") &&
    within 40 has_steps "runs/chain-$job" 20 && timeout 5 scancel --batch --signal=USR1 "$job" &&
    within 20 ended "$job" && is "$job" FAILED || return
  next=$(grep -o 'successor: job [0-9]*' "chain-$job.out" | grep -o '[0-9]*')
  within 60 ended "$next" && is "$next" COMPLETED && same_state "runs/chain-$job" "$STEPS" "$WANT" || return
  # The last link was for a run that had not finished.
  next=$(grep -o 'successor: job [0-9]*' "chain-$next.out" | grep -o '[0-9]*')
  within 20 is "$next" CANCELLED
}

benched() {
  local job
  job=$(STEPS=6 submit "$project/slurm/bench.sbatch") && within 60 ended "$job" && is "$job" COMPLETED &&
    grep -q '^ *4 ' "bench-$job.out" && grep -q 'all runs ended with the same state' "bench-$job.out"
}

launched() {
  local job sets
  mapfile -t sets < <(for set in $SETS; do printf -- '--set\n%s\n' "$set"; done)
  job=$("$NEUROSHARD" launch slurm --nodes 2 --tasks-per-node 2 --set run.dir=runs/launched "${sets[@]}" |
    grep -o '[0-9]*$') && within 60 ended "$job" && is "$job" COMPLETED &&
    same_state runs/launched "$STEPS" "$WANT"
}

for launch in plain pmix mpirun; do
  check "train.sbatch as shipped, 2 nodes x 2 ranks, started by $launch: the state of one process" undisturbed $launch
done
check "SIGUSR1 to the script: checkpoint, requeue, resume, the same state" signalled
check "a job of a higher partition preempts: checkpoint, requeue, resume, the same state" preempted
check "a node goes down: requeue, resume, the same state" node_down
check "scancel: a checkpoint, and the job does not come back" cancelled
check "kill -9 of a rank: the job fails and names rank, host and last step" rank_killed
check "launch slurm: submitted, the same state" launched
check "array-sweep.sbatch: a run for each line" swept
check "resume.sbatch: a chain of jobs ends at the same state" chained
check "bench.sbatch: 1, 2, 4 ranks, the same state" benched
check "a wrong setting: the job fails with the reason in its output" refused
summary
