"""What the bench `robustness` does, with pandas and NumPy: `python3 robustness.py FOLDER`, the folder being the bench's argument.

Reads the million rows of `predictions.csv`, groups them by model, group and class, and fits 43 models on probit axes with 10,000 resamples of
13,100 images and of models.
"""

import sys
import time

import numpy as np
import pandas as pd
from scipy.stats import norm


def once(what, work):
    cpu, wall = time.process_time(), time.perf_counter()
    result = work()
    print(f"{what}: {time.perf_counter() - wall:.2f} s wall, {time.process_time() - cpu:.2f} s CPU")
    return result


def imported(path):
    rows = pd.read_csv(path) if path.endswith("csv") else pd.read_json(path, lines=True)
    rows["right"] = rows["class"] == rows["prediction"]
    return rows.groupby(["model", "group", "class"])["right"].mean().groupby(["model", "group"]).mean()


def fit(common, counter, at):
    x, y = norm.ppf(common[at]), norm.ppf(counter[at])
    slope = np.cov(x, y, bias=True)[0, 1] / x.var()
    return slope, y.mean() - slope * x.mean()


def fits(n_resamples):
    rng = np.random.default_rng(2)
    classes = [np.arange(n) % 45 for n in (7174, 5926)]
    p = 0.6 + 0.3 * np.arange(43) / 43
    right = [rng.random((len(of), 43)) < q for of, q in zip(classes, (p, p - 0.15))]
    cells = [[np.flatnonzero(of == c) for c in range(45)] for of in classes]
    found = []
    for _ in range(n_resamples):
        balanced = []
        for group in (0, 1):
            draws = (at[rng.integers(0, len(at), len(at))] for at in cells[group])
            balanced.append(np.mean([right[group][at].mean(0) for at in draws], 0))
        slope, intercept = fit(*balanced, rng.integers(0, 15, 15))
        off = balanced[1] - norm.cdf(intercept + slope * norm.ppf(balanced[0]))
        found.append((slope, intercept, off[15:][rng.integers(0, 28, 28)].mean()))
    return np.percentile(found, [2.5, 97.5], axis=0)


for name in ("csv", "jsonl"):
    once(f"1,000,000 prediction rows of {name}", lambda: imported(f"{sys.argv[1]}/predictions.{name}"))
once("probit fits, 1,000 resamples of 13,100 images and 43 models (a tenth)", lambda: fits(1000))
