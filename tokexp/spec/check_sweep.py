"""What cannot work in a sweep, as far as the sweep alone shows it."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tokexp.spec.conditions import Condition, holds, same
from tokexp.spec.findings import Finding, twice_written
from tokexp.spec.laying import MOST_POINTS, refusal
from tokexp.spec.published_tables import check_published
from tokexp.spec.searching import CONSTRAINED, Choice, Cmaes, Dimension, FloatRange, Grid, NoPruner, Tpe
from tokexp.spec.sweep import SweepSpec
from tokexp.spec.wording import did_you_mean, listed
from tokexp.spec.yaml_tree import Path, dotted

CASE = "case"
"""In `when`, the static point that a search has chosen; in `exclude`, the name of a point's case."""


def check_sweep(sweep: SweepSpec) -> list[Finding]:
    """Return all that cannot work in a valid sweep, whatever its experiment is."""
    findings = [*_check_paths(sweep), *_check_overlaps(sweep), *_check_lists(sweep), *_check_exclude(sweep)]
    findings += [*_check_when(sweep), *_check_twice(sweep), *_check_search(sweep), *_check_sampler(sweep)]
    return findings if sweep.published is None else [*findings, *check_published(sweep.published)]


def _written(sweep: SweepSpec) -> Iterator[tuple[Path, str]]:
    yield from ((("cases", case, path), path) for case, values in sweep.cases.items() for path in values)
    for block in ("grid", "zip", "space"):
        yield from (((block, path), path) for path in getattr(sweep, block))


def _check_paths(sweep: SweepSpec) -> Iterator[Finding]:
    for where, path in (*((("set", path), path) for path in sweep.set), *_written(sweep)):
        reason = refusal(str(where[0]), path)
        if reason:
            yield Finding(where, reason, (where,), at_key=True)


def _check_overlaps(sweep: SweepSpec) -> Iterator[Finding]:
    """Yield paths whose values would replace what is laid before them."""
    common = [(where, path) for where, path in _written(sweep) if where[0] != "cases"]
    groups = [[(("cases", case, path), path) for path in values] for case, values in sweep.cases.items()]
    seen = set[Path]()
    for group in groups or [[]]:
        before: list[tuple[Path, str]] = []
        for where, path in (*group, *common):
            for earlier, other in before:
                if (other == path or other.startswith(path + ".")) and where not in seen:
                    seen.add(where)
                    message = f"this replaces {dotted(earlier)}; keep one of them"
                    yield Finding(where, message, (where, earlier), at_key=True)
            before.append((where, path))


def _check_lists(sweep: SweepSpec) -> Iterator[Finding]:
    if sweep.size > MOST_POINTS:
        where: Path = ("grid",) if sweep.grid else ("zip",)
        message = f"{sweep.size} points; at most {MOST_POINTS} are listed, search larger spaces"
        yield Finding(where, message, (("cases",), ("grid",), ("zip",)))
    lengths = {path: len(values) for path, values in sweep.zip.items()}
    first = next(iter(lengths), "")
    for path, length in lengths.items():
        if length != lengths[first]:
            where = ("zip", path)
            message = (
                f"{length} value{'s' if length > 1 else ''} given; {lengths[first]} are needed, as many as {first} has"
            )
            yield Finding(where, message, (where, ("zip", first)))


def _check_exclude(sweep: SweepSpec) -> Iterator[Finding]:
    varied = dict.fromkeys(path for _, path in _written(sweep))
    for number, conditions in enumerate(sweep.exclude):
        if not conditions:
            yield Finding(("exclude", number), "an empty block; it would leave out every point", (("exclude", number),))
        for path, condition in conditions.items():
            at: Path = ("exclude", number, path)
            if path == CASE and sweep.cases:
                if not any(holds(condition, case) for case in sweep.cases):
                    yield Finding(at, f"this never holds: case is one of {listed(sweep.cases)}", (at, ("cases",)))
            elif path not in varied:
                message = f"this sweep does not vary {path}{did_you_mean(path, varied)}"
                yield Finding(at, message, (at,), at_key=True)


def _check_when(sweep: SweepSpec) -> Iterator[Finding]:
    for name, dimension in sweep.space.items():
        for path, condition in dimension.when.items():
            where = ("space", name, "when", path)
            if path == CASE and sweep.listed:
                continue
            if path not in sweep.space:
                known = [other for other in (*sweep.space, *([CASE] if sweep.listed else [])) if other != name]
                message = f"{path} is not a dimension of this space{did_you_mean(path, known)}"
                yield Finding(where, message, (where, ("space",)), at_key=True)
            elif not can_hold(condition, sweep.space[path]):
                message = f"this never holds: {path} is {_range(sweep.space[path])}"
                yield Finding(where, message, (where, ("space", path)))
    yield from _cycles({name: list(dimension.when) for name, dimension in sweep.space.items()})


def can_hold(condition: Condition, dimension: Dimension) -> bool:
    """Say whether a condition can hold for a value of a dimension, as far as its bounds or choices show."""
    if isinstance(dimension, Choice):
        return any(holds(condition, value) for value in dimension.choice)
    low, high = dimension.low, dimension.high
    if condition.one_of is not None:
        return any(isinstance(value, (int, float)) and low <= value <= high for value in condition.one_of)
    least = max(bound for bound in (low, condition.above, condition.at_least) if bound is not None)
    most = min(bound for bound in (high, condition.below, condition.at_most) if bound is not None)
    return least < most or (least == most and holds(condition, least))


def _range(dimension: Dimension) -> str:
    if isinstance(dimension, Choice):
        return f"one of {listed(str(value) for value in dimension.choice)}"
    return f"from {dimension.low} to {dimension.high}"


def _cycles(needs: Mapping[str, list[str]]) -> Iterator[Finding]:
    reported: set[str] = set()
    for start in needs:
        chain = _cycle(needs, start)
        if chain and not reported & set(chain):
            reported |= set(chain)
            where = ("space", start, "when")
            ring = " -> ".join([*chain, chain[0]])
            yield Finding(where, f"the conditions form a ring: {ring}", (where, *(("space", name) for name in chain)))


def _cycle(needs: Mapping[str, list[str]], start: str) -> list[str]:
    """Return the dimensions of a ring of conditions through `start`, in order; [] if there is none."""
    trails = [[start]]
    visited: set[str] = set()
    while trails:
        trail = trails.pop()
        for name in needs.get(trail[-1], []):
            if name == start:
                return trail
            if name not in visited:
                visited.add(name)
                trails.append([*trail, name])
    return []


def _check_twice(sweep: SweepSpec) -> Iterator[Finding]:
    metrics = [metric.name for metric in sweep.metrics]
    yield from twice_written(sweep.seeds)
    written: list[tuple[Path, Any, Sequence[Any]]]
    written = [(("metrics", number, "name"), name, metrics[:number]) for number, name in enumerate(metrics)]
    for path, dimension in sweep.space.items():
        choices = dimension.choice if isinstance(dimension, Choice) else ()
        written += [(("space", path, "choice", at), value, choices[:at]) for at, value in enumerate(choices)]
    for where, word, before in written:
        if any(same(word, other) for other in before):
            yield Finding(where, f"{word} is written twice; keep one of them", (where[:1],))


def _check_search(sweep: SweepSpec) -> Iterator[Finding]:
    defaults = {"sampler": Tpe(kind="tpe"), "pruner": NoPruner(kind="none")}
    for block, default in defaults.items():
        if not sweep.searched and getattr(sweep, block) != default:
            yield Finding((block,), f"this sweep has no space to search; leave the {block} out", ((block,), ("space",)))
    if sweep.searched and sweep.budget.trials is None and not isinstance(sweep.sampler, Grid):
        where = ("budget", "trials")
        message = "missing; a search would never end: a number of trials is needed"
        yield Finding(where, message, (where, ("space",), ("sampler",)))
    if not isinstance(sweep.pruner, NoPruner) and len(sweep.metrics) > 1:
        message = f"{sweep.pruner.kind} given; a search for several metrics cannot prune (Optuna's limit)"
        yield Finding(("pruner", "kind"), message, (("pruner",), ("metrics",)))


def _check_sampler(sweep: SweepSpec) -> Iterator[Finding]:
    if not sweep.searched:
        return
    kind, because = sweep.sampler.kind, (("sampler",), ("space",))
    if isinstance(sweep.sampler, Cmaes):
        yield from _check_cmaes(sweep)
    if isinstance(sweep.sampler, Grid):
        for path, dimension in sweep.space.items():
            if isinstance(dimension, FloatRange) and dimension.step is None:
                where = ("space", path)
                message = "the sampler grid needs a step, or choices"
                yield Finding(where, message, (where, *because))
    if sweep.constraints and kind not in CONSTRAINED:
        message = f"the sampler {kind} takes no account of constraints; {listed(CONSTRAINED)} do"
        yield Finding(("constraints",), message, (("constraints",), *because))


def _check_cmaes(sweep: SweepSpec) -> Iterator[Finding]:
    for path, dimension in sweep.space.items():
        where = ("space", path)
        if isinstance(dimension, Choice):
            yield Finding(where, "the sampler cmaes takes numbers only; write float or int", (where, ("sampler",)))
        elif dimension.when:
            yield Finding((*where, "when"), "the sampler cmaes takes no conditions", (where, ("sampler",)))
    if sweep.listed:
        message = "cmaes takes numbers only; cases, grid and zip beside a space are a choice"
        yield Finding(("sampler", "kind"), message, (("sampler",), ("cases",), ("grid",), ("zip",)))
    if len(sweep.space) == 1:
        message = "cmaes needs two dimensions or more; tpe and random search one"
        yield Finding(("sampler", "kind"), message, (("sampler",), ("space",)))
    if len(sweep.metrics) > 1:
        message = "cmaes takes one metric; nsga2 or tpe take several"
        yield Finding(("sampler", "kind"), message, (("sampler",), ("metrics",)))


def check_budget(sweep: SweepSpec) -> Iterator[Finding]:
    """Yield a budget that is too small for one point, once the sweep's seeds are known."""
    trials = sweep.budget.trials
    if trials is not None and trials < len(sweep.seeds):
        where = ("budget", "trials")
        message = f"{trials} given; a point takes {len(sweep.seeds)} trials, one for each seed"
        yield Finding(where, message, (where, ("seeds",)))
