"""Makes the golden folders beside this file with real transformers: small random models and their logits.

    python make.py            writes llama/ and qwen2/
    python make.py check DIR  compares a folder written by `Lm::save` with DIR/expected.safetensors

Run once with torch 2.9.1 and transformers 5.23.0; the tests only read the results.
"""

import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)

HERE = Path(__file__).parent
SHAPE = dict(
    vocab_size=64,
    hidden_size=32,
    intermediate_size=88,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=64,
    initializer_range=0.2,
    bos_token_id=1,
    eos_token_id=2,
    pad_token_id=0,
)
LLAMA3 = dict(
    rope_type="llama3",
    rope_theta=10000.0,
    factor=4.0,
    low_freq_factor=1.0,
    high_freq_factor=4.0,
    original_max_position_embeddings=32,
)


def tokenizer():
    words = ["<pad>", "<bos>", "<eos>", "<unk>"] + [f"w{i}" for i in range(4, 64)]
    inner = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    special = dict(pad_token="<pad>", bos_token="<bos>", eos_token="<eos>", unk_token="<unk>")
    return PreTrainedTokenizerFast(tokenizer_object=inner, **special)


def logits(folder, ids):
    """Of the folder as it is read back, in float32."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        return model(ids).logits


def make(name, model, **save):
    for key, parameter in model.named_parameters():
        if key.endswith("bias") or "norm" in key:
            parameter.data += torch.randn_like(parameter) * 0.2
    folder = HERE / name
    model.save_pretrained(folder, **save)
    tokenizer().save_pretrained(folder)
    ids = torch.randint(0, SHAPE["vocab_size"], (2, 40))
    save_file({"ids": ids, "logits": logits(folder, ids)}, folder / "expected.safetensors")


def check(folder):
    expected = load_file(Path(folder) / "expected.safetensors")
    gap = (logits(folder, expected["ids"]) - expected["logits"]).abs().max().item()
    text = AutoTokenizer.from_pretrained(folder).decode([4, 5, 6])
    print(f"{folder}: largest difference {gap:.2e}, decodes {text!r}")


if __name__ == "__main__":
    torch.manual_seed(0)
    if sys.argv[1:2] == ["check"]:
        check(sys.argv[2])
    else:
        config = LlamaConfig(**SHAPE, rms_norm_eps=1e-5, tie_word_embeddings=False, rope_parameters=LLAMA3)
        make("llama", LlamaForCausalLM(config).to(torch.bfloat16))
        rope = dict(rope_type="default", rope_theta=1000000.0)
        config = Qwen2Config(**SHAPE, rms_norm_eps=1e-6, tie_word_embeddings=True, rope_parameters=rope)
        make("qwen2", Qwen2ForCausalLM(config), max_shard_size="60KB")
