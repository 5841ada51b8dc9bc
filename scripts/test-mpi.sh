#!/usr/bin/env bash
# Tests the ranks over real MPIs: every case on 1 to 4 ranks under each launcher that is installed, and the
# ways to end badly. What is not installed is skipped loudly.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/requirements.sh
require_rust

mpi_environment
# Seconds that one job may take before it counts as hung.
PATIENCE=${NEUROSHARD_TEST_PATIENCE:-120}

test_binary() { cargo test --locked --no-run --test collective_mpi "$@" 2>&1 |
  sed -n 's/^ *Executable .*(\(.*\))$/\1/p'; }

output=$(mktemp)
trap 'rm -f "$output"' EXIT
fail() { echo "FAILED: $*"; cat "$output"; exit 1; }

# run LAUNCHER RANKS MODE [VAR=VALUE...]: sets $code; 124 means that it hung.
run() {
  local launcher=$1 ranks=$2 mode=$3; shift 3
  code=0
  timeout -k 5 "$PATIENCE" "$launcher" -n "$ranks" \
    env NEUROSHARD_TEST_MODE="$mode" "$@" "$binary" >"$output" 2>&1 || code=$?
  [ "$code" != 124 ] || fail "$launcher -n $ranks, $mode: it hangs"
}

# Kills the last rank of a running job by kill -9; the job must end.
kill_one() {
  local launcher=$1 started pid="" i
  : >"$output"
  timeout -k 5 "$PATIENCE" "$launcher" -n 3 env NEUROSHARD_TEST_MODE=wait "$binary" >"$output" 2>&1 &
  started=$!
  for i in $(seq 300); do
    pid=$(sed -n 's/^rank 2 has process \([0-9]*\)$/\1/p' "$output")
    [ -z "$pid" ] || break
    sleep 0.2
  done
  [ -n "$pid" ] || fail "$launcher: the ranks did not come up"
  kill -9 "$pid"
  code=0
  wait "$started" || code=$?
  [ "$code" != 0 ] && [ "$code" != 124 ] || fail "$launcher: code $code after kill -9 of a rank"
}

# Every way in which ranks fail each other, each in a job of its own.
every_failure() {
  local launcher=$1 index=0
  while run "$launcher" 2 failures NEUROSHARD_TEST_FAILURE="$index"; [ "$code" != 4 ]; do
    # The job ends with this code only after all ranks have said that the case held.
    [ "$code" = 5 ] || fail "$launcher: failure $index, code $code"
    index=$((index + 1))
  done
  [ "$index" -gt 0 ] || fail "$launcher: no failures were tried"
  echo "$index ways in which ranks fail each other are named on every rank"
}

# family LAUNCHER OTHER-LIBRARY: everything under one launcher.
family() {
  local launcher=$1 other=$2 ranks
  printf '\n-- %s\n' "$launcher"
  for ranks in 1 2 3 4; do
    run "$launcher" "$ranks" cases
    [ "$code" = 0 ] && grep -q "^all cases ok on $ranks ranks" "$output" ||
      fail "$launcher -n $ranks: cases, code $code"
    grep "^all cases ok" "$output"
  done
  for ranks in 1 2 4; do
    run "$launcher" "$ranks" start
    [ "$code" = 0 ] && grep -q "^started $ranks ranks" "$output" ||
      fail "$launcher -n $ranks: start, code $code"
    [ "$(grep -c "^rank [0-9] on host .*: core.* (NUMA node.*), .*1 thread$" "$output")" = "$ranks" ] ||
      fail "$launcher -n $ranks: not every rank says where it runs"
  done
  run "$launcher" 2 start NEUROSHARD_TEST_THREADS=999
  [ "$(grep -c "^refused: host .*parallel.oversubscribe=true" "$output")" = 2 ] ||
    fail "$launcher: 999 threads a rank are not refused"
  every_failure "$launcher"
  run "$launcher" 3 panic
  [ "$code" = 101 ] || fail "$launcher: a panic of one rank, code $code instead of 101"
  ! grep -q "outlived" "$output" || fail "$launcher: ranks outlived a panic"
  run "$launcher" 3 abort
  [ "$code" = 9 ] || fail "$launcher: an abort with 9, code $code"
  run "$launcher" 3 leave
  # The code of those who noticed. (What a rank prints right before an abort may get lost.)
  [ "$code" = 7 ] || fail "$launcher: a rank that leaves early, code $code"
  kill_one "$launcher"
  run "$launcher" 2 cases NEUROSHARD_MPI_LIB=/nowhere/libmpi.so
  [ "$code" != 0 ] && grep -q "no MPI library could be loaded.*NEUROSHARD_MPI_LIB" "$output" ||
    fail "$launcher: no library, code $code"
  echo "a panic, an abort, an early end, kill -9 and a missing library each end the job"
  if ldconfig -p 2>/dev/null | grep -q "$other"; then
    run "$launcher" 2 cases NEUROSHARD_MPI_LIB="$other"
    [ "$code" != 0 ] && grep -q "does not belong to this launcher" "$output" ||
      fail "$launcher with $other: code $code"
    echo "$other of another family is refused by its size"
  else
    echo "SKIPPED LOUDLY: a library of another family, because $other is not installed"
  fi
}

# The two free MPIs, without their headers: some 10 s.
install_mpis() {
  local lack=
  command -v mpirun.openmpi >/dev/null || lack+=" openmpi-bin"
  command -v mpirun.mpich >/dev/null || lack+=" mpich"
  [ -z "$lack" ] && return
  echo "installing$lack"
  # Failing that, every_family says what is skipped.
  install_packages $lack >/dev/null 2>&1 || true
}

every_family() {
  if command -v mpirun.openmpi >/dev/null; then
    family mpirun.openmpi libmpich.so.12
  else
    echo "SKIPPED LOUDLY: Open MPI is not installed (apt install openmpi-bin)"
  fi
  if command -v mpirun.mpich >/dev/null; then
    family mpirun.mpich libmpi.so.40
  else
    echo "SKIPPED LOUDLY: MPICH is not installed (apt install mpich)"
  fi
}

# The second door, cargo feature `mpi`, is linked with the MPI whose headers are there.
linked_door() {
  local ranks lack=
  # The compiler's wrapper comes with openmpi-bin, the headers do not; of libclang only the package
  # for development has the plain names.
  [ -f "$(mpicc.openmpi --showme:incdirs 2>/dev/null | cut -d' ' -f1)/mpi.h" ] || lack+=" libopenmpi-dev"
  [ -n "$(find /usr/lib \( -name libclang.so -o -name 'libclang-[0-9]*.so' \) -print -quit)" ] || lack+=" libclang-dev"
  command -v mpirun.openmpi >/dev/null || lack+=" openmpi-bin"
  if [ -n "$lack" ]; then
    printf '\nSKIPPED LOUDLY: the cargo feature mpi (apt install%s)\n' "$lack"
    return
  fi
  printf '\n-- mpirun.openmpi, cargo feature mpi\n'
  export MPICC=mpicc.openmpi
  binary=$(test_binary --features mpi)
  [ -x "$binary" ] || { cargo test --locked --no-run --test collective_mpi --features mpi; exit 1; }
  for ranks in 1 2 3; do
    run mpirun.openmpi "$ranks" cases
    [ "$code" = 0 ] && grep "^all cases ok on $ranks ranks .*linked in" "$output" ||
      fail "feature mpi, $ranks ranks: cases, code $code"
  done
  run mpirun.openmpi 3 panic
  [ "$code" = 101 ] || fail "feature mpi: a panic of one rank, code $code instead of 101"
}

install_mpis
binary=$(test_binary)
[ -x "$binary" ] || { cargo test --locked --no-run --test collective_mpi; exit 1; }
every_family
linked_door
echo
echo "MPI: all tests passed"
