"""Trying a space before it is searched: every choice and every bound once, each with what its conditions ask for."""

from collections.abc import Iterator
from dataclasses import replace

from tokexp.spec.check_sweep import CASE
from tokexp.spec.conditions import Condition, holds
from tokexp.spec.laying import Laid, Written, laid, refusal
from tokexp.spec.searching import DIMENSIONS, Choice

Probe = tuple[Laid, ...]


def probes(written: Written) -> Iterator[Probe]:
    """Yield values to lay over the experiment: one candidate of one dimension, after those that it depends on."""
    finder = _Finder(written)
    for path in written.sweep.space:
        for candidate in finder.candidates(path) if not refusal("space", path) else ():
            yield (*finder.needed(path, ()), candidate)


class _Finder:
    def __init__(self, written: Written) -> None:
        self._written, self._space = written, written.sweep.space
        self._known: dict[str, tuple[Laid, ...]] = {}

    def candidates(self, path: str) -> tuple[Laid, ...]:
        """Return all choices of a dimension, or its two bounds."""
        if path not in self._known:
            dimension = self._space[path]
            word = next(word for word, cls in DIMENSIONS.items() if isinstance(dimension, cls))
            count = len(dimension.choice) if isinstance(dimension, Choice) else 2
            found = self._written.members(path, ("space", path, word), count)
            # A search gives numbers with a fraction, however the bounds are written.
            self._known[path] = tuple(map(_as_float, found)) if word == "float" else found
        return self._known[path]

    def needed(self, path: str, above: tuple[str, ...]) -> tuple[Laid, ...]:
        """Return values under which a dimension exists, as far as they can be found."""
        found: list[Laid] = []
        for other, condition in self._space[path].when.items():
            if other == CASE and other not in self._space:
                found += self._case(condition)
            elif other in self._space and other not in above:
                found += self.needed(other, (*above, path))
                found += [each for each in self.candidates(other) if holds(condition, each.plain)][:1]
        return tuple(dict.fromkeys(found))

    def _case(self, condition: Condition) -> tuple[Laid, ...]:
        static = self._written.assignments()
        return next((each.values for each in static if holds(condition, each.case)), ())


def _as_float(value: Laid) -> Laid:
    return laid(value.path, replace(value.item, value=float(value.plain)), value.where, value.label)
