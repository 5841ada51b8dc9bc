"""Times PyTorch's, and where installed Liger's, operations on a GPU at the shapes of `neuroshard bench kernels`.

    python3 scripts/bench_peers_gpu.py --ours kernels.jsonl [--steps steps.jsonl] [--out peers.jsonl] [--dry-run]

Reads our rows (JSON lines of `neuroshard bench kernels --json`, and of whole steps by scripts/gpu_check.sh), runs
the same operation at the same shape and type, and prints ours, theirs and the ratio (their time over ours: above 1 we
are faster). Peers of an operation: PyTorch eager, torch.compile, for attention the backends of
scaled_dot_product_attention (flash, efficient, cuDNN), and Liger's kernels where they exist. A whole step is a model of
the same shape in plain PyTorch, compiled with its best attention backend, fused AdamW, gradient clipping.

Timed as ours are: after a warm-up, single calls between two CUDA events, a 256 MB buffer overwritten before each, medians.
Bytes and FLOPs are those of our rows, so the conventions are ours (causal attention counts half of 4 B H T T D). What
PyTorch computes is not exact: it fixes no order of sums. Needs torch with CUDA; --dry-run prints the plan without.
"""

import argparse
import json
import statistics
import sys

MODELS = {  # width, layers, heads, kv_heads, head width, ffn, vocab
    "nano": (192, 6, 6, 2, 32, 512, 4096),
    "125m": (768, 12, 12, 4, 64, 2048, 32000),
    "350m": (1152, 20, 18, 6, 64, 3072, 32000),
    "1b": (1920, 24, 15, 5, 128, 5120, 32000),
}
SDPA = ("flash", "efficient", "cudnn")
FLUSH_BYTES = 256 << 20


def read_rows(path, kind):
    """The rows of one kind, or none with a word about it."""
    if not path:
        return []
    try:
        with open(path) as lines:
            rows = [json.loads(line) for line in lines if line.strip()]
    except OSError as error:
        print(f"{path}: {error.strerror}; `neuroshard bench kernels --json` writes it", file=sys.stderr)
        return []
    return [row for row in rows if row.get("kind") == kind]


def peers_of(row):
    """Names of what can be set beside a row; empty where there is nothing of the kind."""
    op, pass_ = row["op"], row["pass"]
    both = ["eager", "compile"]
    if row["dtype"] == "bf16":
        return []  # f32 tensors with products of rounded inputs: PyTorch has no such thing
    if op == "attention":
        return [f"sdpa {backend}" for backend in SDPA] if row["dtype"] == "tc" else ["sdpa efficient"]
    if op in ("rmsnorm", "swiglu") and pass_ in ("forward", "backward"):
        return both + ["liger"]
    known = {"matmul": ("forward", "backward_input", "backward_weight"), "rmsnorm": ("forward_residual",),
             "rope": ("forward",), "cross_entropy": ("forward", "forward_backward"), "adamw": ("update",),
             "embedding": ("forward", "backward"), "elementwise": ("copy", "add", "round", "widen")}
    if pass_ not in known.get(op, ()):
        return []
    return ["fused"] if op == "adamw" else both


def make(torch, row, peer):
    """A function that does once what the row did, by the peer."""
    functional = torch.nn.functional
    shape = [int(extent) for extent in row["shape"].split("x")]
    dtype = torch.bfloat16 if row["dtype"] == "tc" else torch.float32
    op, pass_ = row["op"], row["pass"]

    def new(*extents, dtype=dtype, grad=False):
        return torch.randn(*extents, device="cuda", dtype=dtype).requires_grad_(grad)

    def compiled(function):
        return torch.compile(function) if peer == "compile" else function

    def backward_of(function, inputs, dout):
        """Only the backward pass: the graph is kept, gradients are returned and not added."""
        out = compiled(function)(*inputs)
        return lambda: torch.autograd.grad(out, inputs, dout, retain_graph=True)

    if op == "matmul":
        n, i, o = shape
        a, b = {"forward": (new(n, i), new(o, i)), "backward_input": (new(n, o), new(o, i)),
                "backward_weight": (new(n, o), new(n, i))}[pass_]
        body = {"forward": lambda a, b: a @ b.T, "backward_input": lambda a, b: a @ b,
                "backward_weight": lambda a, b: a.T @ b}[pass_]
        body = compiled(body)
        return lambda: body(a, b)
    if op == "attention":
        from torch.nn.attention import SDPBackend, sdpa_kernel
        backend = {"flash": SDPBackend.FLASH_ATTENTION, "efficient": SDPBackend.EFFICIENT_ATTENTION,
                   "cudnn": SDPBackend.CUDNN_ATTENTION}[peer.split()[1]]
        b, t, h, k, d = shape
        query, key, value = (new(b, heads, t, d, grad=True) for heads in (h, k, k))

        def attend():
            with sdpa_kernel(backend):
                if peer == "sdpa efficient" and h != k:  # it knows no groups of heads
                    wide = [x.repeat_interleave(h // k, 1) for x in (key, value)]
                    return functional.scaled_dot_product_attention(query, *wide, is_causal=True)
                return functional.scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=True)

        if pass_ == "forward":
            return no_grad(torch, attend)
        out, dout = attend(), new(b, h, t, d)
        return lambda: torch.autograd.grad(out, (query, key, value), dout, retain_graph=True)
    if op == "rmsnorm":
        n, c = shape
        inp, weight = new(n, c, grad=True), new(c, grad=True)
        if peer == "liger":
            from liger_kernel.ops.rms_norm import LigerRMSNormFunction
            function = lambda x, w: LigerRMSNormFunction.apply(x, w, 1e-5)
        else:
            function = lambda x, w: functional.rms_norm(x, (c,), w, 1e-5)
        if pass_ == "backward":
            return backward_of(function, (inp, weight), new(n, c))
        if pass_ == "forward_residual":
            residual = new(n, c)
            body = compiled(lambda r, x, w: (lambda s: (s, functional.rms_norm(s, (c,), w, 1e-5)))(r + x))
            return no_grad(torch, lambda: body(residual, inp, weight))
        body = compiled(function)
        return no_grad(torch, lambda: body(inp, weight))
    if op == "swiglu":
        n, f = shape
        gate, up = new(n, f, grad=True), new(n, f, grad=True)
        if peer == "liger":
            from liger_kernel.ops.swiglu import LigerSiLUMulFunction
            function = LigerSiLUMulFunction.apply
        else:
            function = lambda g, u: functional.silu(g) * u
        if pass_ == "backward":
            return backward_of(function, (gate, up), new(n, f))
        body = compiled(function)
        return no_grad(torch, lambda: body(gate, up))
    if op == "rope":
        b, t, h, k, d = shape
        x, cos, sin = new(b, t, h + k, d), new(t, 1, d // 2), new(t, 1, d // 2)

        def rotate(x, cos, sin):
            first, second = x.float().chunk(2, -1)
            return torch.cat((first * cos - second * sin, second * cos + first * sin), -1).to(x.dtype)

        body = compiled(rotate)
        return lambda: body(x, cos, sin)
    if op == "cross_entropy":
        n, v = shape
        logits, targets = new(n, v, grad=True), torch.randint(0, v, (n,), device="cuda")
        body = compiled(lambda x, t: functional.cross_entropy(x.float(), t))
        if pass_ == "forward":
            return no_grad(torch, lambda: body(logits, targets))
        return lambda: torch.autograd.grad(body(logits, targets), logits)
    if op == "adamw":
        param = torch.nn.Parameter(new(shape[0], dtype=torch.float32))
        param.grad = new(shape[0], dtype=torch.float32)
        return torch.optim.AdamW([param], lr=1e-4, fused=True).step
    if op == "embedding":
        n, c, v = shape
        table, tokens = new(v, c, grad=True), torch.randint(0, v, (n,), device="cuda")
        if pass_ == "backward":
            return backward_of(lambda w: functional.embedding(tokens, w), (table,), new(n, c))
        body = compiled(lambda w: functional.embedding(tokens, w))
        return no_grad(torch, lambda: body(table))
    (n,) = shape
    out, inp = new(n), new(n)
    body = {"copy": lambda: out.copy_(inp), "add": lambda: out.add_(inp),
            "round": lambda x=new(n, dtype=torch.float32): x.to(torch.bfloat16),
            "widen": lambda x=new(n, dtype=torch.bfloat16): x.to(torch.float32)}[pass_]
    return body


def no_grad(torch, body):
    def call():
        with torch.no_grad():
            return body()
    return call


def median_ms(torch, call, flush, seconds):
    """The median of single calls with a cold cache, in ms."""
    for _ in range(5):
        call()
    torch.cuda.synchronize()
    times = []
    while len(times) < 10 or (sum(times) < 1e3 * seconds and len(times) < 200):
        flush.zero_()
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        call()
        end.record()
        torch.cuda.synchronize()
        times.append(start.elapsed_time(end))
    return statistics.median(times)


def model_of(torch, dims, backend):
    """Our model's shape in plain PyTorch, as a function of (weights, tokens, targets) to a loss; and the weights."""
    functional = torch.nn.functional
    c, layers, h, k, d, f, v = dims

    def weight(*extents):
        return torch.nn.Parameter(0.02 * torch.randn(*extents, device="cuda"))

    def norm():
        return torch.nn.Parameter(torch.ones(c, device="cuda"))

    embedding, head, last = weight(v, c), weight(v, c), norm()
    blocks = [(norm(), weight((h + 2 * k) * d, c), weight(c, h * d), norm(), weight(2 * f, c), weight(c, f))
              for _ in range(layers)]

    def rotate(x, cos, sin):
        first, second = x.chunk(2, -1)
        return torch.cat((first * cos - second * sin, second * cos + first * sin), -1)

    def loss_of(tokens, targets, cos, sin):
        b, t = tokens.shape
        x = functional.embedding(tokens, embedding)
        for attn_norm, qkv, attn_out, ffn_norm, ffn_in, ffn_out in blocks:
            heads = functional.linear(functional.rms_norm(x, (c,), attn_norm, 1e-5), qkv).view(b, t, h + 2 * k, d)
            q, key, value = heads.transpose(1, 2).split((h, k, k), 1)
            q, key = rotate(q, cos, sin), rotate(key, cos, sin)
            if backend == "efficient" and h != k:
                key, value = (x.repeat_interleave(h // k, 1) for x in (key, value))
            attended = functional.scaled_dot_product_attention(q, key, value, is_causal=True, enable_gqa=backend != "efficient")
            x = x + functional.linear(attended.transpose(1, 2).reshape(b, t, h * d), attn_out)
            gate, up = functional.linear(functional.rms_norm(x, (c,), ffn_norm, 1e-5), ffn_in).chunk(2, -1)
            x = x + functional.linear(functional.silu(gate) * up, ffn_out)
        logits = functional.linear(functional.rms_norm(x, (c,), last, 1e-5), head)
        return functional.cross_entropy(logits.float().view(-1, v), targets.view(-1))

    return loss_of, [embedding, head, last] + [w for block in blocks for w in block]


def step_speed(torch, row, backend, seconds):
    """Tokens per second of whole steps, compiled, f32 master weights under bf16 autocast as ours keep them."""
    from torch.nn.attention import SDPBackend, sdpa_kernel
    kinds = {"flash": SDPBackend.FLASH_ATTENTION, "efficient": SDPBackend.EFFICIENT_ATTENTION,
             "cudnn": SDPBackend.CUDNN_ATTENTION}
    dims, b, t = MODELS[row["model"]], row["sequences"], row["seq_len"]
    loss_of, weights = model_of(torch, dims, backend)
    run = torch.compile(loss_of)
    optimizer = torch.optim.AdamW(weights, lr=1e-4, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    angles = torch.arange(t, device="cuda")[:, None] * 10000.0 ** (-torch.arange(dims[4] // 2, device="cuda") * 2 / dims[4])
    cos, sin = angles.cos().bfloat16(), angles.sin().bfloat16()

    def step():
        tokens = torch.randint(0, dims[6], (b, t + 1), device="cuda")
        with sdpa_kernel(kinds[backend]), torch.autocast("cuda", torch.bfloat16):
            loss = run(tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous(), cos, sin)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    flush = torch.empty(1, device="cuda")
    return b * t / (median_ms(torch, step, flush, seconds) / 1e3)


def plan(kernels, steps):
    print("PLAN (nothing is run)\n\n| operation | pass | type | shape | ours ms | peers |\n|---|---|---|---|--:|---|")
    for row in kernels:
        peers = ", ".join(peers_of(row)) or "none"
        print(f"| {row['op']} | {row['pass']} | {row['dtype']} | {row['shape']} | {row['ms_p50']:.4f} | {peers} |")
    for row in steps:
        print(f"| step | {row['model']} | {row['dtype']} | {row['sequences']}x{row['seq_len']} | | compile with "
              f"{', '.join(SDPA)} |")
    print(f"\n{sum(len(peers_of(row)) for row in kernels)} measurements of operations, {len(SDPA) * len(steps)} of steps")


def measure(torch, kernels, steps, seconds, out):
    torch.manual_seed(1)
    flush = torch.empty(FLUSH_BYTES, dtype=torch.uint8, device="cuda")
    origin = {"device": torch.cuda.get_device_name(), "torch": torch.__version__, "cuda": torch.version.cuda}

    def note(row):
        out.write(json.dumps({**row, **origin}) + "\n")
        out.flush()

    print(f"{origin}\n\n| operation | pass | type | shape | ours ms | peer | its ms | its time over ours |")
    print("|---|---|---|---|--:|---|--:|--:|")
    for row in kernels:
        for peer in peers_of(row):
            key = {name: row[name] for name in ("op", "pass", "dtype", "shape")}
            try:
                ms = median_ms(torch, make(torch, row, peer), flush, seconds)
            except Exception as error:  # a backend that refuses a shape, a package that is not installed
                why = (str(error).strip().splitlines() or [type(error).__name__])[0]
                note({"kind": "peer_failed", **key, "peer": peer, "error": why})
                print(f"| {row['op']} | {row['pass']} | {row['dtype']} | {row['shape']} | | {peer} | {why[:60]} | |")
                continue
            finally:
                torch.cuda.empty_cache()
            ratio = ms / row["ms_p50"]
            note({"kind": "peer", **key, "peer": peer, "ms_p50": ms, "ours_ms_p50": row["ms_p50"], "ratio": ratio,
                  "gb_per_s": row["bytes"] / ms / 1e6, "tflop_per_s": row["flops"] / ms / 1e9})
            print(f"| {row['op']} | {row['pass']} | {row['dtype']} | {row['shape']} | {row['ms_p50']:.4f} | {peer} "
                  f"| {ms:.4f} | {ratio:.2f} |")
    for row in steps:
        for backend in SDPA:
            try:
                speed = step_speed(torch, row, backend, 10 * seconds)
            except Exception as error:
                why = (str(error).strip().splitlines() or [type(error).__name__])[0]
                note({"kind": "peer_failed", "model": row["model"], "peer": f"compile, {backend}", "error": why})
                continue
            finally:
                torch.cuda.empty_cache()
            ratio = row["tokens_per_s"] / speed
            note({"kind": "peer_step", "model": row["model"], "peer": f"compile, {backend}", "tokens_per_s": speed,
                  "ours": row["tokens_per_s"], "ratio": ratio})
            print(f"| step | {row['model']} | {row['dtype']} | {row['sequences']}x{row['seq_len']} "
                  f"| {row['tokens_per_s']:.0f} tokens/s | compile, {backend} | {speed:.0f} tokens/s | {ratio:.2f} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ours", required=True, help="rows of `neuroshard bench kernels --json`")
    parser.add_argument("--steps", help="rows of whole steps, by scripts/gpu_check.sh")
    parser.add_argument("--out", default="peers.jsonl")
    parser.add_argument("--seconds", type=float, default=0.3, help="of timed calls for each measurement")
    parser.add_argument("--dry-run", action="store_true", help="prints what would be measured")
    args = parser.parse_args()
    kernels, steps = read_rows(args.ours, "kernel"), read_rows(args.steps, "step")
    steps = [row for row in steps if row["model"] in MODELS and row["tokens_per_s"]]
    if not kernels and not steps:
        sys.exit("there is nothing to compare with: run `neuroshard bench kernels --json FILE` first")
    if args.dry_run:
        return plan(kernels, steps)
    try:
        import torch
    except ImportError:
        sys.exit("PyTorch is not installed: pip install torch (and liger-kernel for its rows); --dry-run needs neither")
    if not torch.cuda.is_available():
        sys.exit("PyTorch sees no GPU (a build without CUDA, or no driver); --dry-run prints the plan without one")
    with open(args.out, "w") as out:
        measure(torch, kernels, steps, args.seconds, out)


if __name__ == "__main__":
    main()
