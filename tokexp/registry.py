"""From the word in a spec to the code behind it.

`objective: {kind: mtm}` is implemented by `tokexp/objectives/mtm.py`; its function `build` is imported on first use.
Third parties add kinds by entry points in the group `tokexp.components`, named `block.kind` and pointing to a
`module:function` with the signature of that block's `build`.
"""

from collections.abc import Callable
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from tokexp.errors import InputError

PACKAGES = {
    "data": "tokexp.data",
    "tokenizers": "tokexp.tokenizers",
    "codecs": "tokexp.storage.codecs",
    "reducing": "tokexp.storage.reducing",
    "models": "tokexp.models",
    "stems": "tokexp.models.stems",
    "augment": "tokexp.augment",
    "objectives": "tokexp.objectives",
    "groupers": "tokexp.objectives.groupers",
    "targets": "tokexp.objectives.targets",
    "terms": "tokexp.objectives.terms",
    "tasks": "tokexp.tasks",
    "evaluation": "tokexp.evaluation",
    "stages": "tokexp.stages",
    "launch": "tokexp.launch",
}
"""The package of every block of kinds."""

GROUP = "tokexp.components"


@cache
def added_kinds() -> tuple[EntryPoint, ...]:
    """Return the entry points by which installed packages add kinds. Every process looks at all packages once."""
    return tuple(entry_points(group=GROUP))


@cache
def implementation(block: str, kind: str) -> Callable[..., Any]:
    """Return the `build` function of a kind, importing its module now.

    Raises InputError for a kind that neither tokexp nor an installed package implements.
    """
    for entry in added_kinds():
        if entry.name == f"{block}.{kind}":
            loaded: Callable[..., Any] = entry.load()
            return loaded
    module_name = f"{PACKAGES[block]}.{kind}"
    try:
        module = import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name != module_name:
            raise
        raise InputError(f"no implementation of the kind {kind!r} in the block {block!r}") from error
    build: Callable[..., Any] = module.build
    return build
