"""From a sweep to its points, trials and the merged graph of their stages."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice, product
from typing import Any

from tokexp.data.listing import fingerprint as data_fingerprint
from tokexp.errors import InputError, SpecError, TokexpError
from tokexp.plan.graph import Plan, StageNode, stages_of
from tokexp.plan.keys import digest
from tokexp.spec.check_sweep import CASE
from tokexp.spec.conditions import all_hold
from tokexp.spec.data import DataSpec
from tokexp.spec.experiment import Experiment
from tokexp.spec.searching import Choice
from tokexp.spec.sweep_reading import ReadSweep
from tokexp.spec.variants import uncollected

_MOST_TRIED = 16


@dataclass(frozen=True)
class Point:
    """One assignment of values: a case, a cell of a grid, or what a search asked for.

    `id` is a digest of all that decides the experiment's results but its seeds; `also` holds the names of other
    points that came to the same.
    """

    case: str
    values: Mapping[str, Any]
    experiment: Experiment
    id: str
    also: tuple[str, ...] = ()


@dataclass(frozen=True)
class Trial:
    """A point for one seed; `keys` maps stage names to stage keys."""

    id: str
    point: Point
    seed: int
    keys: Mapping[str, str]


@dataclass(frozen=True)
class SweepPlan:
    """The trials of points, and one graph of all their stages."""

    name: str
    spec_hash: str
    plan: Plan
    trials: tuple[Trial, ...]


def expand(read: ReadSweep) -> list[Point]:
    """Return the static points of a sweep in written order, equal ones merged under the name of the first.

    Without any, and without a `space`, the experiment itself is the one point, named after it.
    """
    merged: dict[str, Point] = {}
    for each in read.points:
        case, variant = each.assignment.case, each.variant
        assert variant is not None, "a sweep with a point that is not valid cannot be read"
        first = merged.get(variant.identity)
        if first is None:
            merged[variant.identity] = Point(case, each.assignment.plain, variant.experiment, variant.identity)
        elif case != first.case and case not in first.also:
            merged[variant.identity] = replace(first, also=(*first.also, case))
    if read.sweep.listed or read.sweep.searched:
        return list(merged.values())
    alone = read.variant({})
    return [Point(alone.experiment.name, {}, alone.experiment, alone.identity)]


def point_of(read: ReadSweep, case: str, values: Mapping[str, Any]) -> Point:
    """Return the point of a searched sweep for the values asked for, over those of the static point named `case`.

    Raises SpecError if they do not make a valid experiment.
    """
    static = next((each.assignment.plain for each in read.points if each.assignment.case == case), {})
    given = {**static, **values}
    variant = read.variant(given)
    return Point(case, given, variant.experiment, variant.identity)


def example_point(read: ReadSweep) -> Point:
    """Return one point of a searched sweep: the first or last value of every dimension, over the first static point.

    Raises SpecError if none of the first few such points is a valid experiment, InputError if all are excluded.
    """
    static = read.points[0].assignment if read.points else None
    case, below = (static.case, static.plain) if static is not None else ("", {})
    problem: TokexpError | None = None
    for ends in islice(product((0, -1), repeat=len(read.sweep.space)), _MOST_TRIED):
        given = dict(zip(read.sweep.space, ends, strict=True))
        values = _existing(read, {**below, CASE: case}, given)
        if read.excluded({**below, **values}, case):
            continue
        try:
            return point_of(read, case, values)
        except SpecError as error:
            problem = problem or error
    raise problem or InputError(f"{read.file}: exclude leaves out every point that was tried as an example")


def _existing(read: ReadSweep, known: Mapping[str, Any], ends: Mapping[str, int]) -> dict[str, Any]:
    """Return the chosen ends of the dimensions that exist, whatever the order in which they are written."""
    values: dict[str, Any] = {}
    left = dict(read.sweep.space)
    while True:
        ready = [path for path, dimension in left.items() if all_hold(dimension.when, {**known, **values})]
        if not ready:
            return values
        for path in ready:
            dimension = left.pop(path)
            options = dimension.choice if isinstance(dimension, Choice) else dimension.bounds
            values[path] = options[ends[path]]


def plan_points(name: str, points: Sequence[Point], strict: bool = True) -> SweepPlan:
    """Return the plan of some points, equal stages merged.

    With `strict` off, data that is not on this machine gets the fingerprint "absent" instead of a DataError.
    """
    nodes: dict[str, StageNode] = {}
    trials: list[Trial] = []
    fingerprints: list[tuple[DataSpec, str]] = []
    with uncollected():
        for point in points:
            found = _fingerprint(point.experiment.data, fingerprints, strict)
            own, seeds = stages_of(point.experiment, found, strict=strict)
            for key, node in own.items():
                nodes.setdefault(key, node)
            trials += [Trial(f"{point.id[:10]}-s{seed}", point, seed, keys) for seed, keys in seeds.items()]
    spec_hash = digest([name, sorted(trial.id for trial in trials)])
    return SweepPlan(name, spec_hash, Plan(name, spec_hash, tuple(nodes.values()), {}), tuple(trials))


def build_sweep_plan(read: ReadSweep, strict: bool = True) -> SweepPlan:
    """Return the plan of a sweep's static points; an empty one for a searched sweep."""
    return plan_points(read.sweep.name, [] if read.sweep.searched else expand(read), strict)


def _fingerprint(data: DataSpec, known: list[tuple[DataSpec, str]], strict: bool) -> str:
    """Return the fingerprint of data, found out once for equal data: a folder of a million files takes its time."""
    for other, fingerprint in known:
        if other is data or other == data:
            return fingerprint
    known.append((data, data_fingerprint(data, strict=strict)))
    return known[-1][1]
