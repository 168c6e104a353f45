"""How benchmarks measure and judge."""

import json
import statistics

import pytest

from tokexp.bench import plan
from tokexp.bench.base import BenchRow, at_most, bench_names, compare, machine, median_interval, run_bench
from tokexp.errors import InputError


def test_the_interval_holds_the_median_and_narrows_with_more_values() -> None:
    few, many = [1.0, 2.0, 3.0, 4.0, 9.0], [1.0, 2.0, 3.0, 4.0, 9.0] * 40
    narrow, wide = median_interval(many), median_interval(few)
    assert wide.value == narrow.value == statistics.median(few) == 3.0
    assert wide.low <= 3.0 <= wide.high
    assert narrow.high - narrow.low < wide.high - wide.low


def test_both_ways_are_measured_in_turns() -> None:
    order: list[str] = []

    def cost(name: str, value: float) -> float:
        order.append(name)
        return value

    found = compare(lambda: cost("a", 6.0), lambda: cost("b", 2.0), rounds=4)
    assert found.value == 3.0
    assert "".join(order) == "ab" + "abbaabba"


def test_a_bound_is_judged() -> None:
    assert at_most("x", 1.0, "s", 1.0).holds is True
    assert at_most("x", 1.1, "s", 1.0).holds is False


def test_a_row_is_json_with_the_agreed_fields() -> None:
    row = BenchRow("name", 2.0, "x", 70.0, 20.0, False).as_dict()
    assert json.loads(json.dumps(row)) == {
        "name": "name", "value": 2.0, "unit": "x", "anchor": 70.0, "bound": 20.0, "holds": False
    }  # fmt: skip


def test_the_machine_is_described_in_json() -> None:
    assert json.loads(json.dumps(machine()))["cores"] >= 1


def test_an_unknown_benchmark_is_answered_with_the_nearest() -> None:
    assert {"cli", "plan"} <= set(bench_names())
    with pytest.raises(InputError, match="did you mean plan"):
        run_bench("plam")


def test_the_trials_of_the_planning_benchmark_all_differ() -> None:
    assert len({spec.model_dump_json() for spec in plan.validate_trials(50)}) == 50


def test_the_planning_benchmark_plans_at_least_as_many_stages_as_it_says() -> None:
    assert plan.plan_stages(60) >= 60
