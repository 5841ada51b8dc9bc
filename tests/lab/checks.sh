# Sourced by the test scripts: counting checks, waiting, and a run small enough for the laboratory.

passed=0
failed=0

# check WHAT COMMAND...: runs the command; its success is the outcome. On failure prints the ends of
# the newest three files that match $EVIDENCE (globs), which say why. ONLY=REGEX leaves out others.
check() {
  local what=$1 started=$SECONDS
  shift
  [[ $what =~ ${ONLY:-} ]] || { echo "left out: $what"; return; }
  if "$@"; then
    passed=$((passed + 1))
    echo "ok    $what ($((SECONDS - started)) s)"
  else
    failed=$((failed + 1))
    echo "FAILED $what"
    # shellcheck disable=SC2086,SC2012
    ls -t ${EVIDENCE:-} 2> /dev/null | head -n 3 | xargs -r tail -n 25 | sed 's/^/    /'
  fi
}

# The last line of a test script, and its exit status.
summary() {
  echo "$passed passed, $failed failed"
  [ $failed = 0 ] && [ $passed -gt 0 ]
}

# within SECONDS COMMAND...: repeats the command until it succeeds.
within() {
  local end=$((SECONDS + $1))
  shift
  until "$@"; do
    [ $SECONDS -lt $end ] || return 1
    sleep 0.1
  done
}

# Settings of a model of some thousand weights: a step takes well under a millisecond alone.
# Every rank is let onto the few cores of a test machine.
small_run() {
  echo model.width=24 model.layers=2 model.heads=3 model.kv_heads=1 model.ffn=32 model.vocab=64 \
    train.seq_len=16 train.batch_sequences=8 train.eval_every=0 train.eval_sequences=2 \
    train.checkpoint_every=50 device.threads=1 parallel.oversubscribe=true parallel.compare_every=5
}

# The same as arguments.
small_run_arguments() {
  local set
  for set in $(small_run); do printf -- '--set %s ' "$set"; done
}

# steps_in RUN_DIR: steps that a run has logged.
steps_in() { if [ -f "$1/metrics.jsonl" ]; then grep -c '"kind":"step"' "$1/metrics.jsonl"; else echo 0; fi; }

# has_steps RUN_DIR N: whether it has logged more than N.
has_steps() { [ "$(steps_in "$1")" -gt "$2" ]; }

# state_hash RUN_DIR STEP: the hash of the training state in a checkpoint.
state_hash() {
  "$NEUROSHARD" checkpoint hash "$1/checkpoints/$(printf %08d "$2")" 2>&1 | grep -oE '[0-9a-f]{64}' | head -n 1
}

# same_state RUN_DIR STEP HASH
same_state() {
  local found
  found=$(state_hash "$1" "$2")
  [ -n "$found" ] && [ "$found" = "$3" ] && return
  echo "    state after step $2 in $1: ${found:-none}, want $3"
  return 1
}

# process_with NAME=VALUE...: the id of a process of the program with all these environment variables.
process_with() {
  local process variable
  for process in /proc/[0-9]*; do
    [ "$(readlink "$process/exe")" = "$(readlink -f "$NEUROSHARD")" ] || continue
    for variable; do
      tr '\0' '\n' < "$process/environ" 2> /dev/null | grep -qx "$variable" || continue 2
    done
    echo "${process#/proc/}"
    return
  done
  return 1
}

# processes_of RUN_DIR PROGRAM: ids of the processes of a program (a path) that train in RUN_DIR.
processes_of() {
  local process
  for process in /proc/[0-9]*; do
    [ "$(readlink "$process/exe")" = "$(readlink -f "$2")" ] || continue
    tr '\0' '\n' < "$process/cmdline" 2> /dev/null | grep -qx "run.dir=$1" && echo "${process#/proc/}"
  done
}

# gone RUN_DIR: whether no rank is left that trains there.
gone() { [ -z "$(processes_of "$1" "$NEUROSHARD")" ]; }
