"""The language as a tree of slots: what may stand at a path, found from the spec classes.

Used to turn pydantic's locations (which name the members of unions) into paths, and to say what a field needs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from types import NoneType
from typing import Annotated, Any, get_args, get_origin

from pydantic.fields import FieldInfo

from tokexp.spec.base import Spec
from tokexp.spec.extensions import Kinds, is_union


@dataclass(frozen=True)
class Slot:
    """A place for a value: its type without `Annotated` and `None`, and the marks (bounds, units) that it carried."""

    type: Any
    marks: tuple[Any, ...] = ()
    optional: bool = False

    @property
    def spec(self) -> type[Spec] | None:
        """The spec class, where the slot holds exactly one."""
        return self.type if isinstance(self.type, type) and issubclass(self.type, Spec) else None

    @property
    def block(self) -> Kinds | None:
        """The mark of the union, where the slot holds one of several kinds."""
        return next((mark for mark in self.marks if isinstance(mark, Kinds)), None)

    @property
    def kinds(self) -> Mapping[str, type[Spec]]:
        """The spec classes by kind, where the slot holds one of several; else empty."""
        return {} if self.block is None else self.block.classes(self.type)

    @property
    def item(self) -> Slot | None:
        """The slot of the members of a list of any length, or of a mapping with free names."""
        args = get_args(self.type)
        if get_origin(self.type) is tuple and len(args) == 2 and args[1] is Ellipsis:
            return slot_of(args[0])
        return slot_of(args[1]) if get_origin(self.type) is dict else None

    def into(self, part: str | int) -> Slot | None:
        """Return the slot of a field, a kind, a position or a name inside this one; None if there is none."""
        if self.spec is not None:
            return fields_of(self.spec).get(str(part))
        if self.block is not None:
            cls = self.kinds.get(str(part))
            return None if cls is None else Slot(cls)
        args = get_args(self.type)
        if get_origin(self.type) is tuple and isinstance(part, int) and Ellipsis not in args:
            return slot_of(args[part]) if part < len(args) else None
        if get_origin(self.type) is dict and part == "[key]":
            return slot_of(args[0])
        return self.item


def slot_of(annotation: Any, marks: tuple[Any, ...] = ()) -> Slot:
    """Return the slot of an annotation; a field's bounds come as `marks`."""
    optional = False
    while True:
        if get_origin(annotation) is Annotated:
            annotation, *more = get_args(annotation)
            marks = (*marks, *(inner for mark in more for inner in _flat(mark)))
        elif is_union(annotation) and NoneType in get_args(annotation):
            left = tuple(member for member in get_args(annotation) if member is not NoneType)
            annotation, optional = left[0] if len(left) == 1 else _rejoined(left), True
        else:
            return Slot(annotation, marks, optional)


@cache
def fields_of(spec: type[Spec]) -> Mapping[str, Slot]:
    """Return the slots of a spec's fields by the name that YAML uses."""
    if not spec.__pydantic_fields_complete__:
        spec.model_rebuild()
    return {
        field.alias or name: slot_of(field.annotation, tuple(inner for mark in field.metadata for inner in _flat(mark)))
        for name, field in spec.model_fields.items()
    }


def descendants(spec: type[Spec], depth: int = 3) -> Iterator[tuple[tuple[str, ...], Slot]]:
    """Yield the paths and slots of all fields below a spec, without going into lists and free names."""
    for name, slot in fields_of(spec).items():
        yield (name,), slot
        inside = [slot.spec] if slot.spec is not None else list(slot.kinds.values())
        for cls in inside if depth > 1 else ():
            for path, deeper in descendants(cls, depth - 1):
                yield (name, *path), deeper


def kind_words(slot: Slot) -> list[str]:
    """Return the words that `kind` may be in a slot."""
    return [kind for kind, cls in slot.kinds.items() if "kind" in cls.model_fields]


def field_words(slot: Slot) -> list[str]:
    """Return the fields that tell kinds apart which have no `kind`: combinators of steps, dimensions of a space."""
    return [kind for kind, cls in slot.kinds.items() if "kind" not in cls.model_fields]


def _flat(mark: Any) -> tuple[Any, ...]:
    return tuple(mark.metadata) if isinstance(mark, FieldInfo) else (mark,)


def _rejoined(members: tuple[Any, ...]) -> Any:
    joined = members[0]
    for member in members[1:]:
        joined = joined | member
    return joined
