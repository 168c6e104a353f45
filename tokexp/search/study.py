"""A search: ask for a point, tell what came of it; everything on disk at once, so that any process may go on.

    search = Search(folder, sweep)
    asked = search.ask()                         # None: nothing new is left
    prune = search.report(asked.number, step, value)
    search.tell(asked.number, [accuracy])

One process at a time uses a search: the controller, under the sweep's lock (`analysis.read_rows` reads beside it).
Killed at any moment and opened again, the search knows every trial that was handed out, and asks for what it would have
asked for: a suggestion depends on the sweep's seed, the trial's number, and what had been told before. That holds for
all samplers, CMA-ES included; for gp as far as torch's linear algebra repeats itself.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokexp.errors import InputError
from tokexp.search.analysis import front, importances, slices
from tokexp.search.records import REJECTED, SAME_AS, Asked, SearchRow, Told, row_of
from tokexp.search.samplers import trial_seed
from tokexp.search.space import Params, Space, canonical
from tokexp.search.studies import Studies
from tokexp.search.trials import EndOrRunning, TrialEnd
from tokexp.spec.sweep import SweepSpec

MOST_REPEATS = 10
"""Suggestions in a row that are not new, after which a point that nobody has tried is taken, if they can be counted."""

MOST_DUPLICATES = 100
"""Suggestions in a row that are not new, after which a space that cannot be counted is exhausted."""

MOST_REJECTED = 1000
"""Rejected suggestions in a row, after which a space counts as exhausted."""

MOST_COUNTED = 10_000
"""Points up to which a finite space is counted, to know at once that all have been tried."""


@dataclass
class _Entry:
    """What has to be known of a trial to ask for others."""

    key: str
    state: EndOrRunning
    same_as: int | None
    rejected: bool


class Search:
    """The search of a sweep's space, kept in `folder` (or in the storage that the sampler names).

    `cases`: names of the static points beside the space. Raises InputError if the study there was made for another
    space, or if the sweep asks for what its sampler or pruner cannot do.
    """

    def __init__(self, folder: Path, sweep: SweepSpec, cases: Sequence[str] = ()) -> None:
        _check(sweep)
        self._folder, self._sweep = folder, sweep
        self._space = Space(sweep, cases)
        self._points = self._space.count(MOST_COUNTED)
        self._stale = False
        self._load()

    @property
    def countable(self) -> bool:
        """Whether the space holds so few points that all of them can be tried."""
        return self._points is not None

    def ask(self) -> Asked | None:
        """Return a point to try; None if the space holds nothing new. A point that was rejected never comes again."""
        with self._changing():
            while not self._is_exhausted():
                params = self._studies.draw(self._untried())
                if params is None:
                    return None
                asked = self._hand_out(params)
                if asked.same_as is None or not self._entries[asked.same_as].rejected:
                    return asked
                self._reject(asked.number, f"as trial {asked.same_as}")
            return None

    def reject(self, number: int, why: str) -> None:
        """Note that a point is not run, being excluded or invalid; without effect on a trial that has ended."""
        with self._changing():
            if self._entry(number).state == "running":
                self._reject(number, why)

    def describe(self, number: int, attributes: Mapping[str, Any]) -> None:
        """Set attributes of a running trial for people and their tools, such as the trial's own id; JSON-able."""
        with self._changing():
            if self._entry(number).state == "running":
                self._studies.kept.describe(number, attributes)

    def report(self, number: int, step: int, value: float) -> bool:
        """Note the value of the pruner's metric at a step (from 0); return whether the trial is to be stopped.

        Steps may come again, of which the first value stays, and in any order. Of a trial that has ended it says
        whether it was pruned. With several metrics, or without a pruner, nothing is pruned and nothing noted.
        """
        with self._changing():
            entry = self._entry(number)
            if entry.state != "running":
                return entry.state == "pruned"
            if self._sweep.pruner.kind == "none":
                return False
            return self._studies.report(number, step, value)

    def tell(
        self, number: int, values: Sequence[float] | None, state: TrialEnd = "complete",
        constraints: Sequence[float] = (), attributes: Mapping[str, Any] | None = None,
    ) -> None:  # fmt: skip
        """Note how a trial ended; without effect if it has ended before.

        `values`: of the metrics, in their order, for a complete trial. A complete trial with a value that is no number
        is a failed one. `constraints`: by how much each constraint is broken, in their order; 0 or less is kept.
        """
        with self._changing():
            entry = self._entry(number)
            if entry.state != "running":
                return
            if state == "complete" and (values is None or any(math.isnan(value) for value in values)):
                state = "failed"
            if state == "complete" and constraints:
                self._studies.limit(number, self._named(constraints))
            self._studies.kept.describe(number, attributes or {})
            results = [float(value) for value in values] if state == "complete" and values is not None else None
            self._studies.end(number, state, results)
            entry.state = state

    def running(self) -> dict[int, Asked]:
        """Return the points that were handed out and not told, by number."""
        rows = (row for row in self.rows() if row.state == "running")
        return {row.number: Asked(row.number, row.values, row.case, row.same_as) for row in rows}

    def told(self) -> dict[int, Told]:
        """Return how trials ended, by number; rejected ones are among the failed."""
        return {
            row.number: Told(row.state, tuple(row.metrics.values()) or None, row.values)
            for row in self.rows()
            if row.state != "running"
        }

    def best(self) -> list[int]:
        """Return the numbers of the best trials: of one metric the best, of several the Pareto front.

        Only complete trials that keep all constraints; of equal points the first.
        """
        return front(self.rows(), self._sweep)

    def importances(self) -> dict[str, dict[str, float]]:
        """Return per metric how much of its best values each path decides; see `analysis.importances`."""
        return importances(self.rows(), self._sweep, self._space)

    def slices(self) -> list[dict[str, Any]]:
        """Return a row per complete trial, path and metric; see `analysis.slices`."""
        return slices(self.rows())

    def rows(self) -> list[SearchRow]:
        """Return all that is known, a row per trial."""
        if self._stale:
            self._load()
        return [self._row(trial) for trial in self._studies.kept.all()]

    def _row(self, trial: Any) -> SearchRow:
        if known := self._rows.get(trial.number):
            return known
        row = row_of(trial, self._space, self._sweep)
        if row.state != "running":
            self._rows[trial.number] = row
        return row

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Read everything anew, at the next use, if the block is left half done (a full disk, an interrupt)."""
        if self._stale:
            self._load()
        self._stale = True
        yield
        self._stale = False

    def _load(self) -> None:
        self._studies = Studies(self._folder, self._sweep, self._space)
        self._entries: list[_Entry] = []
        self._first: dict[str, int] = {}
        self._rows: dict[int, SearchRow] = {}
        self._left: dict[str, Params] | None = None
        for row in (self._row(trial) for trial in self._studies.kept.all()):
            self._add(_Entry(_key(row.case, row.values), row.state, row.same_as, bool(row.rejected)))
        self._stale = False

    def _add(self, entry: _Entry) -> None:
        self._first.setdefault(entry.key, len(self._entries))
        self._entries.append(entry)

    def _entry(self, number: int) -> _Entry:
        if not 0 <= number < len(self._entries):
            raise InputError(f"the search {self._sweep.name!r} has no trial {number}; it has {len(self._entries)}")
        return self._entries[number]

    def _hand_out(self, params: Mapping[str, Any]) -> Asked:
        case, values = self._space.written(params)
        key = _key(case, values)
        same_as = self._first.get(key)
        number = self._studies.keep({} if same_as is None else {SAME_AS: same_as})
        self._add(_Entry(key, "running", same_as, rejected=False))
        return Asked(number, values, case, same_as)

    def _untried(self) -> Params | None:
        """Return a point that was never suggested, where the sampler only repeats itself; which one, the seed says."""
        number = len(self._entries)
        last = self._entries[-MOST_REPEATS:]
        if self._points is None or len(last) < MOST_REPEATS or any(entry.same_as is None for entry in last):
            return None
        if self._left is None:
            self._left = {_key(*self._space.written(cell)): cell for cell in self._space.cells()}
        self._left = {key: cell for key, cell in self._left.items() if key not in self._first}
        chosen = trial_seed(getattr(self._sweep.sampler, "seed", 0), number) % len(self._left)
        return dict(list(self._left.values())[chosen])

    def _reject(self, number: int, why: str) -> None:
        self._studies.kept.describe(number, {REJECTED: why})
        self._studies.end(number, "failed", None)
        entry = self._entries[number]
        entry.state, entry.rejected = "failed", True

    def _is_exhausted(self) -> bool:
        if self._points is not None and len(self._first) >= self._points:
            return True
        duplicates = rejected = 0
        for entry in reversed(self._entries):
            if entry.same_as is not None:
                duplicates += 1
            elif entry.rejected:
                rejected += 1
            else:
                break
        return (self._points is None and duplicates >= MOST_DUPLICATES) or rejected >= MOST_REJECTED

    def _named(self, violations: Sequence[float]) -> dict[str, float]:
        """Return violations by the name of their constraint; one that could not be measured counts as broken."""
        named = zip(constraint_names(self._sweep), violations, strict=True)
        return {name: math.inf if math.isnan(value) else float(value) for name, value in named}


def constraint_names(sweep: SweepSpec) -> list[str]:
    """Return the constraints of a sweep as a study names them, such as `storage/bytes_per_image at_most 200`."""
    bounds = [
        ("at_least", each.at_least) if each.at_most is None else ("at_most", each.at_most) for each in sweep.constraints
    ]
    return [f"{each.metric} {word} {bound:g}" for each, (word, bound) in zip(sweep.constraints, bounds, strict=True)]


def _key(case: str | None, values: Mapping[str, Any]) -> str:
    return canonical([case, values])


def _check(sweep: SweepSpec) -> None:
    if len(sweep.metrics) > 1 and sweep.sampler.kind == "cmaes":
        raise InputError("the sampler cmaes searches for one metric; write one, or take nsga2 or tpe")
    if len(sweep.metrics) > 1 and sweep.pruner.kind != "none":
        raise InputError("a search with several metrics cannot prune; write one metric, or no pruner")
