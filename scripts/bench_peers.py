"""Times whole training steps of NeuroShard and of PyTorch side by side. See bench_peers.sh.

Each measurement is a process of its own; rounds alternate between the sides, and the table shows
medians of the rounds' tokens per second. PyTorch: transformers' LlamaForCausalLM from random
weights, AdamW (fused), gradient clipping; eager and torch.compile, f32 and bf16 autocast.
On CPUs with AMX, PyTorch's bf16 is timed with it and without (ONEDNN_MAX_CPU_ISA).
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
SECONDS = 12.0  # of timed steps in one measurement


def torch_side(model, dtype, compiled, threads):
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.set_num_threads(threads)
    torch.manual_seed(1)
    c, l, h, k, f, v, b, t = MODELS[model]
    config = LlamaConfig(hidden_size=c, num_hidden_layers=l, num_attention_heads=h, num_key_value_heads=k,
                         intermediate_size=f, vocab_size=v, max_position_embeddings=t, rms_norm_eps=1e-5,
                         tie_word_embeddings=False, attn_implementation="sdpa", use_cache=False)
    net = LlamaForCausalLM(config).train()
    run = torch.compile(net) if compiled else net
    opt = torch.optim.AdamW(net.parameters(), lr=1e-4, betas=(0.9, 0.95), weight_decay=0.1, fused=True)

    def step():
        tokens = torch.randint(0, v, (b, t + 1))
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bf16"):
            logits = run(input_ids=tokens[:, :-1]).logits
            loss = torch.nn.functional.cross_entropy(logits.reshape(-1, v).float(), tokens[:, 1:].reshape(-1))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        opt.step()
        opt.zero_grad(set_to_none=True)

    for _ in range(3):
        step()
    times = []
    while sum(times) < SECONDS or len(times) < 3:
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return b * t / statistics.median(times)


def our_side(model, dtype, threads):
    *_, b, t = MODELS[model]
    with tempfile.TemporaryDirectory() as folder:
        run_dir = pathlib.Path(folder) / "run"
        settings = {"run.dir": run_dir, "model.preset": model, "numerics.profile": dtype, "device.threads": threads,
                    "train.seq_len": t, "train.batch_sequences": b, "train.micro_batch_sequences": b,
                    "train.eval_every": 0, "train.checkpoint_every": 0, "optim.clip": 1.0}
        # A first short run tells the speed, from which the number of timed steps follows.
        steps = 6
        for _ in range(2):
            command = ["target/release/neuroshard", "train"]
            for key, value in {**settings, "train.steps": steps}.items():
                command += ["--set", f"{key}={value}"]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            lines = [json.loads(line) for line in open(run_dir / "metrics.jsonl")]
            speeds = [line["tokens_per_s"] for line in lines if line.get("kind", "step") == "step"][3:]
            speed = statistics.median(speeds)
            steps = max(6, int(SECONDS * speed / (b * t)) + 3)
            settings["run.dir"] = run_dir = pathlib.Path(folder) / "run2"
        return speed


def measure(side, model, dtype, threads):
    if side == "ours":
        return our_side(model, dtype, threads)
    env = dict(os.environ, OMP_NUM_THREADS=str(threads))
    if side.endswith("no-amx"):
        env["ONEDNN_MAX_CPU_ISA"] = "AVX512_CORE_BF16"
    command = [sys.executable, __file__, "--one", json.dumps([model, dtype, "compile" in side, threads])]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    if done.returncode:
        print(f"  {side} {model} {dtype} failed: {done.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
        return None
    return float(done.stdout.strip().splitlines()[-1])


def cpu():
    text = pathlib.Path("/proc/cpuinfo").read_text()
    name = next((l.split(":")[1].strip() for l in text.splitlines() if l.startswith("model name")), platform.machine())
    return name, " amx_bf16" in text


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="nano,tiny,125m")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=3)
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
        speeds = {side: [] for side in sides}
        for _ in range(args.rounds):
            for side in sides:
                speed = measure(*[side[0], model, side[1]], args.threads)
                if speed:
                    speeds[side].append(speed)
                    print(f"  {model} {side[0]} {side[1]}: {speed:.0f} tokens/s", file=sys.stderr)
        for side in sides:
            if speeds[side]:
                rows.append({"model": model, "side": side[0], "dtype": side[1],
                             "tokens_per_s": statistics.median(speeds[side]), "rounds": speeds[side]})
    best = {}
    print(f"\n{name}, {args.threads} threads, medians of {args.rounds} alternating rounds\n")
    print(f"| {'model':6} | {'side':22} | dtype | tokens/s | ours (best) / this |\n|---|---|---|---:|---:|")
    for row in rows:
        if row["side"] == "ours":
            best[row["model"]] = max(best.get(row["model"], 0), row["tokens_per_s"])
    for row in rows:
        ratio = best.get(row["model"], float("nan")) / row["tokens_per_s"]
        print(f"| {row['model']:6} | {row['side']:22} | {row['dtype']:5} | {row['tokens_per_s']:8.0f} | {ratio:.2f} |")
    pathlib.Path(args.out).write_text(json.dumps({"cpu": name, "threads": args.threads, "rows": rows}, indent=1))


main()
