"""Integer loops compiled to machine code on first use, and kept beside the source for the next process.

Importing this module loads numba, about a third of a second: only modules of codecs that need it do.
"""

from collections.abc import Callable
from typing import Any, TypeVar, cast

from numba import njit

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function) -> Function:
    """Return the compiled function, which lets other threads run meanwhile. It takes arrays and plain numbers."""
    try:
        return cast(Function, njit(cache=True, nogil=True)(function))
    except RuntimeError:
        # Neither the package's folder nor the user's cache can be written: compiled anew by every process.
        return cast(Function, njit(nogil=True)(function))
