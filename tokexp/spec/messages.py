"""pydantic's errors as problems: YAML paths, places, and what is needed instead, in plain English."""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, get_args

from pydantic import ValidationError

from tokexp.errors import Problem
from tokexp.spec.augment import AugmentSpec
from tokexp.spec.base import Spec
from tokexp.spec.needs import needed
from tokexp.spec.shape import Slot, descendants, field_words, fields_of, kind_words
from tokexp.spec.wording import did_you_mean, listed, nearest, odd_characters, shown
from tokexp.spec.yaml_tree import Item, Path, dotted

_LIKE_NUMBER = re.compile(r"[-+]?(\d+)(?:\.(\d*))?(?:[eE]([-+]?\d+))?")
_OTHER_WORDS = {"learning_rate": "lr", "mask_ratio": "low", "num_clusters": "codebook_size", "batch": "batch_size"}
"""Words of other tools for fields whose names here are not spelt alike."""
_EVERYWHERE = ("kind", "name")
"""Fields of so many blocks that naming another one of them tells nothing."""
_POLICY = "a policy is a list of steps: write [{kind: ...}], or such a list under pretrain, task or both"


class Found:
    """One of pydantic's errors, located: its path, the item there (or the nearest above), and what the slot takes."""

    def __init__(self, root: Item, top: Slot, error: Mapping[str, Any]) -> None:
        """Take the tree that was validated, the slot of all of it, and one entry of `ValidationError.errors()`."""
        self.root, self.top = root, top
        self.type = str(error["type"])
        self.context: Mapping[str, Any] = error.get("ctx") or {}
        self.text = str(error["msg"])
        self.given = error.get("input")
        self.is_key = bool(error["loc"]) and error["loc"][-1] == "[key]"
        self.path, self.slot, self.parent = _walk(root, top, error["loc"])
        self.item, self.exact = item_at(root, self.path)
        if self.exact:
            self.given = self.item.value

    def problem(self, message: str) -> Problem:
        """Return the problem with a message, at the best place for it."""
        at_key = self.item.key is not None and (self.is_key or self.type == "extra_forbidden")
        place = self.item.key if at_key and self.item.key is not None else self.item.anchor
        by_kind = self.slot is not None and bool(kind_words(self.slot))
        if by_kind and self.type in ("union_tag_invalid", "union_tag_not_found") and isinstance(self.item.value, dict):
            kind = self.item.value.get("kind")
            return (kind.place if kind is not None else place).problem((*self.path, "kind"), message)
        return place.problem(self.path, message)

    def meant(self) -> str | None:
        """Return the known field that an unknown one probably stands for."""
        known = _known(self.parent)
        other = _OTHER_WORDS.get(str(self.path[-1]))
        return other if other in known else nearest(self.path[-1], known)


def located(root: Item, spec: type[Spec], error: ValidationError) -> list[Found]:
    """Return all errors of a validation of `root` as a `spec`, located in it."""
    top = Slot(spec)
    return [Found(root, top, entry) for entry in error.errors(include_url=False)]


def item_at(root: Item, path: Path) -> tuple[Item, bool]:
    """Return the item at a path and True; or the nearest one above it and False."""
    current = root
    for part in path:
        child: Item | None = None
        if isinstance(current.value, dict):
            child = current.value.get(part)
        elif isinstance(current.value, list) and isinstance(part, int) and part < len(current.value):
            child = current.value[part]
        if child is None:
            return current, False
        current = child
    return current, True


def message(found: Found) -> str:
    """Return what is wrong and what is needed instead."""
    writer = _WRITERS.get(found.type)
    if writer is not None:
        return writer(found)
    if found.type in _NEEDS or found.type.endswith(("_type", "_parsing")):
        return _needs(found)
    return f"{shown(found.given)} given; {found.text}"


def _walk(root: Item, top: Slot, loc: tuple[str | int, ...]) -> tuple[Path, Slot | None, Slot | None]:
    """Return the YAML path of a location, its slot, and the slot of the block around it."""
    path: list[str | int] = []
    slot: Slot | None = top
    parent: Slot | None = None
    for part in loc:
        here, _ = item_at(root, tuple(path))
        shorthand = slot is not None and slot.spec is AugmentSpec and isinstance(here.value, list)
        is_tag = slot is not None and slot.block is not None
        if part == "[key]":
            slot = parent.into(part) if parent is not None else None
            break
        if not is_tag:
            parent = slot
        slot = slot.into(part) if slot is not None else None
        if not (is_tag or shorthand):
            if path and not isinstance(here.value, (dict, list)) and item_at(root, tuple(path))[1]:
                break
            path.append(part)
    return tuple(path), slot, parent


def _known(parent: Slot | None) -> list[str]:
    return list(fields_of(parent.spec)) if parent is not None and parent.spec is not None else []


def _unknown_field(found: Found) -> str:
    name = str(found.path[-1])
    if (close := found.meant()) is not None:
        return f"unknown field; did you mean {close}?{odd_characters(name)}"
    known = _known(found.parent)
    if not known or found.parent is None or found.parent.spec is None:
        return "unknown field"
    word = _OTHER_WORDS.get(name, name)
    above = found.path[:-1]
    if name == "kind" and found.parent.spec is AugmentSpec:
        return f"unknown field; {_POLICY}"
    for size, outer in [] if name in _EVERYWHERE else [(len(above), found.parent.spec), *_enclosing(found, above)]:
        inside = min((path for path, _ in descendants(outer) if path[-1] == word), key=len, default=None)
        if inside is not None:
            return f"unknown field here; it exists as {dotted((*above[:size], *inside))}"
    return f"unknown field; allowed here: {', '.join(known)}"


def _enclosing(found: Found, path: Path) -> Iterator[tuple[int, type[Spec]]]:
    """Yield the lengths of the paths above what was found, longest first, at which a spec stands, and its class."""
    for size in range(len(path), -1, -1):
        outer = _spec_at(found, path[:size])
        if outer is not None:
            yield size, outer


def _spec_at(found: Found, path: Path) -> type[Spec] | None:
    """Return the spec class at a path above what was found, of the kind that is written there."""
    slot: Slot | None = found.top
    for part in path:
        slot = slot.into(part) if slot is not None and slot.block is None else None
    if slot is None or slot.block is None:
        return None if slot is None else slot.spec
    written = item_at(found.root, path)[0].value
    kind = written.get("kind") if isinstance(written, dict) else None
    return None if kind is None else slot.kinds.get(str(kind.value))


def _unknown_kind(found: Found) -> str:
    words = kind_words(found.slot) if found.slot is not None else []
    fields = field_words(found.slot) if found.slot is not None else []
    given = found.given if isinstance(found.given, dict) else {}
    if not words:
        close = next((nearest(key, fields) for key in given if nearest(key, fields)), None)
        return f"a field {listed(fields)} is missing" + (f"; did you mean {close}?" if close else "")
    kind = given["kind"].value if isinstance(given.get("kind"), Item) else given.get("kind")
    also = f", or a field {listed(fields)}" if fields else ""
    if found.type == "union_tag_not_found" and kind is None:
        return f"kind is missing; one of {listed(words)}{also} is needed"
    return f"unknown kind {shown(kind)}; allowed: {', '.join(words)}{also}{did_you_mean(kind, words)}"


def _tag_missing(found: Found) -> str:
    return _unknown_kind(found) if isinstance(found.given, dict) else _needs(found)


def _missing(found: Found) -> str:
    if found.path and found.path[-1] == "schema":
        return "missing; write `schema: 1` at the top"
    return "missing" if found.slot is None else f"missing; {needed(found.slot)} is needed"


def _choice(found: Found) -> str:
    choices = [str(choice) for choice in get_args(found.slot.type)] if found.slot is not None else []
    if found.is_key:
        return f"unknown name; allowed: {', '.join(choices)}{did_you_mean(found.path[-1], choices)}"
    need = f"one of {listed(choices)}" if len(choices) > 1 else listed(choices)
    return f"{shown(found.given)} given; {need} is needed{did_you_mean(found.given, choices)}"


def _pattern(found: Found) -> str:
    word = found.path[-1] if found.is_key else found.given
    if found.is_key:
        return f"{shown(word)} cannot name a part; write lower-case letters, digits and '_', a letter first"
    return f"{shown(word)} given; letters, digits, '_', '.' and '-' are needed, a letter or digit first"


def _text_length(found: Found) -> str:
    least, most = found.context.get("min_length"), found.context.get("max_length")
    if most is not None:
        return f"text of more than {most} characters given; at most {most} are allowed"
    return "empty text given; text is needed" if least == 1 else f"text of at least {least} characters is needed"


def _needs(found: Found) -> str:
    if found.slot is None:
        return f"{shown(found.given)} given; {found.text}"
    need = needed(found.slot)
    if isinstance(found.given, str) and found.slot.type in (int, float):
        return f"{_as_number(found.given)}; {_trimmed(need)} is needed"
    if found.slot.type is str and isinstance(found.given, (int, float)) and not isinstance(found.given, bool):
        return f"{shown(found.given)} given; text is needed: put it in quotes"
    return f"{shown(found.given)} given; {need} is needed"


def _as_number(given: str) -> str:
    match = _LIKE_NUMBER.fullmatch(given)
    if match is None:
        return f"the text {shown(given)} given"
    if match[3] is None:
        return f"the text {shown(given)} given; write it without quotes"
    sign = given[0] if given[0] in "+-" else ""
    exponent = match[3] if match[3][0] in "+-" else "+" + match[3]
    proper = f"{sign}{match[1]}.{match[2] or '0'}e{exponent}"
    return f"YAML reads {given[:40]} as text; write {proper[:44]}"


def _trimmed(need: str) -> str:
    return need.rstrip(",")


def _value(found: Found) -> str:
    reason = str(found.context.get("error", found.text))
    given = found.path[-1] if found.is_key else found.given
    scalar = isinstance(given, (str, int, float)) and not reason.startswith(shown(given))
    return f"{shown(given)} given; {reason}" if scalar else reason


_NEEDS = (
    "greater_than", "greater_than_equal", "less_than", "less_than_equal", "multiple_of", "too_short", "too_long",
    "finite_number", "int_from_float",
)  # fmt: skip
_WRITERS: Mapping[str, Callable[[Found], str]] = {
    "extra_forbidden": _unknown_field,
    "union_tag_invalid": _unknown_kind,
    "union_tag_not_found": _tag_missing,
    "missing": _missing,
    "literal_error": _choice,
    "string_pattern_mismatch": _pattern,
    "string_too_short": _text_length,
    "string_too_long": _text_length,
    "value_error": _value,
}
