"""One tree out of a spec file and what it extends.

`extends` is read depth-first: the named files in order, then the file that names them; what comes later wins. Mappings
merge unless their `kind` (or the word of a dimension) differs, everything else replaces (as
`tokexp.spec.base.merge_defaults` does for presets).
"""

import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tokexp.errors import Problem
from tokexp.spec.base import ALTERNATIVES
from tokexp.spec.files import read_text
from tokexp.spec.origins import anchored
from tokexp.spec.searching import DIMENSIONS
from tokexp.spec.wording import shown
from tokexp.spec.yaml_tree import FAULTY, Item, parse, to_plain

MAX_FILES = 100
"""Most files that one spec reads, repeated ones counted each time."""


def merge_items(base: Item, over: Item) -> Item:
    """Lay one mapping over another. Places are those of what wins; a merged mapping has the place of `over`."""
    dropped = {name for group in ALTERNATIVES if group & over.value.keys() for name in group}
    merged = {key: child for key, child in base.value.items() if key not in dropped}
    for key, child in over.value.items():
        below = merged.get(key)
        merged[key] = child if below is None or not _merges(below, child) else merge_items(below, child)
    return replace(over, value=merged)


def _merges(base: Item, over: Item) -> bool:
    if not (isinstance(base.value, dict) and isinstance(over.value, dict)):
        return False
    told = [DIMENSIONS.keys() & item.value.keys() for item in (base, over)]
    if told[0] and told[1] and told[0] != told[1]:
        return False
    written = [to_plain(item.value["kind"]) if "kind" in item.value else None for item in (base, over)]
    return "kind" not in over.value or written[0] == written[1]


def spread_augment(root: Item) -> Item:
    """Write `augment: [...]` (one policy for both phases) as `augment: {pretrain: [...], task: [...]}`."""
    augment = root.value.get("augment")
    if augment is None or not isinstance(augment.value, list):
        return root
    phases = {phase: replace(augment, value=list(augment.value)) for phase in ("pretrain", "task")}
    return replace(root, value={**root.value, "augment": replace(augment, value=phases)})


@dataclass
class Composer:
    """Reads a file and what it extends. `problems` collects all that is wrong; `files` the names in reading order."""

    problems: list[Problem] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    text: str = ""
    _parsed: dict[Path, Item | None] = field(default_factory=dict)
    _loads: int = 0

    def load(self, file: str | Path) -> Item | None:
        """Return the merged tree without `extends`, or None where a file cannot be read."""
        shown, path = str(file), Path(file)
        text = read_text(path, shown, self.problems)
        if text is None:
            return None
        self.text = text
        return self._document(path, shown, text, ())

    def _document(self, path: Path, shown: str, text: str, above: tuple[Path, ...]) -> Item | None:
        real = Path(os.path.realpath(path))
        self._loads += 1
        if real not in self._parsed:
            self.files.append(shown)
            self._parsed[real] = self._parse(shown, text)
        root = self._parsed[real]
        if root is None:
            return None
        own = replace(root, value={key: child for key, child in root.value.items() if key != "extends"})
        merged: Item | None = None
        complete = True
        for entry in self._entries(root.value.get("extends")):
            below = self._extended(path, shown, entry, (*above, real))
            complete = complete and below is not None
            if below is not None:
                merged = below if merged is None else _merge_roots(merged, below)
        if not complete:
            return None
        return own if merged is None else _merge_roots(merged, own)

    def _parse(self, shown: str, text: str) -> Item | None:
        before = len(self.problems)
        root = parse(text, shown, self.problems)
        if root is None or root.value is None:
            if len(self.problems) == before:
                self.problems.append(Problem(shown, "", "the file is empty; a spec starts with `schema: 1`", 1, 1))
            return None
        if not isinstance(root.value, dict):
            if root.value is not FAULTY:
                self.problems.append(root.place.problem((), "a spec is a mapping of blocks such as `data: ...`"))
            return None
        return anchored(root, Path(shown).parent)

    def _entries(self, extends: Item | None) -> list[Item]:
        if extends is None or extends.value is FAULTY:
            return []
        entries = extends.value if isinstance(extends.value, list) else [extends]
        for entry in entries:
            if not _is_name(entry.value) and entry.value is not FAULTY:
                self.problems.append(
                    entry.place.problem(("extends",), "the name of a file, or a list of names, is needed")
                )
        return [entry for entry in entries if _is_name(entry.value)]

    def _extended(self, path: Path, shown: str, entry: Item, above: tuple[Path, ...]) -> Item | None:
        target = path.parent / entry.value
        name = os.path.normpath(Path(shown).parent / entry.value)
        if Path(os.path.realpath(target)) in above:
            return self._refuse(entry, f"{entry.value} extends this file, directly or through others; break the cycle")
        if self._loads >= MAX_FILES:
            return self._refuse(entry, f"more than {MAX_FILES} files are read; extend fewer")
        found: list[Problem] = []
        text = read_text(target, name, found)
        if text is None:
            if found[0].line is not None:
                self.problems += found
                return None
            return self._refuse(entry, f"{entry.value}: {found[0].message} (looked for {name})")
        below = self._document(target, name, text, above)
        if below is not None:
            self._check_version(below)
        return below

    def _check_version(self, root: Item) -> None:
        version = root.value.get("schema")
        if version is None or version.value is FAULTY or (version.value is not True and version.value == 1):
            return
        problem = version.place.problem(("schema",), f"{shown(version.value)} given; only version 1 is known")
        self.problems += [] if problem in self.problems else [problem]

    def _refuse(self, entry: Item, message: str) -> Item | None:
        self.problems.append(entry.place.problem(("extends",), message))
        return None


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and value != "" and "\0" not in value


def _merge_roots(base: Item, over: Item) -> Item:
    kinds = {type(root.value["augment"].value) for root in (base, over) if "augment" in root.value}
    if kinds == {list, dict}:
        base, over = spread_augment(base), spread_augment(over)
    return merge_items(base, over)
