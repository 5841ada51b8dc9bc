#!/usr/bin/env bash
# Looks at the pages of `neuroshard report` in a real, headless Chromium: at the width of a desk and of a
# phone, in light and in dark, each must load without a word on the console and without a request to
# any network, have lines in its pictures, and leave no empty sheet. Pages with planted faults must be
# caught. Skips loudly where there is no Chromium or no Python. NEUROSHARD_BIN names the program.
set -euo pipefail
cd "$(dirname "$0")/.."

browser=
for name in chromium chromium-browser google-chrome chrome; do
  if command -v "$name" >/dev/null; then browser=$name; break; fi
done
if [ -z "$browser" ]; then
  echo "SKIPPED LOUDLY: test-pages.sh found no Chromium (apt install chromium)"; exit 0
fi
if ! command -v python3 >/dev/null; then
  echo "SKIPPED LOUDLY: test-pages.sh found no python3 to look at screenshots with"; exit 0
fi

. scripts/requirements.sh
debug_program

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Two small trainings, and a simulation of toys.
for seed in 1 2; do
  "$program" train --set "run.dir=$work/runs/seed-$seed" --set run.seed=$seed --set model.width=24 \
    --set model.layers=1 --set model.heads=3 --set model.kv_heads=1 --set model.ffn=32 --set model.vocab=64 \
    --set train.seq_len=16 --set train.batch_sequences=4 --set train.steps=60 --set train.eval_every=20 \
    --set train.eval_sequences=2 --set device.threads=1 >/dev/null 2>&1
done
"$program" simulate docs/scenarios/toy.toml --grid aggregate.rule=mean,krum --out "$work/simulated" >/dev/null 2>&1
"$program" report "$work/runs" "$work/simulated" --out "$work/page.html" >/dev/null

# One visit: look PAGE NAME WIDTH SCHEME, where scheme 0 is dark and 1 is light.
look() {
  local at=(--headless --no-sandbox --disable-gpu --hide-scrollbars --disable-background-networking
    --disable-component-update --disable-sync --no-first-run "--user-data-dir=$work/profile"
    "--blink-settings=preferredColorScheme=$4" "--window-size=$3,900" --enable-logging=stderr
    # The browser's own wish to speak to its makers ends here.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1")
  timeout 60 "$browser" "${at[@]}" "--log-net-log=$work/$2.net" --dump-dom "file://$1" \
    >"$work/$2.dom" 2>"$work/$2.err"
  timeout 60 "$browser" "${at[@]}" "--screenshot=$work/$2.png" "file://$1" >/dev/null 2>&1
}

# What is wrong with a visit, a line each.
judge() {
  python3 - "$work/$1" "$2" "$3" <<'PYTHON'
import json, re, struct, sys, zlib

base, width, scheme = sys.argv[1], int(sys.argv[2]), sys.argv[3]
wrong = []
dom = open(base + ".dom", encoding="utf-8").read()
if "<h1>" not in dom or "</footer>" not in dom:
    wrong.append("the page did not load")
charts = re.findall(r"<svg viewBox.*?</svg>", dom, re.S)
if len(charts) < 5:
    wrong.append(f"only {len(charts)} pictures")
for chart in charts:
    if not re.search(r'<path class="l c\d[^"]*" d="M[\d.]+ [\d.]+L', chart):
        wrong.append("a picture without a line")
for line in open(base + ".err", encoding="utf-8", errors="replace"):
    if ":CONSOLE" in line:
        wrong.append("console: " + line.strip())
text = open(base + ".net", encoding="utf-8").read().rstrip()
try:
    log = json.loads(text)
except ValueError:  # A browser that is ended early leaves the list open.
    log = json.loads(text.rstrip(",") + "]}")
# The page's own requests have it as their initiator; a browser asks for things of its own, too.
params = [event.get("params", {}) for event in log["events"]]
asked = {p.get("url", "") for p in params if str(p.get("initiator", "")).startswith(("file:", "null"))}
wrong += ["request: " + url for url in sorted(asked) if re.match(r"(https?|wss?|ftp):", url)]

data, at, packed = open(base + ".png", "rb").read(), 8, b""
while at < len(data):
    length, kind = struct.unpack(">I4s", data[at:at + 8])
    body = data[at + 8:at + 8 + length]
    if kind == b"IHDR":
        columns, lines, depth, colour = struct.unpack(">IIBB", body[:10])
    packed += body if kind == b"IDAT" else b""
    at += length + 12
size = {2: 3, 6: 4}[colour]
raw, row, colours, light = zlib.decompress(packed), bytearray(columns * size), {}, 0
for y in range(lines):
    start = y * (columns * size + 1)
    kind, new = raw[start], bytearray(raw[start + 1:start + 1 + columns * size])
    for i in range(len(new)):
        a, b = (new[i - size] if i >= size else 0), row[i]
        c = row[i - size] if i >= size else 0
        if kind == 1: new[i] = (new[i] + a) & 255
        elif kind == 2: new[i] = (new[i] + b) & 255
        elif kind == 3: new[i] = (new[i] + (a + b) // 2) & 255
        elif kind == 4:
            p = a + b - c
            near = min((abs(p - a), 0, a), (abs(p - b), 1, b), (abs(p - c), 2, c))
            new[i] = (new[i] + near[2]) & 255
    row = new
    for x in range(0, columns * size, 7 * size):
        key = bytes(row[x:x + 3])
        colours[key] = colours.get(key, 0) + 1
if columns != width:
    wrong.append(f"the screenshot is {columns} wide, not {width}")
paper, count = max(colours.items(), key=lambda item: item[1])
if len(colours) < 20 or count > 0.99 * sum(colours.values()):
    wrong.append(f"an empty sheet: {len(colours)} colours")
if (sum(paper) / 3 < 128) != (scheme == "0"):
    wrong.append(f"paper of colour {tuple(paper)}, which is not the scheme's")
print("\n".join(wrong))
PYTHON
}

failed=0
for view in "desk-light 1300 1" "phone-dark 390 0"; do
  read -r name width scheme <<<"$view"
  look "$work/page.html" "$name" "$width" "$scheme"
  found=$(judge "$name" "$width" "$scheme")
  if [ -n "$found" ]; then echo "$name: $found"; failed=1; else echo "$name: passes"; fi
done

# The same eyes must see what is wrong.
python3 - "$work" <<'PYTHON'
import re, sys
work = sys.argv[1]
page = open(work + "/page.html", encoding="utf-8").read()
page = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page)
page = re.sub(r'<path class="l [^>]*>', "", page)
page = page.replace("</body>", '<img src="http://127.0.0.1:9/x.png"><script>console.error("planted")</script></body>')
open(work + "/planted.html", "w", encoding="utf-8").write(page)
PYTHON
look "$work/planted.html" planted 1300 1
found=$(judge planted 1300 1)
for word in "console: " "request: http://127.0.0.1:9/x.png" "a picture without a line"; do
  case "$found" in
    *"$word"*) ;;
    *) echo "a planted fault was not seen: $word"; failed=1 ;;
  esac
done
[ "$failed" = 0 ] && echo "pages: all well"
exit "$failed"
