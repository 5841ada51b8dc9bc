"""Writes tests/golden/hf-folder: a tiny random Llama as Hugging Face's transformers saves it, in two
files with an index, and tests/golden/hf-folder/logits.json: what PyTorch makes of it in f32. See
tests/golden/README.md.

Needs torch, transformers. Run from the repository's root:
    python3 scripts/golden/make_hf_folder.py
The same versions write the same bytes.
"""

import json
import pathlib
import shutil

import torch
import transformers
from transformers import LlamaConfig, LlamaForCausalLM

FOLDER = pathlib.Path("tests/golden/hf-folder")

torch.set_num_threads(1)
torch.manual_seed(5)
config = LlamaConfig(
    hidden_size=24, intermediate_size=20, num_hidden_layers=2, num_attention_heads=6, num_key_value_heads=2,
    head_dim=6, vocab_size=23, max_position_embeddings=40, rms_norm_eps=1e-5, tie_word_embeddings=True,
    bos_token_id=None, eos_token_id=3, pad_token_id=None, rope_theta=20000.0,
    rope_parameters={"rope_type": "default", "rope_theta": 20000.0}, attn_implementation="eager",
)
model = LlamaForCausalLM(config).eval()
with torch.no_grad():
    for weight in model.parameters():
        # Larger than a fresh model's, so that every weight shows in the logits.
        drawn = 1.0 + 0.3 * torch.randn_like(weight) if weight.dim() == 1 else 0.2 * torch.randn_like(weight)
        weight.copy_(drawn)
model = model.half()
shutil.rmtree(FOLDER, ignore_errors=True)
model.save_pretrained(FOLDER, max_shard_size="8KB", safe_serialization=True)
# What stands in the folder is f16; logits are of these weights, computed in f32. Loaded anew, because
# half() has rounded the rotary frequencies too.
model = LlamaForCausalLM.from_pretrained(FOLDER, dtype=torch.float32, attn_implementation="eager").eval()
tokens = torch.randint(0, 23, (1, 15))
with torch.no_grad():
    logits = model(input_ids=tokens).logits[0]
said = {"torch": torch.__version__, "transformers": transformers.__version__,
        "tokens": tokens[0].tolist(), "logits": [[float(x) for x in row] for row in logits]}
(FOLDER / "logits.json").write_text(json.dumps(said) + "\n")
for path in sorted(FOLDER.iterdir()):
    print(f"{path}: {path.stat().st_size} bytes")
