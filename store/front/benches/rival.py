"""Measures moocore and paretoset on the inputs of `front.rs`: CPU ms (user and system), the least of several repeats.

    pip install moocore==0.3.2 paretoset==1.2.5
    python rival.py

Minimisation throughout; hypervolume against (1, …, 1). `random` is uniform in the unit cube; `front` lies on the plane
sum = 1, so that no point dominates another.
"""

import time

import moocore
import numpy as np
import paretoset


def uniform(seed, n, m):
    """SplitMix64 in the order of rows, as in front.rs."""
    with np.errstate(over="ignore"):
        z = np.uint64(seed) + np.arange(1, n * m + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    return ((z >> np.uint64(11)).astype(np.float64) * 2.0**-53).reshape(n, m)


def plane(seed, n, m):
    points = uniform(seed, n, m)
    total = points[:, 0].copy()
    for k in range(1, m):
        total += points[:, k]
    return np.ascontiguousarray(points / total[:, None])


def cpu_ms(work, repeats):
    best = float("inf")
    for _ in range(repeats):
        start = time.process_time_ns()
        result = work()
        best = min(best, (time.process_time_ns() - start) / 1e6)
    return best, result


def small_ms(work, repeats):
    """For work far below a millisecond: the mean of 50, the least of several repeats."""
    def many():
        for _ in range(50):
            result = work()
        return result

    best, result = cpu_ms(many, repeats)
    return best / 50, result


N = 100_000
for kind, make in (("random", uniform), ("front", plane)):
    for m in (2, 3, 4, 5):
        points = make(m, N, m)
        mine, mask = cpu_ms(lambda: moocore.is_nondominated(points), 5)
        line = f"first front {kind} m={m}: moocore {mine:.2f}"
        if kind == "random":
            other, _ = cpu_ms(lambda: paretoset.paretoset(points, distinct=False), 5)
            line += f" paretoset {other:.2f}"
        print(line, f"size {int(mask.sum())}", flush=True)
for m in (2, 3, 4, 5):
    points = uniform(m, N, m)
    mine, ranks = cpu_ms(lambda: moocore.pareto_rank(points), 3)
    print(f"ranks random m={m}: moocore {mine:.2f} fronts {int(ranks.max()) + 1} sum {int(ranks.sum())}", flush=True)
for kind, make in (("random", uniform), ("front", plane)):
    for m in (2, 3, 4, 5, 6):
        points = make(m, 1000, m)
        timed = small_ms if m < 5 else cpu_ms
        mine, volume = timed(lambda: moocore.hypervolume(points, ref=np.ones(m)), 5)
        print(f"hypervolume {kind} m={m}: moocore {mine:.3f} is {volume!r}", flush=True)
