#!/usr/bin/env bash
# Builds the emulator: kernels/*.cu compiled by g++, with kernels/emulator as the GPU.
#
#   scripts/build-emulator.sh [--kernels FOLDER] [--out FOLDER] [TARGET...]
#
# Targets: library (the default; libneuroshard_emulator.so, a CUDA device for `neuroshard` and
# tests/cuda), and replay, replay_asan, replay_tsan, which run recorded launches again. Needs g++ and
# CUDA's headers (scripts/setup-cuda.sh). Compiles only what has changed.
set -euo pipefail
cd "$(dirname "$0")/.."

kernels=kernels out=target/emulator targets=()
while [ $# -gt 0 ]; do
  case $1 in
    --kernels) kernels=$2; shift 2 ;;
    --out) out=$2; shift 2 ;;
    library | replay | replay_asan | replay_tsan) targets+=("$1"); shift ;;
    *) echo "unknown argument $1; see the head of $0" >&2; exit 2 ;;
  esac
done
[ ${#targets[@]} -gt 0 ] || targets=(library)

include=${CUDA_HOME:-}/include
[ -f "$include/cuda_bf16.h" ] || include=target/cuda/nvidia/cu13/include
if [ ! -f "$include/cuda_bf16.h" ]; then
  echo "CUDA's headers are missing: run scripts/setup-cuda.sh, or set CUDA_HOME" >&2
  exit 1
fi
command -v g++ >/dev/null || { echo "g++ is missing: apt install g++" >&2; exit 1; }
emulator=kernels/emulator
mkdir -p "$out"

# No contraction: a product and a sum are two roundings. Device code reads memory as other types.
COMMON=(-std=c++17 -g1 -fPIC -ffp-contract=off -fno-strict-aliasing -Wall -Wextra
  -Wno-unknown-pragmas -Wno-unused-function -Wno-unused-parameter -Wno-sign-compare -isystem "$include" -isystem "$include/cccl"
  -I "$emulator")
SOURCES=(scheduler warp hopper tensor_core)

# Flags of a kernel and of the emulator's own files.
flags() {
  case $1 in
    library | replay) kernel=(-O1) own=(-O2) ;;
    replay_asan) kernel=(-O1 -fsanitize=address,undefined -fno-sanitize-recover=undefined)
      own=(-O1 -fsanitize=address) ;;
    replay_tsan) kernel=(-O1 -fsanitize=thread) own=(-O2 -DCUDA_CPU_TSAN) ;;
  esac
}

# Whether the file $1 is missing or older than one of the others.
stale() {
  local made=$1 source
  shift
  [ -f "$made" ] || return 0
  for source; do [ "$source" -nt "$made" ] && return 0; done
  return 1
}

# A C++ file that includes a .cu file, in a namespace of its own (as each .cu file is a program of its own
# on a GPU), and registers its kernels.
wrap() {
  local file=$1 wrapped=$2 stem names name
  stem=$(basename "$file" .cu)
  names=$(g++ "${COMMON[@]}" -w -E -P -DCUDA_CPU_LIST_KERNELS -include cuda_cpu.h -x c++ "$file" |
    tr '\n' ' ' | grep -oE 'extern "C" +__global__ +void +[A-Za-z_0-9]+' | sed 's/.* //' | sort)
  {
    echo "namespace kernels_$stem {"
    echo "#include \"$(realpath "$file")\""
    for name in $names; do echo "CUDA_CPU_KERNEL($name)"; done
    echo "}"
  } >"$wrapped"
}

build() {
  local target=$1 folder=$out/$1.objects objects=() kernel own headers file object
  mkdir -p "$folder"
  flags "$target"
  headers=("$emulator"/*.h "$0")
  for file in "$kernels"/*.cu; do
    object=$folder/$(basename "$file" .cu).kernel.o
    objects+=("$object")
    if stale "$object" "$file" "$kernels"/*.cuh "${headers[@]}"; then
      wrap "$file" "${object%.o}.cc"
      echo "g++ ${COMMON[*]} ${kernel[*]} -include cuda_cpu.h -c ${object%.o}.cc -o $object"
    fi
  done >"$folder/commands"
  for file in "$kernels"/*.cu; do objects+=("$folder/$(basename "$file" .cu).kernel.o"); done
  local own_files=("${SOURCES[@]}" trace)
  [ "$target" = library ] && own_files+=(library) || own_files+=(replay)
  for file in "${own_files[@]}"; do
    object=$folder/$file.own.o
    objects+=("$object")
    if stale "$object" "$emulator/$file.cc" "${headers[@]}"; then
      echo "g++ ${COMMON[*]} ${own[*]} -c $emulator/$file.cc -o $object" >>"$folder/commands"
    fi
  done
  xargs -r -P "${JOBS:-2}" -I{} sh -c '{}' <"$folder/commands"
  # What a kernel's removed file left behind is not linked.
  mapfile -t objects < <(printf '%s\n' "${objects[@]}" | sort -u)
  local made=$out/$target link=()
  [ "$target" = library ] && made=$out/libneuroshard_emulator.so link=(-shared -Wl,-Bsymbolic)
  [[ $target = replay_asan ]] && link=(-fsanitize=address,undefined)
  [[ $target = replay_tsan ]] && link=(-fsanitize=thread)
  if stale "$made" "${objects[@]}"; then
    g++ "${objects[@]}" "${link[@]}" -o "$made.new"
    mv "$made.new" "$made"
  fi
  echo "built $made"
}

for target in "${targets[@]}"; do build "$target"; done
