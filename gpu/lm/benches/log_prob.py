"""The twin of log_prob.rs: PyTorch on the same shapes, with the logits of all tokens at once, as its cross-entropy takes them.

    python log_prob.py VOCABULARY score|train [ROWS]
"""

import resource
import sys
import time

# This folder has a file with the library's name.
sys.path.pop(0)
import torch  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

HIDDEN, INNER, HEADS, LEN = 256, 344, 4, 128


class RmsNorm(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(HIDDEN))

    def forward(self, x):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5) * self.weight


class Decoder(nn.Module):
    """One block with a tied head; positions are left out, as they cost nothing here."""

    def __init__(self, vocab):
        super().__init__()
        self.embed = nn.Embedding(vocab, HIDDEN)
        self.qkv = nn.Linear(HIDDEN, 3 * HIDDEN, bias=False)
        self.out = nn.Linear(HIDDEN, HIDDEN, bias=False)
        self.gate_up = nn.Linear(HIDDEN, 2 * INNER, bias=False)
        self.down = nn.Linear(INNER, HIDDEN, bias=False)
        self.norms = nn.ModuleList([RmsNorm() for _ in range(3)])

    def forward(self, ids):
        x = self.embed(ids)
        batch, n, _ = x.shape
        q, k, v = self.qkv(self.norms[0](x)).view(batch, n, 3, HEADS, HIDDEN // HEADS).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(y.transpose(1, 2).reshape(batch, n, HIDDEN))
        gate, up = self.gate_up(self.norms[1](x)).chunk(2, -1)
        x = x + self.down(F.silu(gate) * up)
        return self.norms[2](x) @ self.embed.weight.T


def peak_mib():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main():
    vocab, what = int(sys.argv[1]), sys.argv[2]
    n_rows = int(sys.argv[3]) if len(sys.argv) > 3 else 8
    torch.set_num_threads(1)
    model = Decoder(vocab)
    ids = torch.tensor([[(row * 7919 + at * 104_729) % vocab for at in range(LEN)] for row in range(n_rows)])
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3)

    def work(ids):
        if what == "score":
            with torch.no_grad():
                logits = model(ids[:, :-1])
                F.cross_entropy(logits.reshape(-1, vocab), ids[:, 1:].reshape(-1), reduction="none").sum().item()
            return
        logits = model(ids[:, :-1])
        loss = F.cross_entropy(logits.reshape(-1, vocab), ids[:, 1:].reshape(-1))
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()

    work(ids[:1, :2])
    own = peak_mib()
    wall, cpu = time.perf_counter(), time.process_time()
    work(ids)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(
        f"{what} {vocab} ids, {n_rows * (LEN - 1)} tokens, torch {torch.__version__}: {own:.0f} MiB of the model's own, "
        f"{peak_mib() - own:.0f} MiB on top; {wall:.2f} s, {cpu:.2f} CPU s"
    )


main()
