"""Random rows of a large array of tokens, gathered at nearly the speed of a copy in order.

Rows of 2 kB lie anywhere in gigabytes: what takes time is not the copy but the wait for memory, once per row, as the
processor foresees no jump. So rows are asked for ahead (LLVM's `prefetch`), into the second cache: there is room for
them there, and the few requests that a core can have under way for its first cache are left to the row being copied.
Widening to int64 happens in the same pass; written first as 16 bits, a batch would go through memory twice more.
Own design; importing this module loads numba.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from tokexp.storage.compiled import compiled

AHEAD = 4
"""Rows between the one being copied and the one being asked for. Twice and four times this is no faster."""

_LINE = 64
_READ, _SECOND_CACHE, _DATA = 0, 2, 1


def gather(tokens: np.ndarray, positions: np.ndarray, out: np.ndarray) -> None:
    """Write rows of tokens (N, P) uint16 at positions (B,) int64 into out (B, P), uint16 or int64.

    Raises IndexError for positions outside [0, N), ValueError for arrays of other shapes, types or layouts.
    """
    fits = tokens.ndim == 2 and positions.ndim == 1 and out.shape == (len(positions), tokens.shape[1])
    kinds = tokens.dtype == np.uint16 and positions.dtype == np.int64 and out.dtype in (np.uint16, np.int64)
    if not fits or not kinds or not all(each.flags.c_contiguous for each in (tokens, positions, out)):
        raise ValueError(
            f"rows of {tokens.dtype} {tokens.shape} at {positions.dtype} {positions.shape} do not go into "
            f"{out.dtype} {out.shape}"
        )
    if len(positions) and (positions.min() < 0 or positions.max() >= len(tokens)):
        raise IndexError(f"positions from {positions.min()} to {positions.max()} of {len(tokens)} rows")
    _gathered(tokens, positions, out)


@intrinsic  # type: ignore[untyped-decorator]
def _asked_for(context: Any, address: Any) -> tuple[Any, Callable[..., Any]]:
    """Ask for the cache line at an address (intp); it need not be one that may be read."""
    del context, address

    def emit(target: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        del signature
        number, pointer = ir.IntType(32), cgutils.voidptr_t
        kind = ir.FunctionType(ir.VoidType(), [pointer, number, number, number])
        prefetch = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0i8")
        hints = [number(hint) for hint in (_READ, _SECOND_CACHE, _DATA)]
        builder.call(prefetch, [builder.inttoptr(arguments[0], pointer), *hints])
        return target.get_dummy_value()

    return types.void(types.intp), emit


@compiled
def _gathered(tokens: np.ndarray, positions: np.ndarray, out: np.ndarray) -> None:
    count, width = len(positions), tokens.shape[1]
    first, size = tokens.ctypes.data, width * 2
    for place in range(count):
        if place + AHEAD < count:
            ahead = first + positions[place + AHEAD] * size
            for line in range(0, size, _LINE):
                _asked_for(ahead + line)
        row = positions[place]
        for column in range(width):
            out[place, column] = tokens[row, column]
