"""`${a.b}`: one field's value taken from another field of the same document.

A text that is one reference takes the value with its type; inside a longer text, the value's text is put in its place.
`$${` stands for `${` itself. Only fields that are written in the document (or by `--set`) can be referred to.
"""

import re
from dataclasses import dataclass, field, replace
from typing import Any

from tokexp.errors import Problem
from tokexp.spec.wording import did_you_mean
from tokexp.spec.yaml_tree import FAULTY, MAX_NODES, Item, Path, dotted

MAX_CHAIN = 40
"""Most references that follow one another to a value."""

MAX_TEXT = 10_000
"""Longest text after references are put in."""

_REFERENCE = re.compile(r"(?<!\$)\$\{([^{}]*)\}")
_OPEN = re.compile(r"(?<!\$)\$\{")
_WORD = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")


def resolve(root: Item, problems: list[Problem]) -> Item:
    """Return the tree with every reference replaced; a value whose reference fails is FAULTY and reported."""
    resolver = _Resolver(root, problems)
    try:
        return resolver.at(root, ())
    except _TooLargeError:
        return replace(root, value=FAULTY)


def referred(item: Item) -> set[str]:
    """Return the first words of all references in an item, well-formed or not: the blocks that it reads."""
    if isinstance(item.value, str):
        return {match[1].split(".")[0] for match in _REFERENCE.finditer(item.value)}
    children = item.value.values() if isinstance(item.value, dict) else item.value
    return set().union(*map(referred, children)) if isinstance(children, (list, type({}.values()))) else set()


class _TooLargeError(Exception):
    """The document has become larger than is read; the reason is among the problems."""


@dataclass
class _Resolver:
    root: Item
    problems: list[Problem]
    done: dict[Path, Item] = field(default_factory=dict)
    sizes: dict[Path, int] = field(default_factory=dict)
    active: list[Path] = field(default_factory=list)
    chain: int = 0

    def at(self, item: Item, path: Path) -> Item:
        if path in self.done:
            return self.done[path]
        self.active.append(path)
        value, size = item.value, 1
        if isinstance(value, dict):
            resolved = replace(item, value={key: self.at(child, (*path, key)) for key, child in value.items()})
            size += sum(self.sizes[(*path, key)] for key in value)
        elif isinstance(value, list):
            resolved = replace(item, value=[self.at(child, (*path, index)) for index, child in enumerate(value)])
            size += sum(self.sizes[(*path, index)] for index in range(len(value)))
        elif isinstance(value, str) and "${" in value:
            resolved, size = self.text(item, path)
        else:
            resolved = item
        self.active.pop()
        if size > MAX_NODES:
            self.problems.append(item.place.problem(path, f"more than {MAX_NODES} values after references"))
            raise _TooLargeError
        self.done[path], self.sizes[path] = resolved, size
        return resolved

    def text(self, item: Item, path: Path) -> tuple[Item, int]:
        text: str = item.value
        if (whole := _REFERENCE.fullmatch(text)) is not None:
            target = self.target(whole[1], item, path)
            if target is None:
                return replace(item, value=FAULTY), 1
            return replace(item, value=target[0].value, quoted=target[0].quoted), target[1]
        parts: list[str] = []
        end = 0
        for match in _REFERENCE.finditer(text):
            inner = self.inner_text(match[1], item, path)
            if inner is None:
                return replace(item, value=FAULTY), 1
            parts += [text[end : match.start()], inner]
            end = match.end()
        if any(_OPEN.search(part) for part in (text[end:], *parts[::2])):
            return self.fail(item, path, "${ without its }; a reference reads ${block.field}, and $${ stands for ${")
        joined = "".join([*parts, text[end:]]).replace("$${", "${")
        if len(joined) > MAX_TEXT:
            return self.fail(item, path, f"more than {MAX_TEXT} characters after references")
        return replace(item, value=joined, quoted=True), 1

    def fail(self, item: Item, path: Path, message: str) -> tuple[Item, int]:
        self.problems.append(item.place.problem(path, message))
        return replace(item, value=FAULTY), 1

    def inner_text(self, reference: str, item: Item, path: Path) -> str | None:
        target = self.target(reference, item, path)
        if target is None:
            return None
        value = target[0].value
        if isinstance(value, (dict, list)) or value is None:
            what = "empty" if value is None else "a block" if isinstance(value, dict) else "a list"
            self.fail(item, path, f"${{{reference}}} is {what}; only text and numbers can stand inside text")
            return None
        return str(value).lower() if isinstance(value, bool) else str(value)

    def target(self, reference: str, item: Item, path: Path) -> tuple[Item, int] | None:
        """Return what a reference stands for and its size, or None after reporting why there is nothing."""
        if _WORD.fullmatch(reference) is None:
            self.fail(item, path, f"${{{reference[:40]}}} is not a reference; write ${{block.field}}")
            return None
        found = self.walk(reference.split("."), reference, item, path)
        if found is None:
            return None
        target, where = found
        resolved = self.follow(target, where, reference, item, path)
        return None if resolved is None or resolved.value is FAULTY else (resolved, self.sizes.get(where, 1))

    def walk(self, parts: list[str], reference: str, item: Item, path: Path) -> tuple[Item, Path] | None:
        current: Item = self.root
        where: Path = ()
        for part in parts:
            if isinstance(current.value, str) and "${" in current.value:
                followed = self.follow(current, where, reference, item, path)
                if followed is None or followed.value is FAULTY:
                    return None
                current = followed
            child, key = _child(current, part)
            if child is None:
                self.fail(item, path, _unknown(reference, where, current, part))
                return None
            current, where = child, (*where, key)
        return current, where

    def follow(self, target: Item, where: Path, reference: str, item: Item, path: Path) -> Item | None:
        if where in self.active and where not in self.done:
            self.fail(item, path, f"${{{reference}}} refers back to itself; write the value in one place")
            return None
        if self.chain >= MAX_CHAIN:
            self.fail(item, path, f"more than {MAX_CHAIN} references follow one another")
            return None
        self.chain += 1
        resolved = self.at(target, where)
        self.chain -= 1
        return resolved


def _child(item: Item, part: str) -> tuple[Item | None, str | int]:
    if isinstance(item.value, dict):
        return item.value.get(part), part
    if isinstance(item.value, list) and part.isdecimal() and int(part) < len(item.value):
        return item.value[int(part)], int(part)
    return None, part


def _unknown(reference: str, where: Path, current: Item, part: str) -> str:
    value: Any = current.value
    start = f"${{{reference}}}: "
    if isinstance(value, dict):
        place = f"{dotted(where)} has" if where else "the document has"
        close = did_you_mean(part, value)
        return f"{start}{place} no written field {part}{close}"
    if isinstance(value, list):
        return f"{start}{dotted(where)} is a list of {len(value)}; a position from 0 is needed, not {part}"
    return f"{start}{dotted(where)} is a single value and has no field {part}"
