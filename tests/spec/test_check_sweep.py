"""What a sweep's conditions and budgets can mean."""

from typing import Any

import pytest

from tokexp.spec.check_sweep import can_hold, check_sweep
from tokexp.spec.conditions import Condition
from tokexp.spec.laying import MOST_POINTS
from tokexp.spec.searching import Choice, FloatRange, IntRange
from tokexp.spec.sweep import Constraint, SweepSpec

WORD = Choice(choice=("a", "b", 3))
WHOLE = IntRange.model_validate({"int": [2, 8]})
REAL = FloatRange.model_validate({"float": [0.5, 2.0]})


@pytest.mark.parametrize(
    ("dimension", "condition", "can"),
    [
        (WORD, "a", True), (WORD, "c", False), (WORD, {"not": ["a", "b"]}, True), (WORD, {"below": 3}, False),
        (WHOLE, 2, True), (WHOLE, 9, False), (WHOLE, [1, 8], True), (WHOLE, {"below": 2}, False),
        (WHOLE, {"at_most": 2}, True), (WHOLE, {"above": 8}, False), (WHOLE, {"at_least": 8}, True),
        (REAL, {"above": 0.5, "below": 0.6}, True), (REAL, {"above": 1.0, "below": 0.9}, False), (REAL, "x", False),
    ],
)  # fmt: skip
def test_whether_a_condition_can_ever_hold(dimension: Any, condition: Any, can: bool) -> None:
    assert can_hold(Condition.model_validate(condition), dimension) is can


def test_far_too_many_points_are_refused_before_they_are_made() -> None:
    grid = {f"a.b{number}": list(range(1000)) for number in range(4)}
    spec = SweepSpec.model_validate({"schema": 1, "experiment": "e", "grid": grid, "zip": {"c": [1, 2]}})
    assert spec.size == 2 * 1000**4 > MOST_POINTS
    assert [finding.path for finding in check_sweep(spec)] == [("grid",)]


def test_a_constraint_is_broken_by_how_much_is_too_much() -> None:
    most = Constraint(metric="storage/total", at_most=10.0)
    least = Constraint(metric="finetune/top1", at_least=0.5)
    assert (most.violation(12.0), most.violation(9.0)) == (2.0, -1.0)
    assert (least.violation(0.4), least.violation(0.5)) == (pytest.approx(0.1), 0.0)


def test_a_ring_of_three_conditions_is_found_once() -> None:
    space = {
        name: {"int": [1, 4], "when": {other: 2}} for name, other in (("a", "b"), ("b", "c"), ("c", "a"), ("d", "a"))
    }
    spec = SweepSpec.model_validate({"schema": 1, "experiment": "e", "space": space, "budget": {"trials": 1}})
    found = [finding.message for finding in check_sweep(spec)]
    assert found == ["the conditions form a ring: a -> b -> c -> a"]
