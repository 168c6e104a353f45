"""YAML text into a tree whose every value knows its file, line and column.

Built from PyYAML's safe events (no objects, no code). Refused with their place: duplicate and non-text keys, tags,
merge keys, several documents, dates, numbers that YAML reads otherwise than people do, and documents beyond the limits.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import yaml

from tokexp.errors import Problem
from tokexp.spec.yaml_syntax import syntax_problem

MAX_DEPTH = 60
"""Most blocks inside one another."""

MAX_NODES = 50_000
"""Most values in a document, those that an alias repeats counted each time."""

MAX_KEY = 200
"""Longest key in characters."""

Path = tuple[str | int, ...]
_TAG = "tag:yaml.org,2002:"
_REFERENCE = re.compile(r"\$\{([A-Za-z0-9_.-]*)\}")
_HIDDEN = "$\uf8f0\\1\uf8f1"
"""YAML ends a plain text at a brace inside `{...}`: while it is read, references have other characters there."""
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True)
class Place:
    """Where something is written; `line` and `column` count from 1 and are None for a value by `--set`."""

    file: str
    line: int | None = None
    column: int | None = None

    def problem(self, path: Path, message: str) -> Problem:
        """Return a problem at this place."""
        return Problem(self.file, dotted(path), message, self.line, self.column)


class Faulty:
    """Stands for a value that has been reported as a problem already."""


FAULTY = Faulty()


@dataclass(frozen=True, eq=False)
class Item:
    """A value with its place. `value` is a scalar, a list of items, a dict of items by key, or FAULTY.

    `key` is where the key is written that the item belongs to; `quoted` tells text in quotes from plain text.
    """

    value: Any
    place: Place
    key: Place | None = None
    quoted: bool = False

    @property
    def anchor(self) -> Place:
        """Where a message about this item points: at the key of a block, at the value of anything else."""
        return self.key if self.key is not None and isinstance(self.value, (dict, list)) else self.place


def dotted(path: Path) -> str:
    """Return `a.0.b`."""
    return ".".join(str(part) for part in path)


def to_plain(item: Item, without: frozenset[Path] = frozenset(), path: Path = ()) -> Any:
    """Return the plain value of an item; keys whose path is in `without` and what is faulty are left out."""
    if not without:
        return _all_plain(item)
    if isinstance(item.value, dict):
        kept = {key: child for key, child in item.value.items() if (*path, key) not in without}
        return {key: to_plain(child, without, (*path, key)) for key, child in kept.items() if child.value is not FAULTY}
    if isinstance(item.value, list):
        return [to_plain(child, without, (*path, index)) for index, child in enumerate(item.value)]
    return item.value


def _all_plain(item: Item) -> Any:
    value = item.value
    if isinstance(value, dict):
        return {key: _all_plain(child) for key, child in value.items() if child.value is not FAULTY}
    return [_all_plain(child) for child in value if child.value is not FAULTY] if isinstance(value, list) else value


def from_plain(value: Any, place: Place) -> Item:
    """Return the item of a plain value, all of it at one place."""
    if isinstance(value, dict):
        return Item({str(key): from_plain(child, place) for key, child in value.items()}, place)
    if isinstance(value, (list, tuple)):
        return Item([from_plain(child, place) for child in value], place)
    return Item(value, place, quoted=isinstance(value, str))


def faulty_paths(item: Item, path: Path = ()) -> Iterator[Path]:
    """Yield the paths of all faulty values."""
    if item.value is FAULTY:
        yield path
    elif isinstance(item.value, dict):
        for key, child in item.value.items():
            yield from faulty_paths(child, (*path, key))
    elif isinstance(item.value, list):
        for index, child in enumerate(item.value):
            yield from faulty_paths(child, (*path, index))


def parse(text: str, file: str, problems: list[Problem], *, marked: bool = True) -> Item | None:
    """Return the tree of a YAML text, or None where it cannot be read at all; what is wrong goes to `problems`.

    With `marked` off, places carry no line and column.
    """
    builder = _Builder(file, problems, marked)
    try:
        return builder.document(iter(yaml.parse(_REFERENCE.sub(_HIDDEN, text), Loader=_LOADER)))
    except _AbortError:
        return None
    except yaml.MarkedYAMLError as error:
        problems.append(syntax_problem(error, text, file, marked=marked))
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        problems.append(Problem(file, "", f"not YAML: {error}", *((1, 1) if marked else (None, None))))
    return None


class _AbortError(Exception):
    """The document cannot be read any further; the reason is among the problems."""


@dataclass
class _Builder:
    file: str
    problems: list[Problem]
    marked: bool
    nodes: int = 0
    anchors: dict[str, tuple[Item, int]] = field(default_factory=dict)
    events: Iterator[Any] = field(default_factory=lambda: iter(()))

    def place(self, event: Any) -> Place:
        mark = event.start_mark
        return Place(self.file, mark.line + 1, mark.column + 1) if self.marked else Place(self.file)

    def report(self, place: Place, path: Path, message: str) -> None:
        self.problems.append(place.problem(path, message))

    def document(self, events: Iterator[Any]) -> Item | None:
        self.events, found = events, None
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                if found is not None:
                    self.report(self.place(event), (), "a second document starts here; one per file is read")
                    raise _AbortError
                found = self.value(next(events), (), 0)
        return found

    def value(self, event: Any, path: Path, depth: int) -> Item:
        place = self.place(event)
        self.count(1, place, path)
        if depth > MAX_DEPTH:
            self.report(place, path[:3], f"more than {MAX_DEPTH} blocks inside one another")
            raise _AbortError
        if isinstance(event, yaml.AliasEvent):
            return self.alias(event, place, path)
        before = self.nodes
        if isinstance(event, yaml.ScalarEvent):
            item = self.scalar(event, place, path)
        elif isinstance(event, yaml.SequenceStartEvent):
            item = self.sequence(place, path, depth)
        else:
            item = self.mapping(place, path, depth)
        if not isinstance(event, yaml.ScalarEvent) and event.tag not in (None, _TAG + "map", _TAG + "seq", "!"):
            self.report(place, path, f"the tag {_short_tag(event.tag)} is not allowed; write the value without it")
            item = replace(item, value=FAULTY)
        if event.anchor:
            self.anchors[event.anchor] = (item, self.nodes - before + 1)
        return item

    def count(self, more: int, place: Place, path: Path) -> None:
        self.nodes += more
        if self.nodes > MAX_NODES:
            self.report(place, path[:3], f"more than {MAX_NODES} values in the document, repeated ones counted")
            raise _AbortError

    def alias(self, event: Any, place: Place, path: Path) -> Item:
        if event.anchor not in self.anchors:
            self.report(place, path, f"*{event.anchor} stands for nothing that is complete before it")
            return Item(FAULTY, place)
        item, size = self.anchors[event.anchor]
        self.count(size, place, path)
        return replace(item, place=place)

    def sequence(self, place: Place, path: Path, depth: int) -> Item:
        items: list[Item] = []
        while not isinstance(event := next(self.events), yaml.SequenceEndEvent):
            items.append(self.value(event, (*path, len(items)), depth + 1))
        return Item(items, place)

    def mapping(self, place: Place, path: Path, depth: int) -> Item:
        children: dict[str, Item] = {}
        merged = False
        while not isinstance(event := next(self.events), yaml.MappingEndEvent):
            key, key_place = self.key(event, path, depth), self.place(event)
            child_path = path if key is None else (*path, key)
            child = self.value(next(self.events), child_path, depth + 1)
            if key is None:
                merged = merged or getattr(event, "value", "") == "<<"
                continue
            name, colon, _ = key.partition(":")
            if colon and name and child.value is None and not child.quoted and event.implicit[0]:
                self.report(key_place, (*path, name), f"a space is needed after the colon of {key[:40]}")
                key, child = name, Item(FAULTY, place)
            if key in children:
                first = children[key].key
                where = f" (first on line {first.line})" if first is not None and first.line else ""
                self.report(key_place, child_path, f"written twice{where}; keep one of them")
                continue
            children[key] = replace(child, key=key_place)
        # What a merge key would bring is not known, so that no field of the block can be called missing.
        return Item(FAULTY if merged and path else children, place)

    def key(self, event: Any, path: Path, depth: int) -> str | None:
        place = self.place(event)
        if not isinstance(event, yaml.ScalarEvent):
            self.value(event, path, depth + 1)
            self.report(place, path, "a key must be a word, not a block or an alias")
            return None
        tag = _implicit_tag(_visible(event.value)) if event.implicit[0] else event.tag or _TAG + "str"
        if tag == _TAG + "merge":
            self.report(place, path, "merge keys (<<) are not read; use extends or ${...}")
        elif tag not in (_TAG + "str", "!"):
            self.report(place, path, f"the key {event.value or 'null'} is not text; put it in quotes or rename it")
        elif len(event.value) > MAX_KEY:
            self.report(place, path, f"a key of more than {MAX_KEY} characters")
        else:
            return _visible(event.value)
        return None

    def scalar(self, event: Any, place: Place, path: Path) -> Item:
        if not event.implicit[0]:
            if event.tag in (None, "!", _TAG + "str"):
                return Item(_visible(event.value), place, quoted=True)
            self.report(place, path, f"the tag {_short_tag(event.tag)} is not allowed; write the value without it")
            return Item(FAULTY, place)
        try:
            return Item(_plain_scalar(_visible(event.value)), place)
        except ValueError as error:
            self.report(place, path, str(error))
            return Item(FAULTY, place)


def _visible(text: str) -> str:
    return text.replace("\uf8f0", "{").replace("\uf8f1", "}")


def _short_tag(tag: str) -> str:
    return tag.replace(_TAG, "!!")


def _implicit_tag(text: str) -> str:
    resolvers = yaml.SafeLoader.yaml_implicit_resolvers
    for tag, pattern in resolvers.get(text[:1], []) + resolvers.get(None, []):
        if pattern.match(text):
            return str(tag)
    return _TAG + "str"


def _plain_scalar(text: str) -> Any:
    """Return the value of text without quotes. Raises ValueError with a message for values that mislead."""
    tag = _implicit_tag(text).removeprefix(_TAG)
    if tag == "null":
        return None
    if tag == "bool":
        return text.lower() in ("true", "yes", "on")
    if tag == "int":
        return _whole(text)
    if tag == "float":
        return _number(text)
    if tag == "timestamp":
        raise ValueError(f"YAML reads {text} as a date; put it in quotes")
    return text


def _whole(text: str) -> int:
    digits = text.replace("_", "").lstrip("+-")
    if ":" in digits:
        raise ValueError(f"YAML reads {text} as a number in base 60; put it in quotes")
    if re.fullmatch(r"0\d+", digits):
        raise ValueError(f"YAML reads {text} as octal; write it without the leading 0, or in quotes")
    if len(digits) > 100:
        raise ValueError("a number of more than 100 digits")
    base = {"0x": 16, "0b": 2}.get(digits[:2].lower(), 10)
    return int(text.replace("_", ""), base)


def _number(text: str) -> float:
    if ":" in text:
        raise ValueError(f"YAML reads {text} as a number in base 60; put it in quotes")
    value = float(text.replace("_", "").lower().replace(".inf", "inf").replace(".nan", "nan"))
    if value != value or value in (float("inf"), float("-inf")):
        raise ValueError(f"{text} given; a finite number is needed")
    return value
