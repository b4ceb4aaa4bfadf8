"""The twin of rollouts.rs: PyTorch on the same shapes and number of threads.

    python rollouts.py [THREADS]

A hand-written decoder whose caches have room for all tokens from the start. Shared: each prefix is read once and its
keys and values copied for sixteen rows. Own: all rows are read.
"""

import sys
import time

# torch.py beside this file has the library's name: without the folder on the path the library is found.
sys.path.pop(0)
import torch  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

THREADS = int(sys.argv[1]) if len(sys.argv) > 1 else 2
VOCAB, WIDTH, LAYERS, HEADS, INNER = 128, 128, 5, 4, 344
CONTEXT, FORKS, PREFIXES, ROUNDS = 1024, 16, 4, 3
SIZES = [(448, 32), (224, 32), (112, 16), (96, 48), (48, 48)]
DIM = WIDTH // HEADS


class RmsNorm(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(WIDTH))

    def forward(self, x):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5) * self.weight


def rotate(x, cos, sin):
    low, high = x.chunk(2, -1)
    return torch.cat([low * cos - high * sin, high * cos + low * sin], -1)


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH, bias=False)
        self.out = nn.Linear(WIDTH, WIDTH, bias=False)
        self.gate_up = nn.Linear(WIDTH, 2 * INNER, bias=False)
        self.down = nn.Linear(INNER, WIDTH, bias=False)
        self.norms = nn.ModuleList([RmsNorm(), RmsNorm()])

    def forward(self, x, cos, sin, cache, first):
        batch, n, _ = x.shape
        q, k, v = self.qkv(self.norms[0](x)).view(batch, n, 3, HEADS, DIM).permute(2, 0, 3, 1, 4)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        cache[0][:, :, first : first + n], cache[1][:, :, first : first + n] = k, v
        k, v = cache[0][:, :, : first + n], cache[1][:, :, : first + n]
        y = F.scaled_dot_product_attention(q, k, v, is_causal=n > 1)
        x = x + self.out(y.transpose(1, 2).reshape(batch, n, WIDTH))
        gate, up = self.gate_up(self.norms[1](x)).chunk(2, -1)
        return x + self.down(F.silu(gate) * up)


class Decoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(VOCAB, WIDTH)
        self.blocks = nn.ModuleList([Block() for _ in range(LAYERS)])
        self.norm = RmsNorm()
        self.head = nn.Linear(WIDTH, VOCAB, bias=False)
        angles = torch.outer(torch.arange(CONTEXT), 10000.0 ** (-torch.arange(0, DIM, 2) / DIM))
        self.cos, self.sin = angles.cos(), angles.sin()

    def forward(self, ids, first, caches):
        x = self.embed(ids)
        cos, sin = (table[first : first + ids.shape[1]] for table in (self.cos, self.sin))
        for block, cache in zip(self.blocks, caches):
            x = block(x, cos, sin, cache, first)
        return self.head(self.norm(x[:, -1]))


def room(rows, n):
    return [[torch.empty(rows, HEADS, n, DIM) for _ in range(2)] for _ in range(LAYERS)]


@torch.no_grad()
def rollouts(model, prompts, n, shared):
    rows, prefix = prompts.shape
    caches = room(rows, prefix + n)
    if shared:
        few = room(rows // FORKS, prefix)
        logits = model(prompts[::FORKS], 0, few).repeat_interleave(FORKS, 0)
        for to, read in zip(caches, few):
            for to, read in zip(to, read):
                to[:, :, :prefix] = read.repeat_interleave(FORKS, 0)
    else:
        logits = model(prompts, 0, caches)
    for at in range(prefix, prefix + n - 1):
        logits = model(torch.multinomial(logits.softmax(-1), 1), at, caches)
    torch.multinomial(logits.softmax(-1), 1)


def main():
    torch.set_num_threads(THREADS)
    torch.manual_seed(1)
    print(f"torch {torch.__version__}, {THREADS} threads")
    model = Decoder()
    for prefix, n in SIZES:
        prompts = torch.randint(0, VOCAB, (PREFIXES, prefix)).repeat_interleave(FORKS, 0)
        spent = {True: [0.0, 0.0], False: [0.0, 0.0]}
        for turn in range(ROUNDS + 1):
            for shared in (True, False):
                wall, cpu = time.perf_counter(), time.process_time()
                rollouts(model, prompts, n, shared)
                if turn:
                    spent[shared][0] += (time.perf_counter() - wall) / ROUNDS
                    spent[shared][1] += (time.process_time() - cpu) / ROUNDS
        tokens = PREFIXES * FORKS * n
        (shared, shared_cpu), (own, own_cpu) = ([tokens / secs for secs in spent[which]] for which in (True, False))
        print(
            f"{n} tokens after {prefix}: shared {shared:.0f} tokens/s ({shared_cpu:.0f} a CPU s), "
            f"own {own:.0f} ({own_cpu:.0f}); {shared / own:.2f} times ({shared_cpu / own_cpu:.2f})",
            flush=True,
        )


main()
