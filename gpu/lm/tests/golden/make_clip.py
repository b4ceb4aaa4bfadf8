"""Makes clip/ beside this file with real transformers: a small random CLIP, a picture, and what becomes of them.

    python make_clip.py

Run once with torch 2.15.0 and transformers 5.24.0; the tests only read the results. `expected.safetensors` has the token ids of
three texts, the pixels that the image processor makes of `photo.png`, and the logits per image of these pixels and of `waves`
(sines, computed alike in the tests), under `quick_gelu` as in config.json and under `gelu`.
"""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, PreTrainedTokenizerFast

FOLDER = Path(__file__).parent / "clip"
TEXTS = ["w7 w4", "w9 w12 w30 w31 w8", "w63"]
TOWER = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, initializer_range=0.2, hidden_act="quick_gelu")


def tokenizer():
    words = ["<pad>", "<unk>"] + [f"w{i}" for i in range(2, 62)] + ["<bos>", "<eos>"]
    inner = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    inner.post_processor = processors.TemplateProcessing(single="<bos> $A <eos>", special_tokens=[("<bos>", 62), ("<eos>", 63)])
    special = dict(pad_token="<pad>", bos_token="<bos>", eos_token="<eos>", unk_token="<unk>")
    return PreTrainedTokenizerFast(tokenizer_object=inner, **special)


def photo():
    y, x = np.mgrid[0:47, 0:61]
    channels = [128 + 100 * np.sin(x / 5.0 + y / 9.0), 128 + 90 * np.cos(y / 4.0), 40 + 3 * x + 0 * y]
    return Image.fromarray(np.clip(np.stack(channels, -1), 0, 255).astype(np.uint8))


torch.manual_seed(7)
config = CLIPConfig(
    text_config=dict(TOWER, vocab_size=64, max_position_embeddings=16, bos_token_id=62, eos_token_id=63, pad_token_id=0),
    vision_config=dict(TOWER, image_size=32, patch_size=8),
    projection_dim=24,
)
model = CLIPModel(config).eval()
with torch.no_grad():
    for parameter in model.parameters():
        # Norms and biases too, so that each is seen.
        parameter.add_(0.1 * torch.randn_like(parameter))
tokens = tokenizer()
processor = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
model.save_pretrained(FOLDER)
tokens.save_pretrained(FOLDER)
processor.save_pretrained(FOLDER)
photo().save(FOLDER / "photo.png")

ids = [tokens(text)["input_ids"] for text in TEXTS]
pixels = processor(Image.open(FOLDER / "photo.png"), return_tensors="pt")["pixel_values"]
waves = torch.sin(0.37 * torch.arange(3 * 32 * 32, dtype=torch.float64)).to(torch.float32).reshape(1, 3, 32, 32)
out = {f"ids{at}": torch.tensor(row) for at, row in enumerate(ids)}
out["pixels"] = pixels.to(torch.float16)
for act in ("quick_gelu", "gelu"):
    for tower in (config.text_config, config.vision_config):
        tower.hidden_act = act
    again = CLIPModel.from_pretrained(FOLDER, config=config, dtype=torch.float32).eval()
    with torch.no_grad():
        for name, images in (("photo", pixels), ("waves", waves)):
            rows = [again(input_ids=torch.tensor([row]), pixel_values=images).logits_per_image[0, 0] for row in ids]
            out[f"{act}.{name}"] = torch.stack(rows)
save_file({name: tensor.contiguous() for name, tensor in out.items()}, FOLDER / "expected.safetensors")
print({name: tensor for name, tensor in out.items() if tensor.numel() < 10})
