"""Times whole training steps of NeuroShard and of PyTorch side by side. See bench_peers.sh.

Each measurement is a process of its own; rounds alternate between the sides, and the tables show
medians of the rounds' tokens per second. A step is everything between two steps: batch, forward,
loss, backward, clipping, AdamW. Ours: `tokens_per_s` in the metrics of a run, which is the wall
time of whole steps. PyTorch: transformers' LlamaForCausalLM of the same shape from random weights,
fused AdamW, gradient clipping; eager and torch.compile (model and loss in one), f32 and bf16
autocast over f32 weights, as ours keeps them.

Nothing else may run meanwhile. On shared cores PyTorch's OpenMP threads wait for each other at every
operation and can lose several times more than ours, which would flatter us; the first table
says which share of the cores other processes took during each side's measurements.

AMX: where the CPU has it, PyTorch's bf16 products run on it, in eager mode and under torch.compile
alike: Inductor hands them to oneDNN (with torch 2.15, ONEDNN_VERBOSE=1 shows nothing but
`brg_matmul:avx10_1_512_amx`, and `brg_matmul:avx512_core_bf16` without it). Our bf16 sums pairs in
one chain, AMX even and odd elements apart, so its bits are not ours; PyTorch's bf16 is timed with
AMX and without (ONEDNN_MAX_CPU_ISA), and the last ratio is to its best of all.
"""

import argparse
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile
import time

MODELS = {  # width, layers, heads, kv_heads, ffn, vocab, sequences, seq_len
    "nano": (192, 6, 6, 2, 512, 4096, 4, 256),
    "tiny": (384, 6, 6, 2, 1024, 8192, 4, 256),
    "125m": (768, 12, 12, 4, 2048, 32000, 2, 512),
}
QUIET = 0.05  # share of the cores that others may take
BINARY = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", "target")) / "release" / "neuroshard"


def torch_side(model, dtype, compiled, threads, seconds):
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.set_num_threads(threads)
    torch.manual_seed(1)
    c, l, h, k, f, v, b, t = MODELS[model]
    config = LlamaConfig(hidden_size=c, num_hidden_layers=l, num_attention_heads=h, num_key_value_heads=k,
                         intermediate_size=f, vocab_size=v, max_position_embeddings=t, rms_norm_eps=1e-5,
                         tie_word_embeddings=False, attn_implementation="sdpa", use_cache=False)
    net = LlamaForCausalLM(config).train()
    opt = torch.optim.AdamW(net.parameters(), lr=1e-4, betas=(0.9, 0.95), weight_decay=0.1, fused=True)

    def loss_of(tokens, targets):
        logits = net(input_ids=tokens).logits
        return torch.nn.functional.cross_entropy(logits.reshape(-1, v).float(), targets.reshape(-1))

    run = torch.compile(loss_of) if compiled else loss_of

    def step():
        tokens = torch.randint(0, v, (b, t + 1))
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bf16"):
            loss = run(tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        opt.step()
        opt.zero_grad(set_to_none=True)

    for _ in range(3):
        step()
    times = []
    while sum(times) < seconds or len(times) < 3:
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return b * t / statistics.median(times)


def our_side(model, dtype, threads, seconds):
    *_, b, t = MODELS[model]
    with tempfile.TemporaryDirectory() as folder:
        run_dir = pathlib.Path(folder) / "run"
        settings = {"run.dir": run_dir, "model.preset": model, "numerics.profile": dtype, "device.threads": threads,
                    "train.seq_len": t, "train.batch_sequences": b, "train.micro_batch_sequences": b,
                    "train.eval_every": 0, "train.checkpoint_every": 0, "optim.clip": 1.0}
        # A first short run tells the speed, from which the number of timed steps follows.
        steps = 6
        for _ in range(2):
            command = [BINARY, "train"]
            for key, value in {**settings, "train.steps": steps}.items():
                command += ["--set", f"{key}={value}"]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            lines = [json.loads(line) for line in open(run_dir / "metrics.jsonl")]
            speeds = [line["tokens_per_s"] for line in lines if line.get("kind", "step") == "step"][3:]
            speed = statistics.median(speeds)
            steps = max(6, int(seconds * speed / (b * t)) + 3)
            settings["run.dir"] = run_dir = pathlib.Path(folder) / "run2"
        return speed


def measure(side, model, dtype, threads, seconds):
    """Tokens per second, or None where it failed."""
    if side == "ours":
        return our_side(model, dtype, threads, seconds)
    env = dict(os.environ, OMP_NUM_THREADS=str(threads))
    if side.endswith("no-amx"):
        env["ONEDNN_MAX_CPU_ISA"] = "AVX512_CORE_BF16"
    command = [sys.executable, __file__, "--one", json.dumps([model, dtype, "compile" in side, threads, seconds])]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    if done.returncode:
        print(f"  {side} {model} {dtype} failed: {done.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
        return None
    return float(done.stdout.strip().splitlines()[-1])


def busy_seconds():
    """CPU time that our cores have spent on anything at all, or that the host has taken away."""
    ours = {f"cpu{core}" for core in os.sched_getaffinity(0)}
    lines = [line.split() for line in open("/proc/stat") if line.startswith("cpu")]
    # user, nice, system, idle, iowait, irq, softirq, steal
    ticks = sum(int(fields[i]) for fields in lines if fields[0] in ours for i in (1, 2, 3, 6, 7, 8))
    return ticks / os.sysconf("SC_CLK_TCK")


def measure_and_watch(side, model, dtype, threads, seconds):
    """Tokens per second, and the share of the threads' cores that other processes took meanwhile."""
    def now():
        times = os.times()
        return time.perf_counter(), busy_seconds(), sum(times[:4])

    before = now()
    speed = measure(side, model, dtype, threads, seconds)
    wall, busy, own = (after - start for after, start in zip(now(), before))
    spare = wall * max(0, len(os.sched_getaffinity(0)) - threads)
    return speed, max(0.0, busy - own - spare) / (wall * threads)


def cpu():
    text = pathlib.Path("/proc/cpuinfo").read_text()
    name = next((l.split(":")[1].strip() for l in text.splitlines() if l.startswith("model name")), platform.machine())
    return name, " amx_bf16" in text


def print_speeds(rows):
    print(f"| {'model':6} | {'side':20} | dtype | tokens/s | taken by others |\n|---|---|---|---:|---:|")
    for row in rows:
        print(f"| {row['model']:6} | {row['side']:20} | {row['dtype']:5} | {row['tokens_per_s']:8.0f} "
              f"| {100 * row['taken_by_others']:.0f} % |")
    if any(row["taken_by_others"] > QUIET for row in rows):
        print("\nNOT TO BE QUOTED: other processes took a part of the cores; measure again on a quiet machine.")


def print_ratios(rows):
    """Our best over PyTorch's best, by model: in each dtype, and each side in whichever suits it."""
    def best(model, ours, dtypes, amx):
        fits = [r for r in rows if r["model"] == model and (r["side"] == "ours") == ours and r["dtype"] in dtypes]
        # Where nothing was timed without AMX, there is none.
        without = [r for r in fits if "no-amx" in r["side"]]
        fits = fits if amx or not without else without
        return max(fits, key=lambda r: r["tokens_per_s"], default=None)

    ratios = []
    print("\n| model | dtype | ours, tokens/s | PyTorch's best, tokens/s | which | ours / PyTorch |")
    print("|---|---|---:|---:|---|---:|")
    for model in dict.fromkeys(r["model"] for r in rows):
        for what, dtypes, amx in [("f32", ["f32"], True), ("bf16", ["bf16"], True),
                                  ("bf16, no AMX", ["bf16"], False), ("best", ["f32", "bf16"], True)]:
            ours, peer = best(model, True, dtypes, True), best(model, False, dtypes, amx)
            if ours is None or peer is None:
                continue
            ratio = ours["tokens_per_s"] / peer["tokens_per_s"]
            which = f"{peer['side'].removeprefix('torch ')} {peer['dtype']}"
            ratios.append({"model": model, "what": what, "ratio": ratio, "peer": which})
            print(f"| {model} | {what} | {ours['tokens_per_s']:.0f} | {peer['tokens_per_s']:.0f} | {which} | {ratio:.2f} |")
    return ratios


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="nano,tiny,125m")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=12.0, help="of timed steps in one measurement")
    parser.add_argument("--out", default="target/bench_peers.json")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(torch_side(*json.loads(args.one)))
        return
    name, amx = cpu()
    sides = [("ours", d) for d in ("f32", "bf16")]
    sides += [(s, d) for s in ("torch eager", "torch compile") for d in ("f32", "bf16")]
    if amx:
        sides += [(s + " no-amx", "bf16") for s in ("torch eager", "torch compile")]
    rows = []
    for model in args.models.split(","):
        found = {side: [] for side in sides}
        for _ in range(args.rounds):
            for side in sides:
                speed, others = measure_and_watch(side[0], model, side[1], args.threads, args.seconds)
                if speed:
                    found[side].append((speed, others))
                    print(f"  {model} {side[0]} {side[1]}: {speed:.0f} tokens/s", file=sys.stderr)
        for side in sides:
            if found[side]:
                speeds, others = zip(*found[side])
                rows.append({"model": model, "side": side[0], "dtype": side[1], "rounds": speeds,
                             "tokens_per_s": statistics.median(speeds), "taken_by_others": max(others)})
    print(f"\n{name}, {args.threads} threads, medians of {args.rounds} alternating rounds\n")
    print_speeds(rows)
    ratios = print_ratios(rows)
    out = pathlib.Path(args.out)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps({"cpu": name, "threads": args.threads, "rows": rows, "ratios": ratios}, indent=1))


main()
