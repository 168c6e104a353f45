"""`tokexp plan` for sweeps: how many trials and stages there are, what they share, what is done, what is left."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from tokexp.data.listing import image_counts
from tokexp.errors import DataError
from tokexp.ledger.records import Ledger
from tokexp.ledger.workspace import Workspace, resolve_workspace
from tokexp.plan.estimate import Estimate
from tokexp.plan.graph import StageNode
from tokexp.plan.sweep import Point, SweepPlan, example_point, expand, plan_points
from tokexp.plan.sweep_estimate import estimate_sweep
from tokexp.report.quantities import size, span
from tokexp.spec.conditions import Condition
from tokexp.spec.searching import Choice, Dimension
from tokexp.spec.sweep import SweepSpec
from tokexp.spec.sweep_reading import ReadSweep, read_sweep
from tokexp.verbs.printing import console, print_json, say, shown_state

_LONGEST_LABEL = 40


@dataclass(frozen=True)
class _Looked:
    """A plan with the state of every stage, what it will take, and how many trials use it, all by key."""

    plan: SweepPlan
    states: dict[str, str]
    estimates: dict[str, Estimate]
    users: Counter[str]

    def is_open(self, node: StageNode) -> bool:
        return self.states[node.key] != "done"

    def seconds(self, nodes: Iterable[StageNode]) -> float:
        return sum(self.estimates[node.key].seconds for node in nodes if self.is_open(node))

    def bytes(self) -> int:
        return sum(self.estimates[node.key].bytes for node in self.plan.plan.nodes if self.is_open(node))

    def shared(self, nodes: Iterable[StageNode]) -> int:
        return sum(self.users[node.key] > 1 for node in nodes)


def plan_sweep(file: str | Path, overrides: Sequence[str], workspace: str | Path | None, json: bool) -> int:
    """Print the trials and stages of a sweep; of a searched one, its space and one point as an example.

    Writes nothing. Raises SpecError for a broken sweep.
    """
    found = resolve_workspace(workspace)
    read = read_sweep(file, overrides)
    points = [example_point(read)] if read.sweep.searched else expand(read)
    looked = _look(_planned(read.sweep.name, points), found)
    if json:
        print_json(_as_json(read, points, looked))
        return 0
    if read.sweep.searched:
        _print_search(read, points[0])
    else:
        _print_head(read, points, looked)
    console().print(_table(looked))
    return 0


def _planned(name: str, points: Sequence[Point]) -> SweepPlan:
    try:
        return plan_points(name, points)
    except DataError as error:
        say(f"{error}; this plan goes on without the data, whose stages get other keys once it is there")
        return plan_points(name, points, strict=False)


def _look(plan: SweepPlan, workspace: Workspace) -> _Looked:
    ledger = Ledger(workspace)
    states = {key: shown_state(state) for key, state in ledger.stage_states(plan.plan.keys()).items()}
    estimates = estimate_sweep(plan, lambda data: image_counts(data, strict=False), ledger.durations)
    return _Looked(plan, states, estimates, Counter(key for trial in plan.trials for key in set(trial.keys.values())))


def _print_head(read: ReadSweep, points: Sequence[Point], looked: _Looked) -> None:
    nodes = looked.plan.plan.nodes
    left = sum(map(looked.is_open, nodes))
    trials = f"{_counted(len(looked.plan.trials), 'trial')} ({_counted(len(points), 'point')} x "
    trials += f"{_counted(len(read.sweep.seeds), 'seed')})"
    stages = (
        f"{_counted(len(nodes), 'stage')}, {looked.shared(nodes):,} shared, {len(nodes) - left:,} done, {left:,} to do"
    )
    cost = f"        about {span(looked.seconds(nodes))} on this machine, {size(looked.bytes())}" if left else ""
    console().print(Text(f"{read.sweep.name}   {trials}   {stages}{cost}"))
    merged = sum(len(point.also) for point in points)
    if merged:
        runs = f"{'is' if merged == 1 else 'are'} not run twice"
        console().print(Text(f"  {_counted(merged, 'further point')} came to the same as another and {runs}"))


def _counted(number: int, word: str) -> str:
    return f"{number:,} {word}{'' if number == 1 else 's'}"


def _table(looked: _Looked) -> Table:
    """Return a row for each name of stages, however many trials there are."""
    groups: dict[str, list[StageNode]] = {}
    for node in looked.plan.plan.nodes:
        groups.setdefault(node.name if node.kind in ("downstream", "evaluate") else node.kind, []).append(node)
    table = Table(box=None, padding=(0, 2), header_style="dim")
    table.add_column("")
    table.add_column("what it is")
    for title in ("stages", "shared", "done", "to do", "time"):
        table.add_column(title, justify="right")
    table.add_column("")
    for name, nodes in groups.items():
        counts = Counter(looked.states[node.key] for node in nodes)
        other = {state: count for state, count in counts.items() if state not in ("done", "to do")}
        table.add_row(
            Text(name), Text(_label(nodes)), f"{len(nodes):,}", f"{looked.shared(nodes):,}", f"{counts['done']:,}",
            f"{counts['to do']:,}", span(looked.seconds(nodes)) if any(map(looked.is_open, nodes)) else "",
            Text(", ".join(f"{count:,} {state}" for state, count in other.items())),
        )  # fmt: skip
    return table


def _label(nodes: Sequence[StageNode]) -> str:
    labels = list(dict.fromkeys(node.label for node in nodes))
    text = "; ".join(labels)
    return text if len(text) <= _LONGEST_LABEL else f"{labels[0]} and {len(labels) - 1} more"


def _print_search(read: ReadSweep, example: Point) -> None:
    sweep = read.sweep
    most = (
        f"at most {_counted(sweep.budget.trials, 'trial')}" if sweep.budget.trials is not None else "every point once"
    )
    metrics = ", ".join(f"{metric.direction} {metric.name}" for metric in sweep.metrics)
    lines = [
        f"{sweep.name}   searched by {sweep.sampler.kind}, {most}, {_counted(len(sweep.seeds), 'seed')} each: {metrics}"
    ]
    lines += [f"  {word} {value}" for word, value in _settings(sweep)]
    table = Table.grid(padding=(0, 2))
    if sweep.listed:
        table.add_row("", "case", f"one of {_counted(len(expand(read)), 'point')}", "")
    for path, dimension in sweep.space.items():
        table.add_row("", Text(path), Text(_range(dimension)), Text(_when(dimension)))
    out = console()
    out.print(Text("\n".join(lines)))
    out.print(table)
    values = ", ".join(f"{path} {value}" for path, value in example.values.items())
    out.print(Text(f"one point as an example: {values or 'the experiment itself'}"))


def _settings(sweep: SweepSpec) -> list[tuple[str, str]]:
    budget = {
        name: value for name, value in sweep.budget.model_dump().items() if value is not None and name != "trials"
    }
    found = [("budget", ", ".join(f"{name} {value}" for name, value in budget.items()))] if budget else []
    if sweep.pruner.kind != "none":
        found.append(("pruner", sweep.pruner.kind))
    for bound in sweep.constraints:
        words = f"at most {bound.at_most}" if bound.at_most is not None else f"at least {bound.at_least}"
        found.append(("constraint", f"{bound.metric} {words}"))
    return found


def _range(dimension: Dimension) -> str:
    if isinstance(dimension, Choice):
        return "one of " + ", ".join(str(value) for value in dimension.choice)
    how = " (logarithmic)" if dimension.log else ""
    step = f" by {dimension.step}" if dimension.step not in (None, 1) else ""
    return f"{dimension.low} to {dimension.high}{step}{how}"


def _when(dimension: Dimension) -> str:
    return (
        "when " + " and ".join(f"{path} {_words(one)}" for path, one in dimension.when.items())
        if dimension.when
        else ""
    )


def _words(condition: Condition) -> str:
    said = condition.model_dump(by_alias=True)
    return ", ".join(
        " or ".join(map(str, value)) if word == "one_of" else f"{word.replace('_', ' ')} {value}"
        for word, value in said.items()
    )


def _as_json(read: ReadSweep, points: Sequence[Point], looked: _Looked) -> dict[str, Any]:
    sweep, plan = read.sweep, looked.plan
    return {
        "name": sweep.name, "spec_hash": plan.spec_hash, "searched": sweep.searched, "example": sweep.searched,
        "metrics": [metric.model_dump() for metric in sweep.metrics], "seeds": list(sweep.seeds),
        "baseline": sweep.baseline, "budget": sweep.budget.model_dump(), "sampler": sweep.sampler.model_dump(),
        "space": {path: each.model_dump(mode="json", by_alias=True) for path, each in sweep.space.items()},
        "points": [
            {"id": point.id, "case": point.case, "values": dict(point.values), "also": list(point.also)}
            for point in points
        ],
        "trials": [
            {"id": trial.id, "point": trial.point.id, "seed": trial.seed, "keys": dict(trial.keys)}
            for trial in plan.trials
        ],
        "stages": [_stage_json(node, looked) for node in plan.plan.nodes],
        "shared": looked.shared(plan.plan.nodes), "estimate_s": round(looked.seconds(plan.plan.nodes), 1),
        "bytes": looked.bytes(),
    }  # fmt: skip


def _stage_json(node: StageNode, looked: _Looked) -> dict[str, Any]:
    estimate = looked.estimates[node.key]
    return {
        "key": node.key, "kind": node.kind, "name": node.name, "label": node.label, "state": looked.states[node.key],
        "inputs": dict(node.inputs), "seed": node.seed, "trials": looked.users[node.key],
        "estimate_s": estimate.seconds, "bytes": estimate.bytes,
    }  # fmt: skip
