"""The tables of a sweep: its cases, its trials, what went wrong, and what its stages cost."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tokexp.report.cases import BYTES, CaseRow
from tokexp.report.quantities import span
from tokexp.report.results import value_text
from tokexp.report.sheets import Sheet
from tokexp.report.statistics import ALPHA
from tokexp.report.trials import SweepResult, TrialRow
from tokexp.report.wording import difference_text, estimate_text, p_text, plain_text, short_paths, states_text

MOST_PARAMETERS = 6
"""Parameters that get a column of their own on screens and paper; CSV has all."""

MOST_MERGED = 8
"""Cases named that came to the same as another."""


@dataclass(frozen=True)
class _Column:
    """A column: its heading, a cell for each row, and whether it holds words."""

    head: str
    cells: list[str]
    words: bool = False


def case_sheet(result: SweepResult) -> Sheet:
    """Return the table of cases: ours, the difference to the baseline, what was published, storage and cost.

    A searched sweep's best points come first, other cases in the order in which they were written.
    """
    rows = ranked(result) if result.searched else list(result.cases)
    columns = [_Column("case", [row.name for row in rows], words=True)]
    if any(row.states.keys() != {"done"} for row in rows):
        columns.append(_Column("trials", [_states(row) for row in rows], words=True))
    columns += _parameters(result, [row.values for row in rows]) if result.searched else []
    for metric in (metric["name"] for metric in result.metrics):
        columns += _metric_columns(result, rows, metric)
    columns += _published(result, rows)
    columns += _costs(result, rows)
    if len(result.metrics) > 1:
        columns.append(_Column("front", ["yes" if row.on_front else "" for row in rows], words=True))
    return _sheet("Cases", columns, [_case_record(result, row) for row in rows], _marks(rows), _notes(result, rows))


def ranked(result: SweepResult) -> list[CaseRow]:
    """Return the cases, the front first, then by the first metric; those without it at the end."""
    metric, sign = result.metrics[0]["name"], -1.0 if result.metrics[0]["direction"] == "maximize" else 1.0

    def rank(row: CaseRow) -> tuple[bool, bool, bool, float, int]:
        mean = row.mean(metric)
        return not row.on_front, mean is None, row.feasible is False, sign * (mean or 0.0), row.number

    return sorted(result.cases, key=rank)


def trial_sheet(result: SweepResult) -> Sheet:
    """Return the table of trials, in the order in which they began."""
    rows = result.trials
    names = {case.point: case.name for case in result.cases}
    columns = [
        _Column("case", [names[row.trial.point] for row in rows], words=True),
        _Column("seed", [str(row.trial.seed) for row in rows]),
        _Column("state", ["to do" if row.trial.state == "planned" else row.trial.state for row in rows], words=True),
    ]
    columns += _parameters(result, [row.trial.values for row in rows]) if result.searched else []
    for metric in dict.fromkeys([*(metric["name"] for metric in result.metrics), BYTES]):
        if any(metric in row.metrics for row in rows):
            columns.append(_Column(metric_head(metric), [_value(metric, row.metrics.get(metric)) for row in rows]))
    columns += [
        _Column("time", [span(row.seconds) for row in rows]),
        _Column("undivided", [span(row.whole.seconds) for row in rows]),
    ]
    if any(row.gpu_hours for row in rows):
        columns.append(_Column("GPU h", [f"{row.gpu_hours:.3g}" for row in rows]))
    columns.append(_Column("attempts", [str(row.attempts) for row in rows]))
    marks = ["failed" if row.trial.state == "failed" else "" for row in rows]
    notes = ("time: stages that several trials use are divided among them; undivided: as if none were shared",)
    return _sheet("Trials", columns, [_trial_record(result, row, names) for row in rows], marks, notes)


def failure_sheet(result: SweepResult) -> Sheet:
    """Return the table of trials that failed or were stopped, with why. Pruned trials are not among them."""
    names = {case.point: case.name for case in result.cases}
    rows = result.failures
    columns = [
        _Column("case", [names[row.trial.point] for row in rows], words=True),
        _Column("seed", [str(row.trial.seed) for row in rows]),
        _Column("state", [row.trial.state for row in rows], words=True),
        _Column("why", [row.problem or "-" for row in rows], words=True),
        _Column("attempt", [row.attempt or "-" for row in rows], words=True),
    ]
    return _sheet("Failures", columns, [_trial_record(result, row, names) for row in rows])


def stage_sheet(result: SweepResult) -> Sheet:
    """Return the table of stages: how many there are under each name, for how many trials, and their cost."""
    rows = result.stages
    columns = [
        _Column("stage", [row.name for row in rows], words=True),
        _Column("stages", [f"{row.stages:,}" for row in rows]),
        _Column("done", [f"{row.done:,}" for row in rows]),
        _Column("for trials", [f"{row.trials:,}" for row in rows]),
        _Column("attempts", [f"{row.cost.attempts:,}" for row in rows]),
        _Column("time", [span(row.cost.seconds) for row in rows]),
    ]
    if result.cost.gpu_hours:
        columns.append(_Column("GPU h", [f"{row.cost.gpu_hours:.3g}" for row in rows]))
    records = [
        {
            "stage": row.name, "stages": row.stages, "done": row.done, "trials": row.trials,
            "attempts": row.cost.attempts, "seconds": row.cost.seconds, "gpu_hours": row.cost.gpu_hours,
        }
        for row in rows
    ]  # fmt: skip
    return _sheet("Stages", columns, records, notes=(cost_text(result),))


def metric_head(metric: str) -> str:
    """Return what a column of a metric is headed by: its name, or something shorter for what every table has."""
    return "bytes/image" if metric == BYTES else metric


def cost_text(result: SweepResult) -> str:
    """Return what the sweep cost in all, and what sharing stages saved."""
    text = f"computed in {span(result.cost.seconds)}"
    if result.cost.gpu_hours:
        text += f" and {result.cost.gpu_hours:.3g} GPU hours"
    saved = result.undivided.seconds - result.cost.seconds
    return f"{text}; without shared stages it would have been {span(result.undivided.seconds)}" if saved > 1 else text


def _sheet(
    title: str, columns: Sequence[_Column], records: Sequence[Mapping[str, Any]], marks: Sequence[str] = (),
    notes: Sequence[str] = (),
) -> Sheet:  # fmt: skip
    rows = tuple(zip(*(column.cells for column in columns), strict=True))
    words = tuple(place for place, column in enumerate(columns) if column.words)
    return Sheet(
        title, tuple(column.head for column in columns), rows, tuple(records), words, tuple(marks), tuple(notes)
    )


def _parameters(result: SweepResult, given: Sequence[Mapping[str, Any]]) -> list[_Column]:
    paths = [path for path in result.parameters if any(path in values for values in given)][:MOST_PARAMETERS]
    names = short_paths(paths)
    columns = []
    for path in paths:
        cells = [plain_text(values[path]) if path in values else "" for values in given]
        columns.append(_Column(names[path], cells, words=any(isinstance(values.get(path), str) for values in given)))
    return columns


def _metric_columns(result: SweepResult, rows: Sequence[CaseRow], metric: str) -> list[_Column]:
    found = [row.estimates.get(metric) for row in rows]
    if any(found) and all(each is None or each.n == 1 for each in found):
        columns = [_Column(f"{metric_head(metric)} (n=1)", [_value(metric, row.mean(metric)) for row in rows])]
    else:
        columns = [_Column(metric_head(metric), [estimate_text(metric, each) for each in found])]
    against = [row.against.get(metric) for row in rows]
    if any(against):
        texts = [
            difference_text(metric, each.difference) if each else _no_difference(row)
            for row, each in zip(rows, against, strict=True)
        ]
        columns.append(_Column(f"to {result.baseline}", texts))
    if any(each is not None and each.holm is not None for each in against):
        columns.append(_Column("p (Holm)", [p_text(each.holm, each.significant) if each else "" for each in against]))
    return columns


def _states(row: CaseRow) -> str:
    return states_text(row.states).removeprefix("1 ") if sum(row.states.values()) == 1 else states_text(row.states)


def _no_difference(row: CaseRow) -> str:
    return "baseline" if row.is_baseline else "-"


def _published(result: SweepResult, rows: Sequence[CaseRow]) -> list[_Column]:
    """Return the printed values, and their differences to the baseline's where it has one."""
    names = list(dict.fromkeys(name for row in rows for name in row.published))
    if not names:
        return []
    printed = {row.point: value for row in rows for value in row.published.values()}
    head = f"published {names[0]}" if len(names) == 1 else "published"
    columns = [_Column(head, [str(printed.get(row.point, "-")) for row in rows])]
    own = [_printed_difference(printed, row) for row in rows]
    return [*columns, _Column(f"published to {result.baseline}", own)] if any(own) else columns


def _printed_difference(printed: Mapping[str, float], row: CaseRow) -> str:
    base, own = printed.get(row.compared_with or ""), printed.get(row.point)
    if base is None or own is None:
        return ""
    decimals = max(len(str(value).partition(".")[2]) for value in (base, own))
    return f"{own - base:+.{decimals}f}"


def _costs(result: SweepResult, rows: Sequence[CaseRow]) -> list[_Column]:
    columns = []
    if BYTES not in {metric["name"] for metric in result.metrics} and any(row.bytes_per_image for row in rows):
        columns.append(_Column(metric_head(BYTES), [_value(BYTES, row.bytes_per_image) for row in rows]))
    columns.append(_Column("time/trial", ["-" if row.seconds is None else span(row.seconds) for row in rows]))
    if any(row.gpu_hours for row in rows):
        columns.append(_Column("GPU h", ["-" if row.gpu_hours is None else f"{row.gpu_hours:.3g}" for row in rows]))
    return columns


def _value(metric: str, value: float | None) -> str:
    return "-" if value is None else value_text(metric, value)


def _marks(rows: Sequence[CaseRow]) -> list[str]:
    several = len(rows) > 1
    return [
        "best" if row.on_front and several
        else "baseline" if row.is_baseline
        else "failed" if row.states.keys() == {"failed"} else ""
        for row in rows
    ]  # fmt: skip


def _notes(result: SweepResult, rows: Sequence[CaseRow]) -> list[str]:
    names = [metric["name"] for metric in result.metrics]
    estimates = [row.estimates[name] for row in rows for name in names if name in row.estimates]
    notes = []
    if any(each.half is not None for each in estimates):
        notes.append("\u00b1: half the 95 % interval (Student's t) over seeds")
    if estimates and all(each.n == 1 for each in estimates):
        notes.append("n=1: one seed says nothing about how much training varies; differences may be chance")
    against = [row.against[name] for row in rows for name in names if name in row.against]
    if tested := max((sum(_is_tested(row, name) for row in rows) for name in names), default=0):
        notes.append(comparison_note(tested))
    if any(each.difference.n > 1 and each.holm is None for each in against):
        notes.append("no p where a difference is the same in every seed: there is no spread to test it against")
    return [*notes, *_merged(rows), *result.remarks]


def _merged(rows: Sequence[CaseRow]) -> list[str]:
    """Return a note on cases that have no line of their own because they came to the same as another."""
    pairs = [f"{also} (see {row.name})" for row in rows for also in row.also]
    more = f" and {len(pairs) - MOST_MERGED} more" if len(pairs) > MOST_MERGED else ""
    return [f"the same as another, and run once: {', '.join(pairs[:MOST_MERGED])}{more}"] if pairs else []


def _is_tested(row: CaseRow, metric: str) -> bool:
    return metric in row.against and row.against[metric].holm is not None


def comparison_note(tested: int) -> str:
    """Return what the star behind a p means where `tested` differences were tested together."""
    many = f" after Holm's correction for {tested} comparisons" if tested > 1 else ""
    return f"differences are paired by seed, shares in points; * p < {ALPHA}{many}"


def _case_record(result: SweepResult, row: CaseRow) -> dict[str, Any]:
    record: dict[str, Any] = {"case": row.name, "point": row.point, "number": row.number}
    record |= {path: row.values.get(path) for path in result.parameters}
    record |= {state: row.states.get(state, 0) for state in ("done", "pruned", "failed", "stopped")}
    for metric in dict.fromkeys([*(metric["name"] for metric in result.metrics), BYTES]):
        record |= _metric_record(row, metric)
    record |= {f"published {name}": value for name, value in row.published.items()}
    return record | {
        "baseline": row.is_baseline, "feasible": row.feasible, "front": row.on_front,
        "seconds_per_trial": row.seconds, "gpu_hours_per_trial": row.gpu_hours,
    }  # fmt: skip


def _metric_record(row: CaseRow, metric: str) -> dict[str, Any]:
    found, against = row.estimates.get(metric), row.against.get(metric)
    record: dict[str, Any] = {f"{metric} n": 0 if found is None else found.n}
    for name in ("mean", "sd", "low", "high"):
        record[f"{metric} {name}"] = None if found is None else getattr(found, name)
    for name in ("n", "mean", "low", "high", "p"):
        record[f"{metric} difference {name}"] = None if against is None else getattr(against.difference, name)
    record[f"{metric} p_holm"] = None if against is None else against.holm
    record[f"{metric} significant"] = None if against is None else against.significant
    return record


def _trial_record(result: SweepResult, row: TrialRow, names: Mapping[str, str]) -> dict[str, Any]:
    trial = row.trial
    return {
        "trial": trial.id, "number": trial.number, "case": names[trial.point], "seed": trial.seed, "state": trial.state,
        **{path: trial.values.get(path) for path in result.parameters},
        **dict(sorted(row.metrics.items())),
        "seconds": row.seconds, "gpu_hours": row.gpu_hours, "undivided_seconds": row.whole.seconds,
        "undivided_gpu_hours": row.whole.gpu_hours, "attempts": row.attempts, "problem": row.problem or None,
        "attempt": row.attempt,
    }  # fmt: skip
