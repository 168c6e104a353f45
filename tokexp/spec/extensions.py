"""Kinds of components: the unions of this package, opened for kinds that installed packages add.

A third party adds a kind with two entry points in the group `tokexp.components`: `objectives.foo`, its `build` (see
`tokexp.registry`), and `spec.objectives.foo`, its spec class, a `Spec` with the field `kind: Literal["foo"]`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import Discriminator, Field, GetCoreSchemaHandler, Tag
from pydantic_core import CoreSchema

from tokexp.errors import InputError
from tokexp.registry import added_kinds
from tokexp.spec.base import Spec


@dataclass(frozen=True)
class Kinds:
    """The mark of a union of specs that are told apart by their `kind`.

    `block` is the package in `tokexp.registry.PACKAGES` that implements the kinds. `tag` finds the word in what was
    written where that is not simply the field `kind`; the union's members then carry a `Tag` each.
    """

    block: str
    tag: Callable[[Any], str | None] | None = None

    def classes(self, union: Any) -> Mapping[str, type[Spec]]:
        """Return the spec class of each kind: tokexp's own in writing order, then those of installed packages."""
        own = {_kind(member): _bare(member) for member in get_args(union)}
        return {**own, **{kind: cls for kind, cls in third_party(self.block).items() if kind not in own}}

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Return the schema of the tagged union, third-party kinds included (pydantic calls this on first use)."""
        classes = self.classes(source)
        if self.tag is None:
            members = tuple(classes.values())
            return handler.generate_schema(Annotated[Union[members], Field(discriminator="kind")])  # noqa: UP007
        tagged = tuple(Annotated[cls, Tag(kind)] for kind, cls in classes.items())
        return handler.generate_schema(Annotated[Union[tagged], Discriminator(self.tag)])  # noqa: UP007


@cache
def third_party(block: str) -> Mapping[str, type[Spec]]:
    """Return the spec classes that installed packages add to a block, by kind.

    Raises InputError if an entry point names something that is not a spec of that kind.
    """
    prefix, found = f"spec.{block}.", dict[str, type[Spec]]()
    for entry in added_kinds():
        if not entry.name.startswith(prefix):
            continue
        kind, cls = entry.name.removeprefix(prefix), entry.load()
        if not (isinstance(cls, type) and issubclass(cls, Spec) and _kind(cls) == kind):
            raise InputError(f"the entry point {entry.name} of {entry.value} must name a Spec with kind {kind!r}")
        found[kind] = cls
    return found


def _bare(member: Any) -> type[Spec]:
    cls: type[Spec] = get_args(member)[0] if get_origin(member) is Annotated else member
    return cls


def _kind(member: Any) -> str:
    tag = next((mark.tag for mark in get_args(member)[1:] if isinstance(mark, Tag)), None)
    if tag is not None:
        return tag
    field = _bare(member).model_fields.get("kind")
    words = get_args(field.annotation) if field is not None else ()
    return str(words[0]) if words else ""


def is_union(annotation: Any) -> bool:
    """Say whether an annotation is a union, in either spelling."""
    return get_origin(annotation) in (Union, UnionType)
