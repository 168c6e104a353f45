"""The values that a sweep lays over its experiment, each with its path and with its place in the sweep's file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from tokexp.spec.canonical import canonical
from tokexp.spec.messages import item_at
from tokexp.spec.sweep import SweepSpec
from tokexp.spec.yaml_tree import MAX_DEPTH, Item, Path, Place, from_plain, to_plain


@dataclass(frozen=True, eq=False)
class Laid:
    """One value for one path of the experiment.

    `where` is where it is written in the sweep, `label` what it is called in the names of points. Values with the same
    `mark` are the same value for the same path. `block` is the first word of the path.
    """

    path: str
    item: Item
    where: Path
    plain: Any
    label: str
    mark: str
    block: str


@dataclass(frozen=True)
class Assignment:
    """A static point as it is written: its name, and the values of its case, its cell of the grid, its row of `zip`.

    `below` is the name of its case in `cases`, empty where there are none.
    """

    case: str
    values: tuple[Laid, ...]
    below: str = ""

    @property
    def plain(self) -> dict[str, Any]:
        """The values by path."""
        return {laid.path: laid.plain for laid in self.values}


def laid(path: str, item: Item, where: Path, label: str = "") -> Laid:
    """Return the value of an item for a path. `${` in it stands for itself: references were replaced in the sweep."""
    plain = to_plain(item)
    mark = f"{path}={canonical(plain)}"
    return Laid(path, _escaped(item) if "${" in mark else item, where, plain, label, mark, path.partition(".")[0])


def laid_plain(values: Mapping[str, Any], file: str) -> tuple[Laid, ...]:
    """Return values without a place of their own, such as those that a search asks for."""
    items = {path: from_plain(value, Place(file)) for path, value in values.items()}
    return tuple(laid(path, item, (path,), _label(item, item)) for path, item in items.items())


LONGEST_LABEL = 40
"""Most characters of a value in the name of a point."""

MOST_POINTS = 100_000
"""Most static points of a sweep."""

_RESERVED = {
    "schema": "the experiment's version is its own",
    "extends": "files are named in files only",
    "name": "the sweep has a name, and its points are named after their values",
    "seeds": "write `seeds` at the top of the sweep",
}
_BASE_ONLY = {"track": "all trials are recorded in one place; write it under `set`"}


def refusal(block: str, path: str) -> str:
    """Return why a block of a sweep cannot name a path, whatever the experiment is; empty if it can."""
    parts = path.split(".")
    if not all(parts) or any(part != part.strip() for part in parts) or len(parts) > MAX_DEPTH:
        return "not a path; write block.field"
    refused = _RESERVED if block == "set" else {**_RESERVED, **_BASE_ONLY}
    return f"{parts[0]} cannot be varied: {refused[parts[0]]}" if parts[0] in refused else ""


@dataclass(frozen=True)
class Written:
    """A valid sweep with its tree, after and before (`asked`) references were replaced.

    A value that was a reference goes by the reference's last word. Of a sweep with faults, the sound parts are read.
    """

    sweep: SweepSpec
    tree: Item
    asked: Item

    def common(self) -> tuple[Laid, ...]:
        """Return the values under `set`."""
        return tuple(self._laid(path, ("set", path)) for path in self.sweep.set if not refusal("set", path))

    def cases(self) -> dict[str, tuple[Laid, ...]]:
        """Return the values of every case."""
        given = self.sweep.cases.items()
        return {
            case: tuple(self._laid(path, ("cases", case, path)) for path in values if not refusal("cases", path))
            for case, values in given
        }

    def lists(self, block: str) -> dict[str, tuple[Laid, ...]]:
        """Return the values of every path of `grid` or `zip`."""
        given: Mapping[str, tuple[Any, ...]] = getattr(self.sweep, block)
        usable = {path: values for path, values in given.items() if not refusal(block, path)}
        return {path: self.members(path, (block, path), len(values)) for path, values in usable.items()}

    def members(self, path: str, where: Path, count: int) -> tuple[Laid, ...]:
        """Return the first members of a list of values; a message about their path points at its key.

        One whose label would be long, or that of another value, goes by its number.
        """
        found = [self._laid(path, (*where, number)) for number in range(count)]
        marks: dict[str, set[str]] = {}
        for each in found:
            marks.setdefault(each.label, set()).add(each.mark)
        unclear = {label for label, several in marks.items() if len(several) > 1 or len(label) > LONGEST_LABEL}
        return tuple(
            replace(each, label=f"#{number + 1}") if each.label in unclear else each
            for number, each in enumerate(found)
        )

    def assignments(self) -> list[Assignment]:
        """Return the static points, cases x grid x zip in written order; none if none is written, or far too many."""
        if self.sweep.size > MOST_POINTS:
            return []
        cases, grid, rows = self.cases(), self.lists("grid"), self.lists("zip")
        if not (cases or grid or rows):
            return []
        words = short_names([*grid, *rows])
        zipped: list[tuple[Laid, ...]] = list(zip(*rows.values(), strict=False)) if rows else [()]
        cells = [(*cell, *row) for cell, row in product(product(*grid.values()), zipped)]
        names = [" ".join(f"{words[each.path]}={each.label}" for each in cell) for cell in cells]
        return [
            Assignment(f"{case} {name}".strip(), (*given, *cell), case)
            for case, given in (cases or {"": ()}).items()
            for cell, name in zip(cells, names, strict=True)
        ]

    def _laid(self, path: str, where: Path) -> Laid:
        item, _ = item_at(self.tree, where)
        asked, exact = item_at(self.asked, where)
        if isinstance(where[-1], int):
            above, _ = item_at(self.tree, where[:-1])
            named = self.tree.value[where[0]].value[where[1]].key
            plain = not isinstance(item.value, (dict, list))
            item = replace(item, key=named if plain or above.key is None else item.place)
        return laid(path, item, where, _label(asked if exact else item, item))


def short_names(paths: Sequence[str]) -> dict[str, str]:
    """Return for each path its shortest end, in whole words, that no other path ends with; at least one word."""
    named = {}
    for path in paths:
        parts = path.split(".")
        ends = [".".join(parts[-size:]) for size in range(1, len(parts) + 1)]
        others = [other for other in paths if other != path]
        named[path] = next(
            (end for end in ends if not any(other == end or other.endswith("." + end) for other in others)), path
        )
    return named


def _label(asked: Item, item: Item) -> str:
    text = asked.value
    if isinstance(text, str) and text.startswith("${") and text.endswith("}"):
        return text[2:-1].rpartition(".")[2]
    if isinstance(item.value, str):
        return item.value
    if isinstance(item.value, dict) and "kind" in item.value:
        return str(item.value["kind"].value)
    return canonical(to_plain(item))


def _escaped(item: Item) -> Item:
    if isinstance(item.value, str):
        return replace(item, value=item.value.replace("${", "$${"))
    if isinstance(item.value, dict):
        return replace(item, value={key: _escaped(child) for key, child in item.value.items()})
    if isinstance(item.value, list):
        return replace(item, value=[_escaped(child) for child in item.value])
    return item
