"""Stage keys: the identity of a stage's result.

A key is blake2b-160 over canonical JSON of everything that decides the result: the stage's kind and the version of its
implementation, all relevant fields (defaults included, so that a changed default is a changed key), the keys of the
inputs, the data's fingerprint, and the seed where the stage is random.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from tokexp.spec.base import Spec
from tokexp.spec.canonical import canonical, digest
from tokexp.spec.stages import VERSIONS, StageKind

__all__ = ["ABSENT", "Difference", "canonical", "differences", "digest", "identity", "stage_key"]

Difference = tuple[str, Any, Any]
"""A dotted path, the value on the left, the value on the right; `ABSENT` where one side has none."""

ABSENT = "(absent)"


def identity(
    kind: StageKind, payload: Spec, inputs: Mapping[str, str], fingerprint: str | None, seed: int | None
) -> dict[str, Any]:
    """Return all that a stage's key is made of."""
    return {
        "kind": kind,
        "version": VERSIONS[kind],
        "payload": payload.relevant(),
        "inputs": dict(inputs),
        "fingerprint": fingerprint,
        "seed": seed,
    }


def stage_key(
    kind: StageKind, payload: Spec, inputs: Mapping[str, str], fingerprint: str | None, seed: int | None
) -> str:
    """Return the key of a stage, 40 hex digits."""
    return digest(identity(kind, payload, inputs, fingerprint, seed))


def differences(left: Any, right: Any) -> list[Difference]:
    """Return what differs between two JSON-like values, by dotted path in the order of the left one."""
    a, b = dict(_leaves(left, "")), dict(_leaves(right, ""))
    paths = [*a, *(path for path in b if path not in a)]
    return [(p, a.get(p, ABSENT), b.get(p, ABSENT)) for p in paths if a.get(p, ABSENT) != b.get(p, ABSENT)]


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    nested = (
        value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, (list, tuple)) else ()
    )
    children = list(nested)
    if not children:
        yield path, value
    for key, child in children:
        yield from _leaves(child, f"{path}.{key}" if path else str(key))
