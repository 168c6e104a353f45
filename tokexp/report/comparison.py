"""Runs and sweeps side by side: what they share, how they differ from the first, and which of all are the best."""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Final

from rich.console import Group, RenderableType
from rich.text import Text

from tokexp.errors import DamagedError, InputError
from tokexp.ledger.records import Ledger
from tokexp.ledger.runs import RunRecord, list_runs, load_run
from tokexp.ledger.sweeps import Sweep, is_sweep_ref, list_sweeps, load_sweep
from tokexp.ledger.workspace import Workspace
from tokexp.report.cases import BYTES, CaseRow
from tokexp.report.costs import stage_costs
from tokexp.report.quantities import span
from tokexp.report.results import HEADLINES, value_text
from tokexp.report.sheets import Sheet, render
from tokexp.report.statistics import ALPHA, Difference, difference, estimate, holm
from tokexp.report.sweep_sheets import case_sheet, comparison_note, cost_text, failure_sheet
from tokexp.report.trials import SweepResult, sweep_result
from tokexp.report.wording import difference_text, estimate_text, p_text, states_text
from tokexp.tracking.measures import per_seed

MOST_ROWS: Final = 40
"""Rows of a table on the terminal; files have all."""

_MOST_METRICS = 3
_MOST_FAILURES = 10
_DOWN = ("loss", "bytes_per_image", "bytes", "seconds", "perplexity", "error")
"""How the last words of metrics begin that are better when smaller; others are better when larger."""


@dataclass(frozen=True)
class Entry:
    """One line of a comparison: a run, or a case of a sweep.

    per_seed: metric to seed to value. seconds: at work, of one seed in the mean. created: unix seconds.
    """

    name: str
    ref: str
    created: float
    per_seed: Mapping[str, Mapping[int, float]]
    seconds: float | None

    def mean(self, metric: str) -> float | None:
        """Return the mean of a metric over its seeds, None if there is none."""
        found = estimate(self.per_seed.get(metric, {}))
        return None if found is None else found.mean


def render_sweep(workspace: Workspace, sweep: Sweep) -> RenderableType:
    """Return what a sweep found out, for the terminal: its cases, its failures, its cost."""
    return render_result(sweep_result(workspace, sweep))


def render_result(result: SweepResult) -> RenderableType:
    """Return a sweep's result for the terminal."""
    head = f"{result.ref}   {states_text(result.states) or 'no trials yet'}"
    parts: list[RenderableType] = [Text(head, style="bold")]
    if result.cases:
        parts += [render(case_sheet(result), MOST_ROWS), Text("")]
    if result.failures:
        parts += [render(failure_sheet(result), _MOST_FAILURES), Text("")]
    return Group(*parts, Text(cost_text(result), style="dim"))


def entries(workspace: Workspace, ref: str) -> list[Entry]:
    """Return the lines of a REF: a run is one, a sweep one for each case, `SWEEP:CASE` that case alone.

    A sweep's baseline comes first. Raises InputError with the nearest names if there is no such run, sweep or case.
    """
    sweep, colon, case = ref.partition(":")
    if colon and not is_sweep_ref(workspace, ref) and is_sweep_ref(workspace, sweep):
        return [_case_of(sweep_result(workspace, load_sweep(workspace, sweep)), case)]
    if means_sweep(workspace, ref):
        return _of_sweep(sweep_result(workspace, load_sweep(workspace, ref)))
    return [_of_run(workspace, load_run(workspace, ref))]


def means_sweep(workspace: Workspace, ref: str) -> bool:
    """Say whether a REF is to be looked for among the sweeps: it is one, or there are only sweeps to be near to."""
    return is_sweep_ref(workspace, ref) or bool(list_sweeps(workspace) and not list_runs(workspace))


def _of_run(workspace: Workspace, record: RunRecord) -> Entry:
    ledger = Ledger(workspace)
    ledger.refresh()
    cost = stage_costs(ledger, record.keys()).of(record.keys())
    return Entry(
        record.ref, record.ref, record.created, per_seed(workspace, record), cost.seconds / max(1, len(record.seeds))
    )


def _of_sweep(result: SweepResult) -> list[Entry]:
    ordered = sorted(result.cases, key=lambda case: not case.is_baseline)
    return [_entry(result, case) for case in ordered]


def _entry(result: SweepResult, case: CaseRow) -> Entry:
    return Entry(f"{result.name}:{case.name}", result.ref, result.created, case.per_seed, case.seconds)


def _case_of(result: SweepResult, name: str) -> Entry:
    names = {case.name: case for case in result.cases}
    if name not in names:
        near = get_close_matches(name, names, n=3, cutoff=0.3) or list(names)[:3]
        raise InputError(
            f"{result.ref} has no case {name!r}; {'nearest: ' + ', '.join(near) if near else 'it has none'}"
        )
    return _entry(result, names[name])


def compared(found: Sequence[Entry]) -> dict[str, list[tuple[Difference, float | None] | None]]:
    """Return, for each metric that several entries have, how each differs from the first, with Holm's p.

    The first entry, and those without a seed in common with it, have None.
    """
    table: dict[str, list[tuple[Difference, float | None] | None]] = {}
    for metric in shared_metrics(found):
        first = found[0].per_seed.get(metric, {})
        against = [difference(entry.per_seed.get(metric, {}), first) for entry in found[1:]]
        p_values = holm({place: None if each is None else each.p for place, each in enumerate(against)})
        pairs = [None if each is None else (each, p_values[place]) for place, each in enumerate(against)]
        table[metric] = [None, *pairs]
    return table


def shared_metrics(found: Sequence[Entry]) -> list[str]:
    """Return the metrics that all entries with any number have, accuracies first."""
    having = [entry.per_seed for entry in found if entry.per_seed]
    names = [name for name in (having[0] if having else ()) if all(name in other for other in having)]
    return sorted(names, key=_rank)


def _rank(metric: str) -> int:
    last = metric.rsplit("/", maxsplit=1)[-1]
    return HEADLINES.index(last) if last in HEADLINES else len(HEADLINES)


def compare_sheet(found: Sequence[Entry], metrics: Sequence[str] = ()) -> Sheet:
    """Return the entries side by side; `metrics` are those to show (else the most telling), records have all."""
    differences = compared(found)
    shown = list(metrics) or _telling(found, list(differences))
    head, columns = ["run or case"], [[entry.name for entry in found]]
    tested = 0
    for metric in shown:
        head += [metric, "to the first"]
        against = differences.get(metric) or [None] * len(found)
        columns.append([estimate_text(metric, estimate(entry.per_seed.get(metric, {}))) for entry in found])
        columns.append(["first", *(difference_text(metric, each[0] if each else None) for each in against[1:])])
        if any(each is not None and each[1] is not None for each in against):
            head.append("p (Holm)")
            columns.append(["", *(_p_cell(each) for each in against[1:])])
            tested = max(tested, sum(each is not None and each[1] is not None for each in against))
    head += ["bytes/image", "time/seed", "date"]
    columns += [list(column) for column in zip(*(_facts(entry) for entry in found), strict=True)]
    return Sheet(
        "Comparison", tuple(head), tuple(zip(*columns, strict=True)), tuple(_compare_records(found, differences)),
        text=(0,), marks=("baseline", *("" for _ in found[1:])), notes=_compare_notes(found, shown, tested),
    )  # fmt: skip


def _telling(found: Sequence[Entry], metrics: Sequence[str]) -> list[str]:
    """Return the metrics to show where none was asked for: accuracies first, those that are the same for all last."""

    def rank(metric: str) -> tuple[bool, bool]:
        return _rank(metric) == len(HEADLINES), len({entry.mean(metric) for entry in found}) == 1

    ordered = sorted(metrics, key=rank)
    first = [metric for metric in ordered if rank(metric) == (False, False)]
    return (first or ordered[:1])[:_MOST_METRICS]


def _p_cell(found: tuple[Difference, float | None] | None) -> str:
    p = None if found is None else found[1]
    return p_text(p, p is not None and p < ALPHA)


def _facts(entry: Entry) -> tuple[str, str, str]:
    size = entry.mean(BYTES)
    return (
        "-" if size is None else value_text(BYTES, size),
        "-" if entry.seconds is None else span(entry.seconds),
        time.strftime("%Y-%m-%d", time.gmtime(entry.created)),
    )


def _compare_notes(found: Sequence[Entry], shown: Sequence[str], tested: int) -> tuple[str, ...]:
    notes = []
    if not shown:
        notes.append("no metric is common to them")
    if empty := [entry.name for entry in found if not entry.per_seed]:
        notes.append(f"no results yet: {', '.join(empty)}")
    if tested:
        notes.append(comparison_note(tested))
    if any(len(entry.per_seed.get(name, {})) == 1 for entry in found for name in shown):
        notes.append("n=1: one seed says nothing about how much training varies; differences may be chance")
    return tuple(notes)


def _compare_records(
    found: Sequence[Entry], differences: Mapping[str, Sequence[tuple[Difference, float | None] | None]]
) -> Iterable[dict[str, Any]]:
    for metric, against in differences.items():
        for entry, other in zip(found, against, strict=True):
            own, pair = estimate(entry.per_seed.get(metric, {})), None if other is None else other[0]
            yield {
                "name": entry.name, "ref": entry.ref, "metric": metric, "n": 0 if own is None else own.n,
                **{name: getattr(own, name, None) for name in ("mean", "sd", "low", "high")},
                **{f"difference {name}": getattr(pair, name, None) for name in ("n", "mean", "low", "high", "p")},
                "p_holm": None if other is None else other[1],
            }  # fmt: skip


def all_entries(workspace: Workspace) -> list[Entry]:
    """Return every run and every case of every sweep that has a result; sweeps that cannot be read are left out."""
    found = [_of_run(workspace, record) for record in list_runs(workspace)]
    for record in list_sweeps(workspace):
        try:
            found += _of_sweep(sweep_result(workspace, load_sweep(workspace, record.ref)))
        except DamagedError:
            continue
    return [entry for entry in found if entry.per_seed]


def leaderboard_sheet(found: Sequence[Entry], metric: str | None) -> Sheet:
    """Return the entries that have a metric, the best first; a metric of None means the most common top-1.

    Raises InputError with the metrics that there are if no entry has it.
    """
    name = metric or _common_top1(found)
    having = [(mean, entry) for entry in found if name is not None and (mean := entry.mean(name)) is not None]
    if name is None or not having:
        if name is not None and any(name in entry.per_seed for entry in found):
            raise InputError(f"{name} is not a number in any run or sweep that has it")
        known = sorted({each for entry in found for each in entry.per_seed}, key=lambda each: (_rank(each), each))
        raise InputError(
            f"no run or sweep has {name or 'a result'}" + (f"; there are {', '.join(known[:8])}" if known else " yet")
        )
    down = name.rsplit("/", maxsplit=1)[-1].startswith(_DOWN)
    ordered = [entry for _, entry in sorted(having, key=lambda pair: pair[0] if down else -pair[0])]
    rows = tuple(
        (str(place), entry.name, estimate_text(name, estimate(entry.per_seed[name])), *_facts(entry))
        for place, entry in enumerate(ordered, 1)
    )
    return Sheet(
        "Leaderboard", ("place", "run or case", name, "bytes/image", "time/seed", "date"), rows,
        tuple(_leader_record(place, entry, name) for place, entry in enumerate(ordered, 1)), text=(1,),
        notes=("\u00b1: half the 95 % interval over seeds; places are by the mean alone",),
    )  # fmt: skip


def _common_top1(found: Sequence[Entry]) -> str | None:
    names = [name for entry in found for name in entry.per_seed if _rank(name) < len(HEADLINES)]
    return min(dict.fromkeys(names), key=lambda name: (_rank(name), name.count("/"), -names.count(name)), default=None)


def _leader_record(place: int, entry: Entry, metric: str) -> dict[str, Any]:
    found = estimate(entry.per_seed[metric])
    return {
        "place": place, "name": entry.name, "ref": entry.ref, "metric": metric,
        **{name: getattr(found, name, None) for name in ("n", "mean", "sd", "low", "high")},
        "bytes_per_image": entry.mean(BYTES), "seconds_per_seed": entry.seconds, "created": entry.created,
    }  # fmt: skip
