"""The front: the cases that no other case is better than in every way."""

from collections.abc import Hashable, Mapping, Sequence
from typing import TypeVar

Name = TypeVar("Name", bound=Hashable)


def non_dominated(points: Mapping[Name, Sequence[float]], directions: Sequence[str]) -> list[Name]:
    """Return the names of the points that no other point is at least as good as in all values and better in one.

    directions: maximize or minimize, for each value. Equal points do not exclude each other. The result is in the
    order of `points` and does not depend on it otherwise. Values have to be finite.
    """
    signs = [-1.0 if direction == "maximize" else 1.0 for direction in directions]
    costs = {
        name: tuple(sign * value for sign, value in zip(signs, values, strict=True)) for name, values in points.items()
    }
    front: dict[tuple[float, ...], None] = {}
    # A point can only be dominated by one that sorts before it, and if by any, then by one on the front.
    for cost in sorted(set(costs.values())):
        if not any(all(a <= b for a, b in zip(other, cost, strict=True)) for other in front):
            front[cost] = None
    return [name for name, cost in costs.items() if cost in front]
