#!/usr/bin/env bash
# Exports small trained models and compares what Hugging Face's transformers makes of the folders with
# what neuroshard says: logits, greedy text, tokens. Tied and untied, f32 and bf16, one file and many,
# the synthetic language and a trained tokenizer. About a minute after the build.
#   scripts/test-hf.sh [PROGRAM]
# Needs a Python with torch and transformers: $PYTHON, or python3. Without them it skips, and says so.
# To have them: python3 -m venv target/hf && target/hf/bin/pip install torch transformers
#   PYTHON=target/hf/bin/python scripts/test-hf.sh
# With $CONVERTER naming llama.cpp's convert_hf_to_gguf.py (and gguf installed), that is run too.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
if ! versions=$("$python" -c 'import torch, transformers, sys
print(f"Python {sys.version.split()[0]}, torch {torch.__version__}, transformers {transformers.__version__}")' 2>/dev/null); then
  echo "SKIPPED: $python has no torch and transformers, so nothing was compared with Hugging Face's" >&2
  exit 0
fi
echo "$versions"
export HF_HUB_OFFLINE=1 TRANSFORMERS_VERBOSITY=error TOKENIZERS_PARALLELISM=false
program=${1:-}
if [ -z "$program" ]; then
  cargo build --locked
  program=target/debug/neuroshard
fi
temp=$(mktemp -d)
trap 'rm -rf "$temp"' EXIT

# train NAME SETTING...: a run in profile f32 in $temp/NAME.
train() {
  local name=$1 sets=()
  shift
  for set in run.dir="$temp/$name" numerics.profile=f32 train.eval_every=0 train.eval_sequences=2 \
    train.batch_sequences=8 train.seq_len=64 model.preset=nano model.layers=3 "$@"; do
    sets+=(--set "$set")
  done
  "$program" train "${sets[@]}" >"$temp/log" 2>&1 || { cat "$temp/log" >&2; exit 1; }
}

# convert FOLDER: by llama.cpp's converter, where there is one. It knows pre-tokenizers by a hash of the
# tokens of a text, which a new vocabulary cannot have: it is told that ours splits words as GPT-2's.
convert() {
  if [ -z "${CONVERTER:-}" ]; then
    echo "  SKIPPED: not converted to GGUF, since CONVERTER names no convert_hf_to_gguf.py"
    return
  fi
  "$python" - "$CONVERTER" "$1" --outtype f32 --outfile "$temp/model.gguf" >"$temp/log" 2>&1 <<'PYTHON' || { cat "$temp/log" >&2; exit 1; }
import os, runpy, sys
sys.argv = sys.argv[1:]
sys.path.insert(0, os.path.dirname(sys.argv[0]))
import conversion.base
conversion.base.TextModel.get_vocab_base_pre = lambda self, tokenizer: "gpt-2"
runpy.run_path(sys.argv[0], run_name="__main__")
PYTHON
  echo "  converted to GGUF: $(stat -c %s "$temp/model.gguf") bytes"
}

echo "synthetic language, untied, f32, one file"
train words train.steps=30 model.vocab=512
"$program" export "$temp/words" --hf "$temp/words-hf" >/dev/null
start=$("$program" generate --checkpoint "$temp/words" --tokens 12 --temperature 1 2>/dev/null)
"$python" scripts/hf_check.py "$program" "$temp/words" "$temp/words-hf" "$start"

echo "text, a tokenizer of 600 tokens, tied, f32, files of 300 kB"
mkdir "$temp/texts"
for file in ARCHITECTURE.md CONTRIBUTING.md docs/ARITHMETIC.md; do cp "$file" "$temp/texts/$(basename "$file" .md).txt"; done
"$program" data prepare "$temp/texts" --out "$temp/data" --vocab-size 600 >/dev/null 2>&1
train text train.steps=60 data.dir="$temp/data" model.vocab=640 model.tied=true
"$program" export "$temp/text" --hf "$temp/text-hf" --max-file-bytes 300000 >/dev/null
[ "$(ls "$temp"/text-hf/model-*.safetensors | wc -l)" -gt 4 ]
prompts=("The weights are" "A sum of" "é 日本 😀 it's 12,345." "  two  spaces")
"$python" scripts/hf_check.py "$program" "$temp/text" "$temp/text-hf" "${prompts[@]}"
convert "$temp/text-hf"

echo "the same in bf16: transformers' logits, and those of the folder imported"
"$program" export "$temp/text" --hf "$temp/bf16-hf" --dtype bf16 >/dev/null
"$program" import --hf "$temp/bf16-hf" --out "$temp/back" --set numerics.profile=f32 >/dev/null
"$python" scripts/hf_check.py "$program" "$temp/back" "$temp/bf16-hf" "${prompts[@]}"

echo "all agree"
