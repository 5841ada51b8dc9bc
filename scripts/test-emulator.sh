#!/usr/bin/env bash
# Checks the kernels without a GPU: builds the emulator, runs tests/cuda on it (all but whole trainings, whose
# launches are the same kernels again) and records every launch,
# then runs the launches again under AddressSanitizer and UndefinedBehaviorSanitizer, under
# ThreadSanitizer (the small ones), and in three orders of threads. At last it plants bugs, one at a time,
# and demands that each is caught. `--no-planted` leaves that out.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! command -v g++ >/dev/null; then
  echo "SKIPPED LOUDLY: $(basename "$0"): g++ is missing (apt install g++)"
  exit 0
fi
if [ ! -f target/cuda/nvidia/cu13/include/cuda_bf16.h ] && [ ! -f "${CUDA_HOME:-}/include/cuda_bf16.h" ]; then
  echo "SKIPPED LOUDLY: $(basename "$0"): CUDA's headers are missing (scripts/setup-cuda.sh)"
  exit 0
fi

out=target/emulator
trace=$out/trace
export ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
export TSAN_OPTIONS=halt_on_error=1:exitcode=66
# A kernel that waits for what never comes, or for another block, would go on for ever.
LIMIT_S=600

# A race shows in a few small launches of a kernel as well as in many.
tsan() { timeout $LIMIT_S "$1"/replay_tsan $trace --max-threads 8192 --per-kernel 3 "${@:2}"; }
asan() { timeout $LIMIT_S "$1"/replay_asan $trace --per-kernel 12 "${@:2}"; }
plain() { timeout $LIMIT_S "$1"/replay $trace "${@:2}"; }

scripts/build-emulator.sh library replay replay_asan replay_tsan
rm -f $trace
NEUROSHARD_EMULATOR=$out/libneuroshard_emulator.so NEUROSHARD_EMULATOR_TRACE=$PWD/$trace \
  cargo test --locked --test cuda -- --skip training
[ -s $trace ] || { echo "FAIL: the tests recorded no launch" >&2; exit 1; }

for order in ascending descending random; do
  echo "-- $order order"
  plain $out --order $order
done
echo "-- AddressSanitizer, UndefinedBehaviorSanitizer"
asan $out
echo "-- ThreadSanitizer"
tsan $out
[ "${1:-}" != --no-planted ] || exit 0

# Planted bugs: file (a header: and the file that is compiled with it) | start of the kernels' names | the line's number among those with the text | the text
# | what stands there instead.
PLANTED='
elementwise.cu|elementwise_first|1|atomicMin(found, (unsigned long long)i)|*found = min(*found, (unsigned long long)i)
cross_entropy.cu|cross_entropy|1|__syncthreads();|
cross_entropy.cu|cross_entropy|2|__syncthreads();|
cross_entropy.cu|cross_entropy|1|larger(a, b)|a
embedding.cu|embedding_backward|1|__syncthreads();|
embedding.cu|embedding_backward|2|__syncthreads();|
embedding.cu|embedding_backward|3|__syncthreads();|
embedding.cu|embedding_backward|1|n < rows && token < vocab|n <= rows \&\& token < vocab
matmul.cu|matmul|1|__syncthreads();|
matmul.cu|matmul|2|__syncthreads();|
embedding.cu|embedding_backward|1|int positions[COLLECTED]|int positions[COLLECTED / 4]
matmul.cu|matmul|2|column(j) < n|column(j) <= n
matmul_tc.cu|matmul|1|__syncthreads();|
matmul_tc.cu|matmul|1|cp_async_wait<STAGES - 2>|cp_async_wait<STAGES - 1>
matmul_tc.cu|matmul|1|lane % 4 * 2 + e % 2|lane % 4 * 2 + e / 2
rmsnorm.cu|rmsnorm_backward|1|__syncthreads();|
attention.cu|attention|1|__syncwarp();|
attention.cu|attention|2|__syncwarp();|
attention_forward_tc.cu|attention|1|__syncthreads();|
attention_forward_tc.cu|attention|1|cp_async_wait<0>();|
attention_tc.cuh attention_forward_tc.cu|attention_forward_tc|1|highest, 2)|highest, 4)
attention_backward_tc.cu|attention|1|__syncthreads();|
attention_backward_tc.cu|attention|2|__syncthreads();|
attention_backward_tc.cu|attention|1|cp_async_wait<0>();|
attention_backward_wgmma.cu|attention_backward_keys_w|1|1 + ROWS|1
attention_backward_wgmma.cu|attention_backward_keys_w|1|__syncwarp();|
attention_backward_wgmma.cu|attention_backward_keys_w|1|wgmma_wait<0>();|
attention_backward_wgmma.cu|attention_backward_keys_w|1|if (turn > 0) barrier_wait|if (turn > 1) barrier_wait
attention_backward_wgmma.cu|attention_backward_queries_w|1|wgmma_wait<1>();|wgmma_wait<2>();
attention_backward_wgmma.cu|attention_backward_keys_w|1|barrier_wait(&barriers.own, 0);|
attention_backward_wgmma.cu|attention_backward_queries_w|2|barrier_wait(&barriers.own, 0);|
attention_forward_wgmma.cu|attention_forward_w|1|barrier_wait(&barriers.queries, 0);|
'

planted=$out/planted
rm -rf "$planted" && mkdir -p "$planted"

# with_bug FOLDER PROGRAM FILE: builds one program with the bug in it; only the file that has it is compiled.
with_bug() {
  local objects=$1/$2.objects
  cp -a "$out/$2.objects" "$1/"
  rm -f "$objects/${3%.cu}.kernel.o"
  scripts/build-emulator.sh --kernels "$1/kernels" --out "$1" "$2" >/dev/null
  rm -rf "$objects"
}

# seek FOLDER FILES NAMES NUMBER TEXT INSTEAD: plants one bug, and says in FOLDER/verdict what caught it.
seek() {
  local folder=$1 file=${2% *} compiled=${2#* } names=$3 number=$4 text=$5 instead=$6 by= order
  mkdir -p "$folder/kernels"
  cp -a kernels/*.cu kernels/*.cuh "$folder/kernels/"
  awk -v wanted="$number" -v text="$text" -v instead="${instead//\\/}" '
    (at = index($0, text)) && ++seen == wanted {
      $0 = substr($0, 1, at - 1) instead substr($0, at + length(text)); done = 1
    }
    { print }
    END { exit !done }' "kernels/$file" >"$folder/kernels/$file" ||
    { echo "FAIL: $file has no line $number with $text" >"$folder/verdict"; return; }
  with_bug "$folder" replay "$compiled"
  for order in ascending descending random; do
    [ -n "$by" ] || plain "$folder" --order $order --only "$names" >"$folder/said" 2>&1 || by="$order order"
  done
  if [ -z "$by" ]; then
    with_bug "$folder" replay_tsan "$compiled"
    tsan "$folder" --only "$names" >"$folder/said" 2>&1 || by=ThreadSanitizer
  fi
  if [ -z "$by" ]; then
    with_bug "$folder" replay_asan "$compiled"
    asan "$folder" --only "$names" >"$folder/said" 2>&1 || by=AddressSanitizer
  fi
  [ -z "$by" ] && by=MISSED || by="caught by $by"
  echo "$by: $file, $text ($number) -> ${instead:-nothing}" >"$folder/verdict"
}

# As many at a time as there are cores.
count=0
while IFS='|' read -r files names number text instead; do
  [ -n "$files" ] || continue
  count=$((count + 1))
  while [ "$(jobs -rp | wc -l)" -ge "$(nproc)" ]; do wait -n || true; done
  folder=$planted/$count
  mkdir "$folder"
  {
    # What cannot be built ends `seek` without a verdict: it is not caught by failing.
    set +e
    (set -e; seek "$folder" "$files" "$names" "$number" "$text" "$instead")
    [ -s "$folder/verdict" ] || echo "FAIL: $files, $text ($number): could not be tried" >"$folder/verdict"
    cat "$folder/verdict"
    find "$folder" -mindepth 1 ! -name verdict -delete
  } </dev/null &
done <<<"$PLANTED"
wait
caught=$(cat "$planted"/*/verdict | grep -c '^caught') || true
rm -rf "$planted"
echo "$caught of $count planted bugs caught"
[ "$caught" = "$count" ]
