"""Compares a folder that `neuroshard export` made, as Hugging Face's transformers reads it, with what
`neuroshard` itself says. Called by scripts/test-hf.sh:

    python3 scripts/hf_check.py PROGRAM RUN HF_FOLDER TEXT...

RUN is a run in profile f32 with the weights of HF_FOLDER. Checks logits (f32, eager attention) to a
tolerance, and greedy text and the tokens of every TEXT exactly; with gguf installed, the tensors' names too.
"""

import json
import math
import pathlib
import subprocess
import sys
from importlib.metadata import version

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

program, run, folder, *texts = sys.argv[1:]


def neuroshard(*args):
    return subprocess.run([program, *args], check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout


def tolerance(config, tokens, largest):
    """Both round to 24 bits after every addition. A logit depends on sums of n numbers in all, one
    layer's after the other's; errors of n roundings, as independent as they are, add to sqrt(n) of
    one, which is 2^-24 of the values. Eight deviations, in both programs."""
    layer = 2 * config.hidden_size + config.num_attention_heads * config.head_dim
    layer += config.head_dim + tokens + config.intermediate_size + 2 * config.hidden_size
    n = config.num_hidden_layers * layer + 2 * config.hidden_size
    return 2 * 8 * 2**-24 * math.sqrt(n) * max(1.0, largest)


config = AutoConfig.from_pretrained(folder)
model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
assert type(model) is LlamaForCausalLM, type(model)
tied = model.lm_head.weight.data_ptr() == model.model.embed_tokens.weight.data_ptr()
assert tied == config.tie_word_embeddings, "tie_word_embeddings was not taken"
tokenizer = AutoTokenizer.from_pretrained(folder)

try:
    import gguf
    from safetensors import safe_open
except ImportError:
    print("  names not compared with llama.cpp's: no gguf here")
else:
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    tensors = [key for file in sorted(pathlib.Path(folder).glob("*.safetensors")) for key in safe_open(file, "pt").keys()]
    unknown = [key for key in tensors if names.get_name(key, try_suffixes=(".weight",)) is None]
    assert not unknown, unknown
    print(f"  llama.cpp's table has a place for each of the {len(tensors)} tensors (gguf {version('gguf')})")

for seed, count in enumerate([1, 2, config.max_position_embeddings]):
    torch.manual_seed(seed)
    tokens = torch.randint(0, config.vocab_size, (1, count))
    said = json.loads(neuroshard("logits", "--checkpoint", run, "--tokens", ",".join(map(str, tokens[0].tolist()))))
    ours = torch.tensor(said["logits"], dtype=torch.float64)
    with torch.no_grad():
        theirs = model(input_ids=tokens).logits[0].double()
    assert ours.shape == theirs.shape, (ours.shape, theirs.shape)
    largest, off = theirs.abs().max().item(), (ours - theirs).abs().max().item()
    allowed = tolerance(config, count, largest)
    print(f"  logits of {count} tokens: differ by {off:.2e} at most, allowed {allowed:.2e}, largest {largest:.2f}")
    assert off <= allowed, "logits differ"

for text in texts:
    tokens = tokenizer(text)["input_ids"]
    assert tokenizer.decode(tokens) == text, (text, tokens, tokenizer.decode(tokens))
    new = min(24, config.max_position_embeddings - len(tokens))
    ours = neuroshard("generate", "--checkpoint", run, "--greedy", "--tokens", str(new), "--prompt", text)
    with torch.no_grad():
        given = torch.tensor([tokens])
        made = model.generate(given, attention_mask=torch.ones_like(given), do_sample=False, max_new_tokens=new,
                              pad_token_id=0)
    theirs = tokenizer.decode(made[0], skip_special_tokens=True)
    # What ends in the middle of a character, `generate` does not print.
    assert ours.rstrip("\n") == theirs.rstrip("\ufffd").rstrip("\n"), (ours, theirs)
    print(f"  {len(tokens)} tokens and {new} greedy ones give the same text: {theirs!r:.60}")
