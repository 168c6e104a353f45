"""A sweep that has been read: its points, the experiments that they stand for, and how it is kept for later."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from tokexp.errors import Problem, SpecError
from tokexp.spec.check_names import completed
from tokexp.spec.check_sweep import CASE
from tokexp.spec.conditions import all_hold
from tokexp.spec.experiment import Experiment
from tokexp.spec.laying import Assignment, Written, laid_plain
from tokexp.spec.point_faults import PointFaults
from tokexp.spec.probing import probes
from tokexp.spec.reading import Document
from tokexp.spec.references import resolve
from tokexp.spec.sources import sources_of
from tokexp.spec.sweep import SweepSpec
from tokexp.spec.validating import validated
from tokexp.spec.variants import Variant, Variants, uncollected
from tokexp.spec.yaml_tree import FAULTY, Item, Place, from_plain, to_plain


@dataclass(frozen=True)
class StaticPoint:
    """A static point as written, and what came of it (None if it is not a valid experiment)."""

    assignment: Assignment
    variant: Variant | None


@dataclass(frozen=True)
class ReadSweep:
    """A validated sweep with what it was read from.

    `tree` is its document with places, `asked` the same before references were replaced; `document` is the experiment
    with `set` and `--set` laid over it; `text` is the text of the sweep's own file. `variants` makes its experiments;
    `points` are all static points but the excluded ones, in written order, equal ones not merged.
    """

    sweep: SweepSpec
    tree: Item
    asked: Item
    document: Document
    text: str
    file: str
    variants: Variants = field(repr=False, compare=False)
    points: tuple[StaticPoint, ...] = field(repr=False, compare=False)

    @property
    def sources(self) -> dict[str, str]:
        """Where each value of the resolved sweep comes from: `file:line`, `--set` or `default`, by dotted path."""
        return sources_of(self.sweep, self.tree)

    def excluded(self, values: Mapping[str, Any], case: str = "") -> bool:
        """Say whether `exclude` leaves a point out; `case` is the name of the static point that it is made from.

        A path that the point does not set has the experiment's value.
        """
        below = next((each.assignment.below for each in self.points if each.assignment.case == case), "")
        return _excluded(self.sweep, self._elsewhere, values, below)

    def variant(self, values: Mapping[str, Any]) -> Variant:
        """Return the experiment of one point with its identity. Raises SpecError if it is not valid."""
        given = laid_plain(values, self.file)
        found = self.variants.at(given)
        if found is None or found.findings:
            faults = PointFaults(self.variants, self.tree)
            faults.add(given, found)
            raise SpecError(faults.problems())
        return found

    def experiment(self, values: Mapping[str, Any]) -> Experiment:
        """Return the experiment of one point. Raises SpecError if it is not valid."""
        return self.variant(values).experiment

    def freeze(self) -> dict[str, Any]:
        """Return all that is needed to make the same experiments without the files, ready for JSON."""
        return {
            "file": self.file, "text": self.text, "sweep": to_plain(self.asked),
            "experiment": to_plain(self.document.tree), "experiment_file": self.document.file,
        }  # fmt: skip

    @cached_property
    def _elsewhere(self) -> dict[str, Any]:
        return _elsewhere(self.sweep, self.variants)


def thaw(frozen: Mapping[str, Any]) -> ReadSweep:
    """Return the sweep that `ReadSweep.freeze` wrote down. Raises SpecError if this version cannot read it."""
    problems: list[Problem] = []
    asked = from_plain(frozen["sweep"], Place(frozen["file"]))
    tree = resolve(asked, problems)
    found = validated(tree, SweepSpec, lambda _: (), doubtful=bool(problems))
    place = Place(frozen["experiment_file"])
    document = Document(place.file, "", from_plain(frozen["experiment"], place), (place.file,))
    if found.spec is None or found.problems:
        raise SpecError([*problems, *found.problems])
    read = assembled(Written(found.spec, tree, asked), document, frozen["text"], frozen["file"])
    if read.variants.base is None or any(point.variant is None for point in read.points):
        raise SpecError(faults_of(read).problems())
    return read


def assembled(written: Written, document: Document, text: str, file: str) -> ReadSweep:
    """Return a sweep with its points; some of them, or the experiment itself, may not be valid."""
    sweep = written.sweep
    variants = Variants(document.tree, sweep.seeds or None)
    if variants.base is not None:
        sweep = completed(sweep, variants.base)
    elsewhere = _elsewhere(sweep, variants)
    with uncollected():
        found = [each for each in written.assignments() if not _excluded(sweep, elsewhere, each.plain, each.below)]
        points = tuple(StaticPoint(each, variants.at(each.values)) for each in found)
    sweep = _with_first_names(sweep, points)
    return ReadSweep(sweep, written.tree, written.asked, document, text, file, variants, points)


def faults_of(read: ReadSweep) -> PointFaults:
    """Look at every static point, at every choice and bound of the space, and without any at the experiment itself."""
    faults = PointFaults(read.variants, read.tree, tuple(read.sweep.space))
    for point in read.points:
        faults.add(point.assignment.values, point.variant)
    for probe in probes(Written(read.sweep, read.tree, read.asked)):
        faults.add(probe, read.variants.at(probe))
    if not (read.sweep.listed or read.sweep.searched):
        faults.add((), read.variants.at(()))
    return faults


def _excluded(sweep: SweepSpec, elsewhere: Mapping[str, Any], values: Mapping[str, Any], case: str) -> bool:
    given = {**elsewhere, CASE: case, **values} if sweep.exclude else {}
    return any(conditions and all_hold(conditions, given) for conditions in sweep.exclude)


def _elsewhere(sweep: SweepSpec, variants: Variants) -> dict[str, Any]:
    """Return the experiment's own values of the paths in `exclude` that some cases set and others do not."""
    paths = {path for conditions in sweep.exclude for path in conditions} - set(sweep.space)
    if variants.base is None or not paths:
        return {}
    plain = variants.base.model_dump(mode="json", by_alias=True)
    found = {path: _value_at(plain, path) for path in paths}
    return {path: value for path, value in found.items() if value is not FAULTY}


def _with_first_names(sweep: SweepSpec, points: Sequence[StaticPoint]) -> SweepSpec:
    """Return the sweep with cases named as their points are: of equal ones, the first name stands for all."""
    first: dict[str, str] = {}
    names: dict[str, str] = {}
    for point in points:
        if point.variant is not None:
            names[point.assignment.case] = first.setdefault(point.variant.identity, point.assignment.case)
    baseline = None if sweep.baseline is None else names.get(sweep.baseline, sweep.baseline)
    published = sweep.published
    if published is not None:
        renamed = {names.get(case, case): cell for case, cell in reversed(published.cases.items())}
        published = published.model_copy(update={"cases": {**renamed, **published.cases}})
    return sweep.model_copy(update={"baseline": baseline, "published": published})


def _value_at(plain: Any, path: str) -> Any:
    for part in path.split("."):
        plain = plain.get(part, FAULTY) if isinstance(plain, dict) else FAULTY
    return plain
