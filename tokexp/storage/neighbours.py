"""Counts of how often codes stand beside one another, in compiled passes over all tokens.

Tokens are uint16 (N, rows * columns), row by row. A neighbour is named by (rows up, columns to the right): left is
(0, -1), up (1, 0), up-left (1, -1), up-right (1, 1). What lies outside the grid is a neighbour of its own, numbered
behind all codes.
"""

import numpy as np

from tokexp.storage.compiled import compiled

LEFT, UP, UP_LEFT, UP_RIGHT = (0, -1), (1, 0), (1, -1), (1, 1)


@compiled
def count_beside(
    tokens: np.ndarray, columns: int, up: int, right: int, context_of: np.ndarray, contexts: int, value_of: np.ndarray,
    values: int,
) -> np.ndarray:  # fmt: skip
    """Return int64 (contexts, values): how often a neighbour of that context has a code of that value beside it.

    context_of: (codes + 1,) int32, the last for outside; value_of: (codes,) int32.
    """
    found = np.zeros((contexts, values), np.int64)
    outside = context_of[-1]
    for image in range(tokens.shape[0]):
        for token in range(tokens.shape[1]):
            row, column = token // columns - up, token % columns + right
            context = outside
            if row >= 0 and 0 <= column < columns:
                context = context_of[tokens[image, row * columns + column]]
            found[context, value_of[tokens[image, token]]] += 1
    return found


@compiled
def count_pairs(tokens: np.ndarray, columns: int, groups: np.ndarray, codes: int) -> np.ndarray:
    """Return int64 (W * W, codes): how often a code follows group(left) * W + group(up); W groups, outside too."""
    width = groups.max() + 1
    found = np.zeros((width * width, codes), np.int64)
    outside = groups[-1]
    for image in range(tokens.shape[0]):
        for token in range(tokens.shape[1]):
            left = groups[tokens[image, token - 1]] if token % columns else outside
            up = groups[tokens[image, token - columns]] if token >= columns else outside
            found[left * width + up, tokens[image, token]] += 1
    return found
