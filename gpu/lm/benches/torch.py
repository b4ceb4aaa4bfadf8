"""The twin of lm.rs: PyTorch on the same shapes, tasks and number of threads.

    python torch.py [THREADS]

A hand-written decoder (scaled_dot_product_attention, key-value cache by concatenation), which is faster than
transformers' own `generate` at these sizes.
"""

import sys
import time

# This file has the library's name: without its folder on the path the library is found.
sys.path.pop(0)
import torch  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

THREADS = int(sys.argv[1]) if len(sys.argv) > 1 else 2
VOCAB, CONTEXT, PROMPT = 128, 128, 32
SIZES = {"1m": (128, 5, 4, 344), "5m": (256, 6, 8, 688)}


class RmsNorm(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5) * self.weight


class Block(nn.Module):
    def __init__(self, width, heads, inner):
        super().__init__()
        self.heads, self.dim = heads, width // heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.gate_up = nn.Linear(width, 2 * inner, bias=False)
        self.down = nn.Linear(inner, width, bias=False)
        self.norms = nn.ModuleList([RmsNorm(width), RmsNorm(width)])

    def forward(self, x, cos, sin, cache):
        batch, n, width = x.shape
        q, k, v = self.qkv(self.norms[0](x)).view(batch, n, 3, self.heads, self.dim).permute(2, 0, 3, 1, 4)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        if cache is not None:
            if cache:
                k, v = torch.cat([cache[0], k], 2), torch.cat([cache[1], v], 2)
            cache[:] = [k, v]
        y = F.scaled_dot_product_attention(q, k, v, is_causal=n > 1)
        x = x + self.out(y.transpose(1, 2).reshape(batch, n, width))
        gate, up = self.gate_up(self.norms[1](x)).chunk(2, -1)
        return x + self.down(F.silu(gate) * up)


def rotate(x, cos, sin):
    low, high = x.chunk(2, -1)
    return torch.cat([low * cos - high * sin, high * cos + low * sin], -1)


class Decoder(nn.Module):
    def __init__(self, width, layers, heads, inner):
        super().__init__()
        self.embed = nn.Embedding(VOCAB, width)
        self.blocks = nn.ModuleList([Block(width, heads, inner) for _ in range(layers)])
        self.norm = RmsNorm(width)
        self.head = nn.Linear(width, VOCAB, bias=False)
        dim = width // heads
        angles = torch.outer(torch.arange(CONTEXT), 10000.0 ** (-torch.arange(0, dim, 2) / dim))
        self.cos, self.sin = angles.cos(), angles.sin()
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.normal_(parameter, 0, 0.02)

    def forward(self, ids, first=0, caches=None):
        x = self.embed(ids)
        cos, sin = (table[first : first + ids.shape[1]] for table in (self.cos, self.sin))
        for i, block in enumerate(self.blocks):
            x = block(x, cos, sin, None if caches is None else caches[i])
        return self.head(self.norm(x))


def report(name, times):
    rates = sorted(tokens / wall for tokens, wall, _ in times)
    per_cpu = sum(t[0] for t in times) / sum(t[2] for t in times)
    print(f"{name}: median of {len(rates)} {rates[len(rates) // 2]:.0f} tokens/s (best {rates[-1]:.0f}), {per_cpu:.0f} tokens/CPU s")


def timed(work):
    wall, cpu = time.perf_counter(), time.process_time()
    return work(), time.perf_counter() - wall, time.process_time() - cpu


@torch.no_grad()
def generate(model, prompts, n):
    caches = [[] for _ in model.blocks]
    logits = model(prompts, 0, caches)[:, -1]
    for position in range(prompts.shape[1], prompts.shape[1] + n - 1):
        ids = torch.multinomial(logits.softmax(-1), 1)
        logits = model(ids, position, caches)[:, -1]
    torch.multinomial(logits.softmax(-1), 1)
    return prompts.shape[0] * n


def train_step(model, optimiser):
    ids = torch.randint(0, VOCAB, (16, 32)).repeat(1, 5)[:, : CONTEXT + 1]
    logits = model(ids[:, :-1]).reshape(-1, VOCAB)
    loss = F.cross_entropy(logits, ids[:, 1:].reshape(-1))
    optimiser.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimiser.step()
    loss.item()
    return 16 * CONTEXT


def main():
    torch.set_num_threads(THREADS)
    torch.manual_seed(1)
    print(f"torch {torch.__version__}, {THREADS} threads")
    for name, size in SIZES.items():
        model = Decoder(*size)
        print(f"{name}: {sum(p.numel() for p in model.parameters())} parameters")
        for batch, repeats in ((1, 5), (32, 5)):
            prompts = torch.randint(0, VOCAB, (batch, PROMPT))
            generate(model, prompts, 8)
            report(f"sample {name} b={batch}", [timed(lambda: generate(model, prompts, CONTEXT - PROMPT)) for _ in range(repeats)])
        optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.99), weight_decay=0.01)
        report(f"train {name}", [timed(lambda: train_step(model, optimiser)) for _ in range(12)][2:])


main()
