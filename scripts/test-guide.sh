#!/usr/bin/env bash
# Does what docs/GUIDE.md says, block by block, as a new user would; on a small text of this project's own
# sentences, with fewer steps. Under a minute. NEUROSHARD_BIN names the program.
# Its Python block runs where $PYTHON (or python3) has torch and transformers; else that is skipped, loudly.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/requirements.sh
debug_program
program=$(realpath "$program")
python=$(command -v "${PYTHON:-python3}" || true)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
guide=$work/guide.md
cp docs/GUIDE.md "$guide"
mkdir "$work/bin" "$work/books"
ln -s "$program" "$work/bin/neuroshard"
export PATH="$work/bin:$PATH"
for file in ARCHITECTURE.md CONTRIBUTING.md docs/*.md; do
  cp "$file" "$work/books/$(basename "$file" .md).txt"
done
cd "$work"

# smaller WHAT INSTEAD: every one must be there, so the guide and this script cannot drift apart.
smaller() {
  grep -qF -- "$1" "$guide" || { echo "docs/GUIDE.md no longer says: $1" >&2; exit 1; }
  sed -i "s/$1/$2/g" "$guide"
}
smaller '--vocab-size 4096' '--vocab-size 600'
smaller 'steps = 400 ' 'steps = 24 '
smaller 'stop_after=200' 'stop_after=12'
smaller 'eval_every = 100' 'eval_every = 12'
smaller 'checkpoint_every = 100' 'checkpoint_every = 12'
smaller 'seq_len = 256' 'seq_len = 64'
smaller 'seq_len=256' 'seq_len=64'
smaller 'seq-len 256' 'seq-len 64'
smaller 'train.steps=20 ' 'train.steps=4 '

# The blocks, in order: 00.sh, 01.sh, ...
awk '/^```(sh|python)$/ {name = sprintf("%02d.%s", n++, substr($0, 4)); next}
     /^```$/ {name = ""} name {print > name}' "$guide"
grep -q 'cargo build' 00.sh || { echo "docs/GUIDE.md does not begin with the build" >&2; exit 1; }
rm 00.sh

for block in [0-9][0-9].*; do
  echo "-- $(grep -vm1 '^$' "$block")"
  case $block in
    *.sh) bash -euo pipefail "$block" >"$block.out" 2>"$block.err" ;;
    *.py*)
      if [ -n "$python" ] && "$python" -c 'import torch, transformers' 2>/dev/null; then
        HF_HUB_OFFLINE=1 "$python" "$block" >"$block.out" 2>"$block.err"
      else
        echo "   SKIPPED LOUDLY: ${python:-python3} has no torch and transformers; the export was not loaded there"
      fi ;;
  esac || { cat "$block.out" "$block.err"; echo "docs/GUIDE.md: this block failed: $block" >&2; cat "$block"; exit 1; } >&2
done

wrong() { echo "docs/GUIDE.md: $*" >&2; exit 1; }
hash_of() { neuroshard checkpoint hash "$1/checkpoints/$2" | awk '{print $NF}' | tail -1; }

# What it promises.
root=$(neuroshard data show data/books | awk '$1 == "root" {print $2}')
neuroshard data prepare books --out data/again --vocab-size 600 --licence "public domain" >/dev/null 2>&1
neuroshard data show data/again | grep -q "$root" || wrong "a second preparation has another root"
cp -r data/again data/changed
shard=data/changed/shard-000000.tokens
byte=$(od -An -tu1 -j5000 -N1 "$shard")
printf "\\x$(printf %02x $((byte ^ 1)))" | dd of="$shard" bs=1 seek=5000 conv=notrunc status=none
! neuroshard data verify data/changed >/dev/null 2>changed.err || wrong "a changed byte was not found"
grep -q shard-000000.tokens changed.err || wrong "the shard with the changed byte is not named: $(cat changed.err)"
neuroshard train --config run.toml --set run.dir=runs/whole >/dev/null 2>&1
whole=$(hash_of runs/whole 00000024)
[ ${#whole} = 64 ] || wrong "no hash of a checkpoint: $whole"
[ "$whole" = "$(hash_of runs/books 00000024)" ] || wrong "the stop changed the result"
ls runs/books/events.out.tfevents.* >/dev/null || wrong "no TensorBoard files"
! grep -qE '(src|href)="https?:' report.html || wrong "the report asks the network"
[ "$(stat -c %s proof)" -lt 6000 ] || wrong "the proof has $(stat -c %s proof) bytes"
[ -d runs/again/checkpoints/00000004 ] || wrong "no training on from the import"
echo "guide: every block does what it says"
