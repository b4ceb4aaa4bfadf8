"""The acceptance grid of `tracker run random_features` in NumPy: `python3 random_features.py [threads]`.

The same cells, sizes and precisions (features and products f32, solutions f64), weights drawn by NumPy's own generator a network at
a time. Prints the means by cell, and wall and CPU seconds.
"""

import os
import sys
import time

os.environ["OPENBLAS_NUM_THREADS"] = sys.argv[1] if len(sys.argv) > 1 else "2"

import numpy as np  # noqa: E402

N_TEST, SIGMA, LAMBDA, TAIL = 400, 0.5, 10.0, 1.0
SIZES = [(50, 1000, 64), (100, 2828, 64), (200, 8000, 48)]


def inputs(rng, n, p):
    x = rng.standard_normal((n, p), dtype=np.float32) * np.float32((TAIL / p) ** 0.5)
    x[:, 0] *= np.float32((LAMBDA / (TAIL / p)) ** 0.5)
    return x


def cell(seed, n, p, members, width):
    rng = np.random.default_rng([seed, n, p])
    train, test = inputs(rng, n, p), inputs(rng, N_TEST, p)
    moved = test + np.float32((1 / n) ** 0.5) * rng.standard_normal((N_TEST, p), dtype=np.float32)
    y = train[:, 0].astype(float) / LAMBDA**0.5 + SIGMA * rng.standard_normal(n)
    truth = test[:, 0].astype(float) / LAMBDA**0.5
    x, m, mean = np.concatenate([train, test, moved]), width * n, 0.0
    for member in range(members):
        weights = np.random.default_rng([seed, n, p, member]).standard_normal((p, m), dtype=np.float32)
        phi = np.maximum(x @ weights, 0) * np.float32((p * m) ** -0.5)
        fitted = phi[:n].astype(float)
        gram = fitted @ fitted.T
        alpha = np.linalg.solve(gram + 1e-10 * np.trace(gram) / n * np.eye(n), y)
        mean = mean + phi[n:] @ (fitted.T @ alpha) / members
    return ((mean[:N_TEST] - truth) ** 2).mean(), ((mean[N_TEST:] - truth) ** 2).mean()


begun, cpu = time.time(), time.process_time()
for n, p, widest in SIZES:
    for members, width in [(1, 2), (1, 4), (1, 8), (1, 16), (1, widest), (4, 4), (8, 2)]:
        found = np.mean([cell(seed, n, p, members, width) for seed in range(1, 7)], axis=0)
        print(f"n {n} p {p} m {width * n} M {members}: L_ID {found[0]:.3f} L_OOD {found[1]:.3f}", flush=True)
print(f"wall {time.time() - begun:.1f} s, CPU {time.process_time() - cpu:.1f} s")
