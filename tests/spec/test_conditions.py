"""Conditions: what holds for which value."""

from typing import Any

import pytest
from pydantic import ValidationError

from tokexp.spec.conditions import Condition, all_hold, holds, same


def condition(given: Any) -> Condition:
    return Condition.model_validate(given)


@pytest.mark.parametrize(
    ("given", "good", "bad"),
    [
        (8, [8, 8.0], [9, "8", True, None, [8]]),
        (True, [True], [1, "true", False]),
        (1, [1, 1.0], [True]),
        ("a", ["a"], ["A", None]),
        (None, [None], [0, False, ""]),
        ([8, 16], [8, 16], [[8, 16], 9]),
        ({"one_of": [[8, 16]]}, [[8, 16], (8, 16)], [8, [16, 8]]),
        ({"not": 8}, [9, "8", None], [8, 8.0]),
        ({"not": [8, "a"]}, [9, "b"], [8, "a"]),
        ({"below": 0.1}, [0, -1, 0.09], [0.1, 1, "0", None, True]),
        ({"above": 0.1}, [0.2, 5], [0.1, 0, False]),
        ({"at_least": 2, "at_most": 4}, [2, 3, 4.0], [1, 5]),
        ({"at_least": 2, "not": 3}, [2, 4], [3, 1]),
        ({"one_of": [{"kind": "a", "x": 1}]}, [{"x": 1, "kind": "a"}], [{"kind": "a"}, {"kind": "a", "x": 2}]),
    ],
)
def test_a_condition_holds_for_what_it_says(given: Any, good: list[Any], bad: list[Any]) -> None:
    assert [value for value in good if not holds(condition(given), value)] == []
    assert [value for value in bad if holds(condition(given), value)] == []


@pytest.mark.parametrize("given", [{}, [], {"not": []}, {"belw": 1}, {"below": "a"}, {"not": None}])
def test_a_condition_that_says_nothing_sensible_is_refused(given: Any) -> None:
    with pytest.raises(ValidationError):
        condition(given)


@pytest.mark.parametrize("given", [8, None, [1, 2], {"not": 3}, {"below": 1.5, "above": 0.5}])
def test_a_condition_survives_being_written_down(given: Any) -> None:
    first = condition(given)
    assert condition(first.model_dump(mode="json", by_alias=True)) == first


def test_all_conditions_must_hold_and_a_missing_value_holds_for_none() -> None:
    conditions = {"a": condition(1), "b": condition({"below": 2})}
    assert all_hold(conditions, {"a": 1, "b": 1, "c": 0})
    assert not all_hold(conditions, {"a": 1, "b": 2})
    assert not all_hold(conditions, {"a": 1})
    assert not all_hold({"b": condition({"not": 5})}, {})
    assert all_hold({}, {})


def test_equality_tells_truth_from_numbers_at_any_depth() -> None:
    assert not same([1, {"a": 1}], [1, {"a": True}])
    assert same([1, {"a": (2.0,)}], (1.0, {"a": [2]}))
