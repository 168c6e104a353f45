"""Experiments that differ from one base in some values: what they share is validated once.

A block that no value touches is the base's own object; one that is touched is validated once for every set of values
that reaches it. The whole is validated again for each variant, from blocks that are valid already, so that the rules
between blocks hold as in an experiment that is read from a file.
"""

import gc
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import chain
from typing import Any

from pydantic import ValidationError

from tokexp.errors import Problem
from tokexp.spec.canonical import digest
from tokexp.spec.checks import CHECKS, check
from tokexp.spec.experiment import Experiment
from tokexp.spec.findings import Finding
from tokexp.spec.laying import Laid
from tokexp.spec.overrides import apply_items
from tokexp.spec.references import referred, resolve
from tokexp.spec.validating import Validated, validated
from tokexp.spec.yaml_tree import Item, Place, from_plain, to_plain

NOT_IDENTITY = frozenset({"name", "seeds", "resources", "track"})
"""Blocks that do not tell one point of a sweep from another."""


@dataclass(frozen=True)
class Variant:
    """A valid experiment, what cannot work in it, and its identity: a digest of what decides its results but seeds."""

    experiment: Experiment
    identity: str
    findings: tuple[Finding, ...]


@dataclass(frozen=True)
class _Block:
    """A valid block: its value, the digest of what is relevant in it, and a number of its own (0: the base's).

    `alone` is the base with nothing but this block changed.
    """

    value: Any
    digest: str
    number: int
    alone: Experiment | None = None


@contextmanager
def uncollected() -> Iterator[None]:
    """Put the garbage collector off: it would walk over ten thousand specs again and again, and none is garbage."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


class Variants:
    """Makes variants of a base. Experiments of one `Variants` share blocks: they are frozen."""

    def __init__(self, tree: Item, seeds: Sequence[int] | None = None) -> None:
        """Take the base's tree, references not replaced, and the seeds of all variants (the tree's if None)."""
        if seeds is not None:
            tree = apply_items(tree, [("seeds", from_plain(list(seeds), Place(tree.place.file)))], [])
        self._tree = tree
        self._problems: list[Problem] = []
        self.resolved = resolve(tree, self._problems)
        self._keys = {field: info.alias or field for field, info in Experiment.model_fields.items()}
        self._base = self._validate_base()
        fields = {} if self._base is None else {name: getattr(self._base, name) for name in self._keys}
        self._blocks = {name: _Block(value, _digest(self._base, name), 0) for name, value in fields.items()}
        self._telling = {name: block.digest for name, block in self._blocks.items() if _tells(name, block.value)}
        self._given = {self._keys[name]: value for name, value in fields.items()}
        self._readers = _readers(tree)
        fields_written = tree.value if isinstance(tree.value, dict) else {}
        self._alone = {name for name, item in fields_written.items() if not referred(item)}
        self._memo: dict[tuple[str, ...], _Block | None] = {}
        self._looks: dict[tuple[int, ...], tuple[Finding, ...]] = {}
        self._of_base = [() if self._base is None else tuple(look(self._base)) for _, look in CHECKS]
        self._concerned: dict[tuple[str, ...], list[int]] = {}
        self._alone_seen: dict[int, tuple[Finding, ...]] = {}

    @property
    def base(self) -> Experiment | None:
        """The base itself; None if it is not valid."""
        return self._base

    def at(self, values: Sequence[Laid]) -> Variant | None:
        """Return the base with these values laid over it, in order; None if that, or the base, is not valid."""
        if self._base is None:
            return None
        try:
            blocks = self._touched(values)
            if blocks is None:
                return None
            experiment = self._joined(blocks)
        except _TogetherError:
            return self._plainly(values)
        except ValidationError:
            return None
        findings = self._findings(experiment, blocks)
        return Variant(experiment, _identity(blocks, self._telling), findings)

    def look(self, values: Sequence[Laid]) -> tuple[Item, Validated[Experiment]]:
        """Return the tree with the values laid over it, references replaced, and all that is wrong with it."""
        problems: list[Problem] = []
        tree = resolve(apply_items(self._tree, [(each.path, each.item) for each in values], problems), problems)
        found = validated(tree, Experiment, check, doubtful=bool(problems))
        return tree, Validated(found.spec, [*problems, *found.problems], found.findings)

    def _plainly(self, values: Sequence[Laid]) -> Variant | None:
        _, found = self.look(values)
        if found.spec is None or found.problems:
            return None
        every = {name: _Block(getattr(found.spec, name), _digest(found.spec, name), 0) for name in self._keys}
        return Variant(found.spec, _identity(every, {}), tuple(found.findings))

    def _validate_base(self) -> Experiment | None:
        if self._problems or not isinstance(self.resolved.value, dict):
            return None
        found = validated(self.resolved, Experiment, lambda _: ())
        return None if found.problems else found.spec

    def _joined(self, blocks: Mapping[str, _Block]) -> Experiment:
        """Return the base with some blocks changed. Raises ValidationError if they do not go together."""
        if len(blocks) == 1:
            [only] = blocks.values()
            if only.alone is not None:
                return only.alone
        return Experiment.model_validate(
            {**self._given, **{self._keys[name]: block.value for name, block in blocks.items()}}
        )

    def _touched(self, values: Sequence[Laid]) -> dict[str, _Block] | None:
        """Return the blocks that values reach, by field; None if one of them is not valid."""
        groups: dict[str, list[Laid]] = {}
        for each in values:
            for reader in self._readers.get(each.block, (each.block,)):
                groups.setdefault(reader, []).append(each)
        blocks = {name: self._block(name, group) for name, group in groups.items()}
        valid = {name: block for name, block in blocks.items() if block is not None}
        return valid if len(valid) == len(blocks) else None

    def _block(self, name: str, values: list[Laid]) -> _Block | None:
        key = (name, *[each.mark for each in values])
        if key not in self._memo:
            self._memo[key] = self._validate_block(name, values, len(self._memo) + 1)
        return self._memo[key]

    def _validate_block(self, name: str, values: list[Laid], number: int) -> _Block | None:
        problems: list[Problem] = []
        plain = self._plain_block(name, values, problems)
        if problems or name not in self._blocks:
            return None
        try:
            experiment = Experiment.model_validate({**self._given, name: plain})
        except ValidationError as error:
            if any(not each["loc"] for each in error.errors(include_url=False)):
                raise _TogetherError from error
            return None
        value, base, found = getattr(experiment, name), self._blocks[name], _digest(experiment, name)
        if name == "data" and found == base.digest and value != base.value:
            # Paths are no part of a digest; another folder holds other images all the same.
            found = digest([found, value.model_dump(mode="json")])
        return _Block(value, found, number, experiment)

    def _plain_block(self, name: str, values: list[Laid], problems: list[Problem]) -> Any:
        root = self._tree
        alone = name in self._alone and all(each.block == name for each in values)
        if alone:
            root = Item({name: root.value[name]}, root.place)
        root = apply_items(root, [(each.path, each.item) for each in values], problems)
        if not alone or any("${" in each.mark for each in values):
            root = resolve(root, problems)
        return to_plain(root.value[name]) if name in root.value else None

    def _findings(self, experiment: Experiment, touched: Mapping[str, _Block]) -> tuple[Finding, ...]:
        """Return the findings of an experiment; a check is not repeated for blocks that it has seen together."""
        names = tuple(touched)
        # Few blocks come twice where each has a value of its own: then there is one thing to remember, not one a check.
        own = next(iter(touched.values())).number if len(touched) == 1 else 0
        if own and own in self._alone_seen:
            return self._alone_seen[own]
        if names not in self._concerned:
            self._concerned[names] = [
                number for number, (read, _) in enumerate(CHECKS) if not touched.keys().isdisjoint(read)
            ]
        found = list(self._of_base)
        for number in self._concerned[names]:
            read, look = CHECKS[number]
            if own:
                found[number] = tuple(look(experiment))
                continue
            key = (number, *[touched[name].number if name in touched else 0 for name in read])
            if key not in self._looks:
                self._looks[key] = tuple(look(experiment))
            found[number] = self._looks[key]
        together = tuple(chain.from_iterable(found))
        if own:
            self._alone_seen[own] = together
        return together


class _TogetherError(Exception):
    """A block is not valid beside the base's others: only all values together show whether they are."""


def _digest(experiment: Experiment | None, name: str) -> str:
    return "" if experiment is None or name in NOT_IDENTITY else digest(experiment.relevant_part(name))


def _identity(blocks: Mapping[str, _Block], others: Mapping[str, str]) -> str:
    """Return the digest of what tells an experiment from others: its blocks, and the digests of the base's others."""
    digests = {name: each for name, each in others.items() if name not in blocks}
    return digest({**digests, **{name: block.digest for name, block in blocks.items() if _tells(name, block.value)}})


def _tells(name: str, value: Any) -> bool:
    """Return whether a block is part of an identity: later ones (see `added`) only where they are written."""
    return name not in NOT_IDENTITY and not (name in _later_blocks() and value == _later_blocks()[name])


@cache
def _later_blocks() -> dict[str, Any]:
    """Return the blocks that the language got later, with their defaults."""
    fields = Experiment.model_fields.items()
    return {
        name: field.default
        for name, field in fields
        if isinstance(field.json_schema_extra, dict) and field.json_schema_extra.get("added")
    }


def _readers(tree: Item) -> dict[str, tuple[str, ...]]:
    """Return for every block those that refer to it, directly or through others, and itself first."""
    if not isinstance(tree.value, dict):
        return {}
    reads = {name: referred(item) for name, item in tree.value.items()}
    for _ in reads:
        reads = {name: below.union(*(reads.get(other, set()) for other in below)) for name, below in reads.items()}
    names = set(reads).union(*reads.values())
    return {
        name: (name, *(other for other, below in reads.items() if name in below and other != name)) for name in names
    }
