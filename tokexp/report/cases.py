"""The cases of a sweep: each point over its seeds, beside the baseline, the bounds and what was published."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from pydantic import ValidationError

from tokexp.errors import InputError
from tokexp.ledger.sweeps import SweepRecord, TrialRecord
from tokexp.report.front import non_dominated
from tokexp.report.published import published_number, published_table
from tokexp.report.statistics import ALPHA, Difference, Estimate, difference, estimate, holm
from tokexp.spec.published import Published
from tokexp.spec.sweep import Constraint

BYTES = "storage/bytes_per_image"
"""The metric that says what an image takes in storage, everything counted."""


class Tried(NamedTuple):
    """A trial, its metrics by full name, and its share of the cost."""

    trial: TrialRecord
    metrics: Mapping[str, float]
    seconds: float
    gpu_hours: float


@dataclass(frozen=True)
class Against:
    """How a case differs from its baseline in one metric; `holm` is p corrected over the cases of the sweep."""

    difference: Difference
    holm: float | None = None
    significant: bool | None = None


@dataclass(frozen=True)
class CaseRow:
    """One point of a sweep over its seeds.

    per_seed and estimates: metric to the values by seed of its finished trials, and to their mean and interval.
    against: metric to the comparison with the baseline, whose point is `compared_with`. seconds, gpu_hours: of one
    trial in the mean, shared stages divided. feasible: whether it keeps all bounds; None if that is not known.
    published: column of the printed table to the value there. also: names of other cases that came to the same point.
    """

    name: str
    case: str
    point: str
    number: int
    values: dict[str, Any]
    states: dict[str, int]
    per_seed: dict[str, dict[int, float]]
    estimates: dict[str, Estimate]
    seconds: float | None = None
    gpu_hours: float | None = None
    feasible: bool | None = None
    is_baseline: bool = False
    compared_with: str | None = None
    against: dict[str, Against] = field(default_factory=dict)
    published: dict[str, float] = field(default_factory=dict)
    on_front: bool = False
    also: tuple[str, ...] = ()

    def mean(self, metric: str) -> float | None:
        """Return the mean of a metric, None if no seed has it."""
        found = self.estimates.get(metric)
        return None if found is None else found.mean

    @property
    def bytes_per_image(self) -> float | None:
        """Bytes that one image takes in storage, everything counted."""
        return self.mean(BYTES)


def case_rows(record: SweepRecord, tried: Iterable[Tried]) -> tuple[tuple[CaseRow, ...], tuple[str, ...]]:
    """Return a row for each point, in the order of their numbers, and remarks on what is missing."""
    by_point: dict[str, list[Tried]] = {}
    for each in sorted(tried, key=lambda each: (each.trial.number, each.trial.seed)):
        by_point.setdefault(each.trial.point, []).append(each)
    bounds = _bounds(record)
    rows = [_row(record, trials, bounds) for trials in by_point.values()]
    remarks = [*_missing(record, rows), *_broken(bounds, rows)]
    rows, said = _compared(record, rows)
    front = _front(record, rows)
    printed, about = _published(record, rows)
    finished = (replace(row, on_front=row.point in front, published=printed.get(row.point, {})) for row in rows)
    return tuple(finished), (*remarks, *said, *about)


def _published(record: SweepRecord, rows: Sequence[CaseRow]) -> tuple[dict[str, dict[str, float]], list[str]]:
    """Return point to published column to value, and what the table is about, or why it cannot be read."""
    if record.published is None:
        return {}, []
    try:
        published = Published.model_validate(record.published)
        table = published_table(published.table)
        cells = {row.point: published_number(published, row.case) for row in rows}
    except (InputError, ValidationError) as error:
        return {}, [f"no published values: {error}"]
    about = f"published: {table.name}, {table.title}; {table.metric}"
    return {point: dict([cell]) for point, cell in cells.items() if cell is not None}, [about]


def _row(record: SweepRecord, trials: Sequence[Tried], bounds: Sequence[Constraint]) -> CaseRow:
    first = trials[0].trial
    done = [each for each in trials if each.trial.state == "done"]
    per_seed: dict[str, dict[int, float]] = {}
    for each in done:
        for name, value in each.metrics.items():
            per_seed.setdefault(name, {})[each.trial.seed] = value
    estimates = {name: found for name, values in per_seed.items() if (found := estimate(values)) is not None}
    return CaseRow(
        name=_name(record, first), case=first.case, point=first.point, number=first.number, values=dict(first.values),
        states=dict(Counter(each.trial.state for each in trials)), per_seed=per_seed, estimates=estimates,
        seconds=_mean([each.seconds for each in done]), gpu_hours=_mean([each.gpu_hours for each in done]),
        feasible=_feasible(estimates, bounds), also=tuple(first.also),
    )  # fmt: skip


def _name(record: SweepRecord, trial: TrialRecord) -> str:
    if not record.searched:
        return trial.case or record.name
    return f"{trial.case} #{trial.number}" if trial.case else f"trial {trial.number}"


def _mean(values: Sequence[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None


def _bounds(record: SweepRecord) -> list[Constraint]:
    given = (record.frozen.get("sweep") or {}).get("constraints") or ()
    return [Constraint.model_validate(bound) for bound in given]


def _feasible(estimates: Mapping[str, Estimate], bounds: Sequence[Constraint]) -> bool | None:
    if not bounds or any(bound.metric not in estimates for bound in bounds):
        return None
    return all(bound.violation(estimates[bound.metric].mean) <= 0 for bound in bounds)


def _missing(record: SweepRecord, rows: Sequence[CaseRow]) -> list[str]:
    remarks = []
    for name in (metric["name"] for metric in record.metrics):
        done = sum(row.states.get("done", 0) for row in rows)
        values = [value for row in rows for value in row.per_seed.get(name, {}).values()]
        if missing := done - len(values):
            remarks.append(f"{name} is missing in {missing} of {done} finished trials")
        if broken := sum(not math.isfinite(value) for value in values):
            remarks.append(f"{name} is not finite in {broken} of {done} finished trials, which are left out")
    return remarks


def _broken(bounds: Sequence[Constraint], rows: Sequence[CaseRow]) -> list[str]:
    count = sum(row.feasible is False for row in rows)
    texts = (
        f"{bound.metric} at {'most' if bound.at_most is not None else 'least'} "
        f"{bound.at_most if bound.at_most is not None else bound.at_least:g}"
        for bound in bounds
    )
    return [f"{count} of {len(rows)} points break a bound ({', '.join(texts)})"] if count else []


def _compared(record: SweepRecord, rows: list[CaseRow]) -> tuple[list[CaseRow], list[str]]:
    """Return the rows with their differences to the baseline, and why there are none."""
    if record.baseline is None:
        return rows, []
    cells = {row.point: _cell_of(record, row) for row in rows}
    bases: dict[str, list[CaseRow]] = {}
    for row in rows:
        if cells[row.point][0] == record.baseline:
            bases.setdefault(cells[row.point][1], []).append(row)
    if any(len(found) > 1 for found in bases.values()):
        return rows, [f"no differences: the search tried {record.baseline} more than once"]
    base_of = {row.point: bases[cells[row.point][1]][0] for row in rows if cells[row.point][1] in bases}
    found = [_against(row, base_of.get(row.point)) for row in rows]
    if not base_of:
        return rows, [f"no differences: no point is called {record.baseline}; of equal points the first gives the name"]
    if not any(base.per_seed for base in base_of.values()):
        return found, [f"no differences: the baseline {record.baseline} has no finished trial"]
    return _corrected(found), []


def _cell_of(record: SweepRecord, row: CaseRow) -> tuple[str, str]:
    """Return a row's case and grid cell; the baseline's where it came to the same point as another case."""
    names = [_cell(record, name) for name in (row.case, *row.also)]
    return next((cell for cell in names if cell[0] == record.baseline), names[0])


def _cell(record: SweepRecord, name: str) -> tuple[str, str]:
    """Split a point's name into its case and the words of its grid cell: baselines are compared within a cell."""
    cases: Mapping[str, Any] = (record.frozen.get("sweep") or {}).get("cases") or {}
    own = max((case for case in cases if name == case or name.startswith(f"{case} ")), key=len, default=name)
    return own, name[len(own) :].strip()


def _against(row: CaseRow, base: CaseRow | None) -> CaseRow:
    if base is None:
        return row
    if base.point == row.point:
        return replace(row, is_baseline=True)
    against = {
        name: Against(found)
        for name, values in row.per_seed.items()
        if (found := difference(values, base.per_seed.get(name, {}))) is not None
    }
    return replace(row, against=against, compared_with=base.point)


def _corrected(rows: Sequence[CaseRow]) -> list[CaseRow]:
    """Return the rows with Holm's correction, for each metric over all rows that are compared."""
    corrected: dict[str, dict[str, float | None]] = {}
    for name in dict.fromkeys(name for row in rows for name in row.against):
        corrected[name] = holm({row.point: row.against[name].difference.p for row in rows if name in row.against})
    return [
        replace(
            row,
            against={name: _judged(found, corrected[name][row.point]) for name, found in row.against.items()},
        )
        for row in rows
    ]


def _judged(found: Against, p: float | None) -> Against:
    return replace(found, holm=p, significant=None if p is None else p < ALPHA)


def _front(record: SweepRecord, rows: Sequence[CaseRow]) -> frozenset[str]:
    names = [metric["name"] for metric in record.metrics]
    points = {
        row.point: [row.estimates[name].mean for name in names]
        for row in rows
        if row.feasible is not False and all(name in row.estimates for name in names)
    }
    return (
        frozenset(non_dominated(points, [metric["direction"] for metric in record.metrics])) if names else frozenset()
    )
