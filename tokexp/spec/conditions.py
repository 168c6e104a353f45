"""Conditions on a value: `8` (equal), `[8, 16]` (one of), `{below: 0.1}`; in `when` and `exclude` of sweeps."""

from collections.abc import Mapping
from typing import Any, Self

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from tokexp.spec.base import Spec


class Condition(Spec):
    """What a value must be. A plain value stands for `{one_of: [value]}`, a list for `{one_of: [...]}`.

    Several words must all hold. Numbers compare as numbers (1 equals 1.0); true equals nothing but true.
    """

    one_of: tuple[Any, ...] | None = Field(None, min_length=1, description="The value is one of these.")
    none_of: tuple[Any, ...] | None = Field(None, alias="not", min_length=1, description="The value is none of these.")
    below: float | None = Field(None, description="The value is a number below this.")
    above: float | None = Field(None, description="The value is a number above this.")
    at_least: float | None = Field(None, description="The value is a number of at least this.")
    at_most: float | None = Field(None, description="The value is a number of at most this.")

    @model_validator(mode="before")
    @classmethod
    def _parse(cls, given: Any) -> Any:
        if isinstance(given, (list, tuple)):
            return {"one_of": tuple(given)}
        if isinstance(given, Condition):
            return given
        if not isinstance(given, Mapping):
            return {"one_of": (given,)}
        refused = given.get("not")
        return given if refused is None or isinstance(refused, (list, tuple)) else {**given, "not": (refused,)}

    @model_serializer(mode="wrap")
    def _what_is_said(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {word: value for word, value in write(self).items() if value is not None}

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if all(getattr(self, name) is None for name in type(self).model_fields):
            raise ValueError("an empty condition; write a value, a list of values, or a word such as below: 0.1")
        return self


def holds(condition: Condition, value: Any) -> bool:
    """Say whether a condition holds for a value; a comparison with a number holds for numbers only."""
    if condition.one_of is not None and not any(same(one, value) for one in condition.one_of):
        return False
    if condition.none_of is not None and any(same(one, value) for one in condition.none_of):
        return False
    return _in_bounds(condition, value)


def all_hold(conditions: Mapping[str, Condition], values: Mapping[str, Any]) -> bool:
    """Say whether all conditions hold for the values of their paths; none holds for a path without a value."""
    return all(path in values and holds(condition, values[path]) for path, condition in conditions.items())


def same(left: Any, right: Any) -> bool:
    """Say whether two plain values are equal; lists and tuples alike, true and 1 not."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, (list, tuple)) and isinstance(right, (list, tuple)):
        return len(left) == len(right) and all(same(*pair) for pair in zip(left, right, strict=True))
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        return left.keys() == right.keys() and all(same(value, right[key]) for key, value in left.items())
    return bool(left == right)


def _in_bounds(condition: Condition, value: Any) -> bool:
    below, above, least, most = condition.below, condition.above, condition.at_least, condition.at_most
    if below is None and above is None and least is None and most is None:
        return True
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    low = (above is None or value > above) and (least is None or value >= least)
    return low and (below is None or value < below) and (most is None or value <= most)
