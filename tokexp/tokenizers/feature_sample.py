"""A sample of rows that come in parts, of which not more are kept than are asked for: those with the smallest keys.

Own design. Keys are random, so that the sample is one of all rows, whatever their order; it grows by doubling, and a
full one is changed in place, so that at no time more than one and a half of it is in memory.
"""

import numpy as np
import torch
from torch import Tensor

_FIRST = 1 << 14
"""Rows that there is room for at first."""


class Sample:
    """keys: uint64 (m,). rows: float16 (m, width), on the CPU. m is at most `most`."""

    def __init__(self, most: int, width: int) -> None:
        """Take the most rows to keep, and their width."""
        self._most, self._count = most, 0
        room = min(_FIRST, most)
        self._keys, self._rows = np.empty(room, np.uint64), torch.empty(room, width, dtype=torch.float16)

    def add(self, keys: np.ndarray, rows: Tensor) -> None:
        """Take rows (n, width) with their keys (n,), as far as these are among the smallest."""
        fresh = min(len(keys), self._most - self._count)
        self._make_room(self._count + fresh)
        self._keys[self._count : self._count + fresh] = keys[:fresh]
        self._rows[self._count : self._count + fresh] = rows[:fresh]
        self._count += fresh
        if fresh < len(keys):
            self._replace(keys[fresh:], rows[fresh:])

    @property
    def keys(self) -> np.ndarray:
        """The keys of the rows."""
        return self._keys[: self._count]

    @property
    def rows(self) -> Tensor:
        """The rows, as they lie: a replaced one leaves its place to the one that came for it."""
        return self._rows[: self._count]

    def _make_room(self, count: int) -> None:
        if count <= len(self._keys):
            return
        room = min(self._most, max(count, 2 * len(self._keys)))
        keys, rows = np.empty(room, np.uint64), torch.empty(room, self._rows.shape[1], dtype=torch.float16)
        keys[: self._count], rows[: self._count] = self.keys, self.rows
        self._keys, self._rows = keys, rows

    def _replace(self, keys: np.ndarray, rows: Tensor) -> None:
        """Put rows with smaller keys in the places of those with the largest."""
        every = np.concatenate([self._keys, keys])
        kept = np.zeros(len(every), dtype=bool)
        kept[np.argsort(every, kind="stable")[: self._most]] = True
        places, entering = np.flatnonzero(~kept[: self._most]), np.flatnonzero(kept[self._most :])
        self._keys[places] = keys[entering]
        self._rows[torch.from_numpy(places)] = rows[torch.from_numpy(entering)].to(self._rows.dtype)
