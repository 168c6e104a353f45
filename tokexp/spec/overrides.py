"""`--set a.b=c`: values given on the command line, laid over what the files say.

The value is read as YAML. Blocks on the way are made; a position in a list is a number. A value replaces what was
there; setting a `kind` to another word puts the fields of the old kind aside.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tokexp.errors import Problem
from tokexp.spec.base import ALTERNATIVES
from tokexp.spec.compose import spread_augment
from tokexp.spec.yaml_tree import FAULTY, MAX_DEPTH, Item, Path, Place, dotted, from_plain, parse

SET = "--set"
"""What problems and sources name as the file of such a value."""

MAX_PATH = 500
"""Longest path in characters."""


Keys = Callable[[Item, list[str]], list[str]]
"""Takes a document and the words of a path; returns the keys that they stand for."""


def apply_overrides(root: Item, overrides: Sequence[str], problems: list[Problem], keys: Keys | None = None) -> Item:
    """Return the tree with `path=value` texts laid over it, in order; malformed ones are reported.

    `keys` joins the words of a path where the document's own keys have dots.
    """
    for text in overrides:
        parsed = _parse(text, problems)
        if parsed is not None:
            parts = parsed[0] if keys is None else keys(root, parsed[0])
            root = _apply(root, parts, parsed[1], problems, frozenset({Place(SET)}))
    return root


def apply_values(root: Item, values: Mapping[str, Any], problems: list[Problem], file: str = SET) -> Item:
    """Return the tree with plain values by dotted path laid over it; `file` is what sources call their origin."""
    return apply_items(root, [(name, from_plain(value, Place(file))) for name, value in values.items()], problems)


def apply_items(root: Item, items: Sequence[tuple[str, Item]], problems: list[Problem]) -> Item:
    """Return the tree with items by dotted path laid over it, in order."""
    own = frozenset(item.place for _, item in items)
    for name, item in items:
        root = _apply(root, name.split("."), item, problems, own)
    return root


def _parse(text: str, problems: list[Problem]) -> tuple[list[str], Item] | None:
    name, equals, written = text.partition("=")
    name, place = name.strip(), Place(SET)
    parts = name.split(".")
    if not equals:
        problems.append(place.problem((), f"{text[:60]!r} has no '='; write --set block.field=value"))
    elif len(name) > MAX_PATH or len(parts) > MAX_DEPTH:
        problems.append(place.problem((), f"the path {name[:40]}... is longer than any field's"))
    elif not all(parts) or any(part != part.strip() for part in parts):
        problems.append(place.problem((), f"{name[:60]!r} is not a path; write --set block.field=value"))
    elif not written.strip():
        problems.append(place.problem((name,), "no value after '='; write null for none"))
    elif any(character < " " and character not in "\n\t" for character in text):
        problems.append(place.problem((), "a control character in what is set; remove it"))
    else:
        found: list[Problem] = []
        item = parse(written, SET, found, marked=False)
        problems += [Problem(SET, ".".join(filter(None, (name, each.path))), each.message) for each in found]
        if item is None and not found:
            problems.append(place.problem((name,), "no value after '='; write null for none"))
        return None if item is None else (parts, item)
    return None


def _apply(root: Item, parts: Sequence[str], item: Item, problems: list[Problem], own: frozenset[Place]) -> Item:
    """Return the tree with an item laid over it; `own` are the places of all that is laid over with it."""
    if parts[0] == "extends":
        problems.append(item.place.problem(("extends",), "files are named in files only, not by --set"))
        return root
    if parts[0] == "augment" and len(parts) > 1 and not parts[1].isdecimal():
        root = spread_augment(root)
    item = item if item.key is not None else replace(item, key=item.place)
    return _placed(root, list(parts), item, (), _Laying(problems, own))


@dataclass(frozen=True)
class _Laying:
    problems: list[Problem]
    own: frozenset[Place]


def _placed(below: Item, parts: list[str], item: Item, path: Path, laying: _Laying) -> Item:
    """Return `below` with `item` at `parts` inside it."""
    if not parts:
        return item
    part, value = parts[0], below.value
    if value is None or value is FAULTY:
        below, value = Item({}, item.place, item.key), {}
    if isinstance(value, list):
        return _placed_in_list(below, parts, item, path, laying)
    if not isinstance(value, dict):
        message = f"{dotted(path)} is a single value and has no field {part}"
        laying.problems.append(item.place.problem((*path, *parts), message))
        return below
    kept = dict(value)
    if len(parts) == 1:
        kept = _without_rivals(kept, part, item, laying.own)
    child = kept.get(part, Item({}, item.place, item.key))
    kept[part] = _placed(child, parts[1:], item, (*path, part), laying)
    return Item(kept, below.place, below.key, below.quoted)


def _placed_in_list(below: Item, parts: list[str], item: Item, path: Path, laying: _Laying) -> Item:
    part, value = parts[0], list(below.value)
    if not part.isdecimal() or int(part) >= len(value):
        allowed = f"a position from 0 to {len(value) - 1}" if value else "a whole list"
        message = f"{dotted(path)} is a list of {len(value)}; {allowed} is needed, not {part}"
        laying.problems.append(item.place.problem((*path, *parts), message))
        return below
    value[int(part)] = _placed(value[int(part)], parts[1:], item, (*path, int(part)), laying)
    return replace(below, value=value)


def _without_rivals(fields: dict[str, Item], part: str, item: Item, own: frozenset[Place]) -> dict[str, Item]:
    """Leave out what a set field puts aside, unless it was set too: another kind's fields, `epochs` for `steps`."""
    rivals = {name for group in ALTERNATIVES if part in group for name in group if name != part}
    if part == "kind" and "kind" in fields and fields["kind"].value != item.value:
        rivals = set(fields)
    return {name: child for name, child in fields.items() if name not in rivals or child.place in own}
