"""Writes tests/golden/llama-*.safetensors: small Llamas of Hugging Face's transformers, with what
PyTorch makes of them in f32. See tests/golden/README.md.

Needs torch, transformers, safetensors. Run from the repository's root:
    python3 scripts/golden/make_llama.py
Each file holds, under Hugging Face's names, every weight (as bf16, which it is exactly), and as
`grad.` + name its gradient of the mean loss (f32); `tokens` and `targets` (B, T), `logits`
(B, T, V), `losses` (B, T). Metadata `made`: JSON of the configuration, seed and versions. The same
versions write the same bytes.
"""

import json
import pathlib

import torch
import transformers
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM

FOLDER = pathlib.Path("tests/golden")
# What Hugging Face calls them: hidden_size, intermediate_size, ...
MODELS = {
    # Three query heads per key/value head, one group.
    "llama-groups-of-three": dict(seed=1, width=48, ffn=40, layers=2, heads=3, kv_heads=1, head_dim=16, vocab=61,
                                  tied=False, eps=1e-5, rope_base=10000.0, sequences=2, seq_len=19),
    # Two groups of three, heads wider together than the model, the embedding as LM head.
    "llama-tied": dict(seed=2, width=36, ffn=64, layers=2, heads=6, kv_heads=2, head_dim=8, vocab=97,
                       tied=True, eps=1e-5, rope_base=10000.0, sequences=2, seq_len=17),
    # Groups of two, more keys than one tile of the kernels, another base and epsilon.
    "llama-long": dict(seed=3, width=64, ffn=48, layers=1, heads=4, kv_heads=2, head_dim=16, vocab=31,
                       tied=False, eps=1e-6, rope_base=500000.0, sequences=1, seq_len=150),
}


def make(name, m):
    torch.manual_seed(m["seed"])
    config = LlamaConfig(
        hidden_size=m["width"], intermediate_size=m["ffn"], num_hidden_layers=m["layers"],
        num_attention_heads=m["heads"], num_key_value_heads=m["kv_heads"], head_dim=m["head_dim"],
        vocab_size=m["vocab"], max_position_embeddings=m["seq_len"], rms_norm_eps=m["eps"],
        tie_word_embeddings=m["tied"], use_cache=False, attn_implementation="eager",
        bos_token_id=None, eos_token_id=None, pad_token_id=None,
        # Releases differ in where the base belongs; each ignores the other's place.
        rope_theta=m["rope_base"], rope_parameters={"rope_type": "default", "rope_theta": m["rope_base"]},
    )
    model = LlamaForCausalLM(config).float().train()
    with torch.no_grad():
        for key, weight in model.named_parameters():
            # Larger weights than a fresh model's, so that every path carries a gradient.
            drawn = 1.0 + 0.3 * torch.randn_like(weight) if weight.dim() == 1 else 0.15 * torch.randn_like(weight)
            weight.copy_(drawn.bfloat16().float())
    rotary = model.model.rotary_emb.inv_freq
    assert abs(float(rotary[1]) - m["rope_base"] ** (-2 / m["head_dim"])) < 1e-6, "the rotary base was not taken"

    tokens = torch.randint(0, m["vocab"], (m["sequences"], m["seq_len"] + 1))
    tokens, targets = tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()
    logits = model(input_ids=tokens).logits
    losses = torch.nn.functional.cross_entropy(logits.transpose(1, 2), targets, reduction="none")
    losses.mean().backward()

    tensors = {"tokens": tokens.int(), "targets": targets.int(), "logits": logits.detach(), "losses": losses.detach()}
    for key, weight in model.named_parameters():
        tensors[key] = weight.detach().bfloat16()
        tensors["grad." + key] = weight.grad
    tensors = {key: value.contiguous() for key, value in tensors.items()}
    # One entry, because safetensors writes several in any order.
    made = {"config": m, "torch": torch.__version__, "transformers": transformers.__version__}
    metadata = {"made": json.dumps(made)}
    path = FOLDER / f"{name}.safetensors"
    save_file(tensors, path, metadata)
    print(f"{path}: {path.stat().st_size} bytes, mean loss {losses.mean().item():.6f}")


torch.set_num_threads(1)
for name, model in MODELS.items():
    make(name, model)
