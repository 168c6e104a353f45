"""The space of a sweep as Optuna sees it, and the way back to the values that were written.

Optuna's parameters are named by their dotted paths, and `case` where static points stand beside the space. A
categorical parameter of Optuna takes scalars only and cannot tell 1 from true: choices with lists, blocks or such
look-alikes go under labels (their JSON text). A dimension whose `when` does not hold is not suggested at all.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from hashlib import blake2b
from itertools import islice
from math import prod
from typing import Any

from tokexp.errors import InputError
from tokexp.spec.conditions import all_hold
from tokexp.spec.searching import Choice, FloatRange, IntRange
from tokexp.spec.sweep import SweepSpec

CASE = "case"
"""Name of the dimension that chooses among static points."""

LONGEST_LABEL = 80
"""Most characters of a label before it is shortened and numbered."""

Params = dict[str, Any]
"""Optuna's name of a parameter to the scalar that Optuna knows."""


@dataclass(frozen=True)
class _Axis:
    """One dimension; `labels` are the scalars that stand for the values of a choice, in their order."""

    path: str
    dimension: Choice | FloatRange | IntRange
    labels: tuple[Any, ...] = ()

    @cached_property
    def distribution(self) -> Any:
        """The Optuna distribution."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        dimension = self.dimension
        if isinstance(dimension, Choice):
            return CategoricalDistribution(self.labels)
        if isinstance(dimension, IntRange):
            high = dimension.high - (dimension.high - dimension.low) % dimension.step
            return IntDistribution(dimension.low, high, log=dimension.log, step=dimension.step)
        if dimension.step is None:
            return FloatDistribution(dimension.low, dimension.high, log=dimension.log)
        return FloatDistribution(dimension.low, _on_step(dimension, _last_step(dimension)), step=dimension.step)

    def suggest(self, trial: Any) -> Any:
        """Return the value that an Optuna trial suggests, as Optuna knows it."""
        known = self.distribution
        if isinstance(self.dimension, Choice):
            return trial.suggest_categorical(self.path, known.choices)
        if isinstance(self.dimension, IntRange):
            return trial.suggest_int(self.path, known.low, known.high, step=known.step, log=known.log)
        return trial.suggest_float(self.path, known.low, known.high, step=known.step, log=known.log)

    def levels(self) -> Iterator[Any] | None:
        """Return all values in order, as Optuna knows them; None for a range without steps."""
        dimension = self.dimension
        if isinstance(dimension, Choice):
            return iter(self.labels)
        if isinstance(dimension, IntRange):
            return iter(range(dimension.low, dimension.high + 1, dimension.step))
        if dimension.step is None:
            return None
        return (_on_step(dimension, step) for step in range(_last_step(dimension) + 1))

    def size(self) -> int:
        """Return the number of values of a dimension that has `levels`."""
        dimension = self.dimension
        if isinstance(dimension, Choice):
            return len(self.labels)
        if isinstance(dimension, IntRange):
            return (dimension.high - dimension.low) // dimension.step + 1
        return _last_step(dimension) + 1

    def written(self, known: Any) -> Any:
        """Return the value as it was written, of one that Optuna knows."""
        dimension = self.dimension
        if isinstance(dimension, Choice):
            return plain(dimension.choice[self.labels.index(known)])
        if isinstance(dimension, IntRange):
            return int(known)
        if dimension.step is None:
            return float(known)
        return _on_step(dimension, round((known - dimension.low) / dimension.step))


class Space:
    """The dimensions of a sweep in an order in which each comes after those that its `when` names.

    `cases`: names of the static points beside the space, for a further dimension `case`. Raises InputError if
    dimensions wait for one another, or the grid sampler meets a range without steps.
    """

    def __init__(self, sweep: SweepSpec, cases: Sequence[str] = ()) -> None:
        axes = [_Axis(path, dimension, _labels(dimension)) for path, dimension in sweep.space.items()]
        self._axes = _in_order(axes)
        if cases:
            self._axes.insert(0, _Axis(CASE, Choice(choice=tuple(cases)), tuple(cases)))
        self._has_cases = bool(cases)
        self._set = dict(sweep.set)
        self._cases = sweep.cases
        self.conditional = any(axis.dimension.when for axis in axes)
        self.names = [axis.path for axis in self._axes]
        endless = [axis.path for axis in self._axes if axis.levels() is None]
        if endless and sweep.sampler.kind == "grid":
            raise InputError(f"the sampler grid needs a step for the range {endless[0]}, or another sampler")
        self._finite = not endless

    def identity(self) -> str:
        """Return 32 hex digits that are equal for equal spaces: a study belongs to one."""
        axes = [[axis.path, axis.dimension.model_dump(mode="json", by_alias=True)] for axis in self._axes]
        return blake2b(canonical(axes).encode(), digest_size=16).hexdigest()

    def distributions(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return the Optuna distributions of the parameters of a point."""
        return {axis.path: axis.distribution for axis in self._axes if axis.path in params}

    def joint(self, numbers_only: bool = False) -> dict[str, Any]:
        """Return the Optuna distributions that hold more than one value, by name; `numbers_only`: no choices."""
        axes = [axis for axis in self._axes if not (numbers_only and isinstance(axis.dimension, Choice))]
        return {
            axis.path: axis.distribution
            for axis in sorted(axes, key=lambda axis: axis.path)
            if not axis.distribution.single()
        }

    def suggest(self, trial: Any) -> Params:
        """Return the point that an Optuna trial suggests, of the dimensions that are active in it."""
        params: Params = {}
        for axis in self._axes:
            if self._is_active(axis, params):
                params[axis.path] = axis.suggest(trial)
        return params

    def written(self, params: Mapping[str, Any]) -> tuple[str | None, dict[str, Any]]:
        """Return (case or None, path to value) of Optuna's parameters, in the order of the space."""
        values = {axis.path: axis.written(params[axis.path]) for axis in self._axes if axis.path in params}
        return (values.pop(CASE), values) if self._has_cases else (None, values)

    def cells(self) -> Iterator[Params]:
        """Yield every point of a finite space once, the last dimension fastest."""
        return self._cells(0, {})

    def count(self, most: int) -> int | None:
        """Return the number of points if the space is finite and has at most `most`, else None."""
        if not self._finite:
            return None
        if not self.conditional:
            found = prod(axis.size() for axis in self._axes)
        else:
            found = sum(1 for _ in islice(self.cells(), most + 1))
        return found if found <= most else None

    def _cells(self, at: int, params: Params) -> Iterator[Params]:
        if at == len(self._axes):
            yield dict(params)
            return
        axis = self._axes[at]
        if not self._is_active(axis, params):
            yield from self._cells(at + 1, params)
            return
        for level in axis.levels() or ():
            yield from self._cells(at + 1, {**params, axis.path: level})

    def _is_active(self, axis: _Axis, params: Params) -> bool:
        if not axis.dimension.when:
            return True
        case, values = self.written(params) if params else (None, {})
        return all_hold(axis.dimension.when, {**self._set, **self._cases.get(case or "", {}), **values})


def canonical(value: Any) -> str:
    """Return the JSON text of a value, equal for equal values: keys sorted, no spaces."""
    return json.dumps(plain(value), sort_keys=True, separators=(",", ":"))


def plain(value: Any) -> Any:
    """Return a value as JSON has it: lists instead of tuples."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def _labels(dimension: Choice | FloatRange | IntRange) -> tuple[Any, ...]:
    if not isinstance(dimension, Choice):
        return ()
    values = dimension.choice
    scalars = all(value is None or isinstance(value, (bool, int, float, str)) for value in values)
    # A set takes 1, 1.0 and true for one, as Optuna does.
    if scalars and len(set(values)) == len(values):
        return values
    texts = [canonical(value) for value in values]
    short = [text if len(text) <= LONGEST_LABEL else text[: LONGEST_LABEL - 10] + "..." for text in texts]
    return tuple(
        label if label == text and short.count(label) == 1 else f"{label} #{number}"
        for number, (label, text) in enumerate(zip(short, texts, strict=True), 1)
    )


def _in_order(axes: Sequence[_Axis]) -> list[_Axis]:
    waiting = {axis.path: axis for axis in axes}
    ordered: list[_Axis] = []
    while waiting:
        ready = next((axis for axis in waiting.values() if not axis.dimension.when.keys() & waiting.keys()), None)
        if ready is None:
            raise InputError(f"the dimensions {', '.join(waiting)} wait for one another by `when`; one must not")
        ordered.append(waiting.pop(ready.path))
    return ordered


def _last_step(dimension: FloatRange) -> int:
    assert dimension.step is not None
    return int((_exact(dimension.high) - _exact(dimension.low)) // _exact(dimension.step))


def _on_step(dimension: FloatRange, step: int) -> float:
    assert dimension.step is not None
    # Decimal: 0.1 + 2 * 0.1 is 0.3, so that equal points have equal texts, hashes and stage keys.
    return float(_exact(dimension.low) + step * _exact(dimension.step))


def _exact(value: float) -> Decimal:
    return Decimal(repr(value))
