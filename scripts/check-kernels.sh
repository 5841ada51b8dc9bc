#!/usr/bin/env bash
# Inspects the compiled kernels, which no test without a GPU runs: what nvcc reported (spilled registers,
# wgmma made serial, setmaxnreg ignored) and whether the instructions that make each kernel fast are there.
# Fails on any of it, and where the program was built without kernels. Prints registers and shared memory.
set -euo pipefail
cd "$(dirname "$0")/.."

# Kernels whose name matches | architecture | an instruction that each of them must have.
# HMMA and HGMMA are the tensor core's (mma.sync and wgmma), LDGSTS is cp.async, LDSM ldmatrix, UTMALDG TMA,
# USETMAXREG setmaxnreg. Through a pointer that comes from a table, LDG is LD.
TABLE='
^(elementwise_add|rmsnorm_(forward|backward_(input|groups))|swiglu).*_(f32|bf16)$|any|LDG?\.E\.128
^(rmsnorm_(forward|backward_input)|swiglu).*_(f32|bf16)$|any|STG\.E\.128
^matmul_.*_tc(_any)?$|any|HMMA
^attention_(forward|decode|backward).*_tc_|any|HMMA
^matmul_.*_tc$|sm_80|LDGSTS
^attention_(forward|decode|backward).*_tc_|sm_80|LDGSTS
^matmul_.*_tc(_any)?$|sm_80|LDSM
^attention_(forward|decode|backward).*_tc_|sm_80|LDSM
_wgmma(_|$)|sm_90a|HGMMA
_wgmma(_|$)|sm_90a|UTMALDG
_wgmma(_|$)|sm_90a|USETMAXREG
'
# A bar in the last column parts alternatives.

bin=target/cuda/nvidia/cu13/bin
if [ ! -x $bin/cuobjdump ]; then
  echo "the disassemblers are missing: run scripts/setup-cuda.sh" >&2
  exit 1
fi
export PATH="$PWD/$bin:$PATH"
work=target/check-kernels
rm -rf $work && mkdir -p $work

# Where cargo let build.rs write.
folder=$(cargo check --locked --lib --message-format=json 2>/dev/null |
  sed -n '/"build-script-executed"/s/.*#neuroshard@.*"out_dir":"\([^"]*\)".*/\1/p;
          /"build-script-executed"/s/.*neuroshard.*"out_dir":"\([^"]*neuroshard-[0-9a-f]*\/out\)".*/\1/p' | tail -1)
kernels=$folder/kernels
wanted=$(ls kernels/*.cu | wc -l)
have=$(find "$kernels" -name '*.fatbin' -size +0 2>/dev/null | wc -l)
if [ "$have" -lt "$wanted" ] || ! grep -q 'include_bytes' "$kernels/embedded.rs"; then
  echo "FAIL: $have of $wanted files of kernels/ are compiled and embedded (folder: ${kernels:-none});" \
    "run scripts/setup-cuda.sh and build again" >&2
  exit 1
fi

failed=0
fail() { echo "FAIL: $*"; failed=1; }

# 1. nvcc's reports. These are notes to it, not errors, and do not fail a build.
for source in kernels/*.cu; do
  report=$kernels/$(basename "$source" .cu).report
  if grep -nE 'Potential Performance Loss|\(C75[0-9]{2}\)' "$report"; then
    fail "$source: nvcc reports a loss"
  fi
  # kernel, architecture, registers, shared bytes, spilled bytes
  awk '
    /Compiling entry function/ { split($0, q, "\047"); kernel = q[2]; code = q[4] }
    /bytes spill stores/ {
      match($0, /[0-9]+ bytes spill stores/); stores = substr($0, RSTART) + 0
      match($0, /[0-9]+ bytes spill loads/); loads = substr($0, RSTART) + 0
    }
    /Used [0-9]+ registers/ {
      match($0, /Used [0-9]+/); registers = substr($0, RSTART + 5) + 0
      shared = match($0, /[0-9]+ bytes smem/) ? substr($0, RSTART) + 0 : 0
      print kernel, code, registers, shared, stores + loads
    }' "$report" >>$work/resources
done
while read -r kernel code registers shared spilled; do
  [ "$spilled" = 0 ] || fail "$kernel for $code spills $spilled bytes (it has $registers registers)"
done <$work/resources

# 2. The instructions: kernel, architecture, mnemonic, one line each.
for fatbin in "$kernels"/*.fatbin; do
  cuobjdump --dump-sass "$fatbin" 2>/dev/null | awk '
    /^arch = / { code = $3 }
    /Function : / { kernel = $3 }
    match($0, /\/\*[0-9a-f]+\*\/ +/) {
      rest = substr($0, RSTART + RLENGTH)
      if (rest ~ /^@/) sub(/^@!?U?P[0-9T]+ +/, "", rest)
      if (match(rest, /^[A-Z][A-Z0-9_.]*/)) print kernel, code, substr(rest, 1, RLENGTH)
    }' | sort -u >>$work/instructions
done
compiled=$(cut -d' ' -f1,2 $work/instructions | sort -u | wc -l)
[ "$compiled" -gt 0 ] || fail "no machine code in the fatbins"

while IFS= read -r row; do
  [ -n "$row" ] || continue
  code=$(grep -oE '\|(any|sm_[0-9]+a?)\|' <<<"$row" | tr -d '|')
  name=${row%%"|$code|"*} instruction=${row#*"|$code|"}
  checked=0
  while read -r kernel arch; do
    [[ $kernel =~ $name ]] || continue
    [ "$code" = any ] || [ "$code" = "$arch" ] || continue
    checked=$((checked + 1))
    awk -v k="$kernel" -v a="$arch" '$1 == k && $2 == a { print $3 }' $work/instructions |
      grep -qE "^($instruction)" || fail "$kernel for $arch has no $instruction"
  done < <(cut -d' ' -f1,2 $work/instructions | sort -u)
  [ $checked -gt 0 ] || echo "note: no kernel yet matches '$name' for $code"
done <<<"$TABLE"

awk '{ printf "%-44s %-8s %4d registers %7d bytes shared\n", $1, $2, $3, $4 }' $work/resources
[ $failed = 0 ] || exit 1
echo "$compiled kernels (by architecture) inspected: no spills, no losses, instructions as expected"
