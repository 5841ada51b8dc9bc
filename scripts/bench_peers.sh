#!/usr/bin/env bash
# Whole training steps against PyTorch (transformers' Llama of the same shape), both sides in one
# run on the same threads, in alternation; prints a table of speeds and one of ratios, and writes
# both as JSON.
#   scripts/bench_peers.sh [--models nano,tiny,125m] [--threads 2] [--rounds 3] [--seconds 12]
# Installs PyTorch and transformers from PyPI into target/peers (some GB); PEERS_PYTHON names a
# Python that has them already.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/requirements.sh
require_rust
require_cc

cargo build --release --locked
python=${PEERS_PYTHON:-target/peers/bin/python}
if [ -z "${PEERS_PYTHON:-}" ] && ! [ -x "$python" ]; then
  python3 -m venv target/peers || { echo "python3 with venv is missing: apt install python3-venv" >&2; exit 1; }
  target/peers/bin/pip install --quiet 'torch>=2.6' 'transformers>=4.50' numpy
fi
command -v g++ >/dev/null || install_packages g++ || echo "g++ is missing: torch.compile will be left out" >&2
exec "$python" scripts/bench_peers.py "$@"
