"""Vendi scores of outputs on standard input, six lines a prompt, in NumPy: cosine of counts of words and pairs of words, eigenvalues of
K/n, the exponential of their entropy. Prints its time, a blank line, and the scores. Run by the bench `vendi`."""

import collections
import sys
import time

import numpy as np

N_OUTPUTS = 6

texts = sys.stdin.read().splitlines()
cpu, wall = time.process_time(), time.perf_counter()
kernels = np.empty((len(texts) // N_OUTPUTS, N_OUTPUTS, N_OUTPUTS))
for prompt in range(len(kernels)):
    numbers = {}
    counts = []
    for text in texts[prompt * N_OUTPUTS : (prompt + 1) * N_OUTPUTS]:
        words = text.split()
        counts.append(collections.Counter(words) + collections.Counter(zip(words, words[1:])))
        for gram in counts[-1]:
            numbers.setdefault(gram, len(numbers))
    matrix = np.zeros((N_OUTPUTS, len(numbers)))
    for row, of in enumerate(counts):
        matrix[row, [numbers[gram] for gram in of]] = list(of.values())
    matrix /= np.linalg.norm(matrix, axis=1, keepdims=True)
    kernels[prompt] = matrix @ matrix.T
values = np.linalg.eigvalsh(kernels / N_OUTPUTS)
values = np.where(values > 0, values, 1)
scores = np.exp(-(values * np.log(values)).sum(axis=1))
print(
    f"NumPy {np.__version__}: {time.perf_counter() - wall:.2f} s wall, {time.process_time() - cpu:.2f} s CPU, "
    f"eigenvalues of all prompts in one call\n"
)
print("\n".join(repr(float(score)) for score in scores))
