"""What cannot work with tokens that are coefficients: fields that the images forbid, methods of one token for a place.

A place holds many levels there, in no codebook, so nothing can be predicted as one of K codes or looked up in a table.
"""

from collections.abc import Iterator

from tokexp.spec.coefficients import Dct
from tokexp.spec.data import GivenTokens
from tokexp.spec.experiment import Experiment
from tokexp.spec.findings import Finding
from tokexp.spec.objectives import Mtm
from tokexp.spec.token_targets import PredictsTokens

_TOKENIZER, _KIND, _TABLE = ("tokenizer",), ("objective", "kind"), ("model", "token_table")


def check_coefficients(spec: Experiment) -> Iterator[Finding]:
    """Yield fields of `dct` that the images or the block do not allow, and what asks for one token at a place."""
    tokenizer, given = spec.tokenizer, 0
    if isinstance(spec.data, GivenTokens):
        shape = spec.data.token_shape()
        given = shape.width if shape is not None and shape.coefficients else 0
    elif isinstance(tokenizer, Dct):
        given = tokenizer.channels(spec.data.image_shape())
        yield from _check_fields(tokenizer, spec.data.image_shape())
    if given and isinstance(spec.objective, (Mtm, PredictsTokens)):
        message = f"{spec.objective.kind} predicts one token for every place, and there {_are(given)} at each; "
        message += "take other tokens, or an objective such as supervised, mae or data2vec"
        yield Finding(_KIND, message, (_KIND, _TOKENIZER, ("data",)))
    if given and spec.model.token_table is not None:
        message = "a table has a row for each token, and coefficients are no such tokens; leave it out"
        yield Finding(_TABLE, message, (_TABLE, _TOKENIZER, ("data",)))


def _check_fields(tokenizer: Dct, shape: tuple[int, int, int]) -> Iterator[Finding]:
    whole = not any(side % tokenizer.block for side in shape[1:])
    fault = tokenizer.fault(shape) if whole else None  # that blocks fill images is asked of all tokenizers
    if fault is not None:
        path = ("tokenizer", fault[0])
        yield Finding(path, fault[1], (path, ("tokenizer", "block"), ("data",)))


def _are(count: int) -> str:
    return "is one coefficient" if count == 1 else f"are {count} coefficients"
