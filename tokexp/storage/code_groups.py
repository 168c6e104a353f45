"""Groups of codes that predict their neighbours alike: contexts few enough to count.

Source: Dhillon, Mallela and Kumar 2003, "A divisive information-theoretic feature clustering algorithm", algorithm 1: a
code goes to the group whose distribution of neighbours codes its own counts in the fewest bits; repeated, this never
loses information about the neighbours.
"""

import numpy as np

ROUNDS = 12
_PRIOR = 0.5
"""Added to each group's counts, in parts of the overall distribution, so that nothing has probability 0."""


def group_codes(counts: np.ndarray, groups: int) -> np.ndarray:
    """Return the group (codes,) int32 of each code, by counts (codes, values) of what stands beside it.

    Groups are numbered without gaps; there may be fewer than asked for. A code that does not occur is in group 0.
    """
    whole = np.zeros(len(counts), np.int32)
    used = np.flatnonzero(counts.any(axis=1))
    if len(used):
        whole[used] = np.arange(len(used)) if groups >= len(used) else _grouped(counts[used], groups)
    return whole


def _grouped(counts: np.ndarray, groups: int) -> np.ndarray:
    codes = len(counts)
    weights = counts.astype(np.float64)
    overall = (weights.sum(0) + 1e-3) / (weights.sum() + 1e-3 * counts.shape[1])
    logs = _start(weights, overall, groups)
    found = np.zeros(codes, np.int32)
    for _ in range(ROUNDS):
        moved = np.argmax(weights @ logs.T, axis=1).astype(np.int32)
        if np.array_equal(moved, found):
            break
        found = moved
        sums = np.zeros((groups, counts.shape[1]))
        np.add.at(sums, found, weights)
        logs = _logs(sums, overall)
    return _compact(found)


def _start(weights: np.ndarray, overall: np.ndarray, groups: int) -> np.ndarray:
    """Return the log distributions (groups, values) of codes far apart: each next is the one that costs most so far."""
    logs = _logs(weights, overall)
    own = (weights * logs).sum(1)
    chosen = [int(weights.sum(1).argmax())]
    best = weights @ logs[chosen[0]]
    for _ in range(groups - 1):
        chosen.append(int((own - best).argmax()))
        best = np.maximum(best, weights @ logs[chosen[-1]])
    return logs[chosen]


def _logs(sums: np.ndarray, overall: np.ndarray) -> np.ndarray:
    strength = _PRIOR * np.sqrt(sums.sum(1, keepdims=True) + 1.0) + 1.0
    logs: np.ndarray = np.log((sums + strength * overall) / (sums.sum(1, keepdims=True) + strength))
    return logs


def _compact(groups: np.ndarray) -> np.ndarray:
    """Number groups without gaps: some may have lost all of their codes."""
    _, found = np.unique(groups, return_inverse=True)
    return found.astype(np.int32)
