"""Dimensions become Optuna's distributions, and Optuna's parameters the values that were written."""

from itertools import islice, product
from typing import Any

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.search.sweeps import CONDITIONAL, MIXED, sweep_of
from tokexp.errors import InputError
from tokexp.search.space import Space, canonical


def drawn(space: Space, seed: int, count: int = 1) -> list[dict[str, Any]]:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    return [space.suggest(study.ask()) for _ in range(count)]


@given(st.integers(0, 2**31), st.floats(-1e3, 1e3), st.floats(1e-3, 1e3))
@settings(max_examples=40, deadline=None)
def test_a_float_range_gives_floats_within_its_bounds(seed: int, low: float, width: float) -> None:
    space = Space(sweep_of({"x": {"float": [low, low + width]}}))
    for params in drawn(space, seed, 5):
        _, values = space.written(params)
        assert low <= values["x"] <= low + width
        assert type(values["x"]) is float


@given(st.integers(0, 2**31), st.integers(-20, 20), st.integers(1, 40), st.sampled_from([0.1, 0.25, 0.3, 0.05, 1.5]))
@settings(max_examples=60, deadline=None)
def test_a_stepped_float_range_gives_only_its_steps_as_they_would_be_written(
    seed: int, start: int, steps: int, step: float
) -> None:
    low = start / 10
    space = Space(sweep_of({"x": {"float": [low, low + steps * step + step / 2], "step": step}}))
    written = [space.written(params)[1]["x"] for params in space.cells()]
    assert len(written) in (steps, steps + 1)  # the bound itself is rounded
    assert all(float(f"{value:.10g}") == value for value in written)
    for params in drawn(space, seed, 5):
        assert space.written(params)[1]["x"] in written


@given(st.integers(0, 2**31), st.integers(-50, 50), st.integers(1, 60), st.integers(1, 7))
@settings(max_examples=40, deadline=None)
def test_an_integer_range_gives_only_its_steps(seed: int, low: int, width: int, step: int) -> None:
    space = Space(sweep_of({"n": {"int": [low, low + width], "step": step}}))
    levels = list(range(low, low + width + 1, step))
    assert [space.written(params)[1]["n"] for params in space.cells()] == levels
    for params in drawn(space, seed, 5):
        value = space.written(params)[1]["n"]
        assert value in levels
        assert type(value) is int


def test_a_logarithmic_range_is_searched_evenly_in_the_logarithm() -> None:
    space = Space(sweep_of({"lr": {"float": [1e-6, 1.0], "log": True}, "n": {"int": [1, 10_000], "log": True}}))
    points = [space.written(params)[1] for params in drawn(space, 0, 400)]
    assert 0.4 < sum(point["lr"] < 1e-3 for point in points) / 400 < 0.6
    assert 0.4 < sum(point["n"] < 100 for point in points) / 400 < 0.6


@pytest.mark.parametrize(
    "choices",
    [
        [[1, 2], [3]],
        [{"kind": "crop", "size": [1, 2]}, {"kind": "flip"}, None],
        [1, True],
        [1, 1.0],
        ["1", 1, None, True],
        [["a" * 100, 1], ["a" * 100, 2]],
        [0.1, 3],
    ],
)
def test_choices_of_any_type_come_back_as_they_were_written(choices: list[Any]) -> None:
    space = Space(sweep_of({"x": {"choice": choices}}))
    written = [space.written(params)[1]["x"] for params in space.cells()]
    assert [canonical(value) for value in written] == [canonical(choice) for choice in choices]
    assert [type(value) for value in written] == [type(choice) for choice in choices]
    seen = {canonical(space.written(params)[1]["x"]) for params in drawn(space, 0, 60)}
    assert seen == {canonical(choice) for choice in choices}


def test_labels_of_choices_are_short_and_readable() -> None:
    space = Space(sweep_of({"x": {"choice": [{"kind": "crop"}, ["a" * 300]]}}))
    first, second = (params["x"] for params in space.cells())
    assert first == '{"kind":"crop"}'
    assert len(second) < 90


def test_an_inactive_dimension_is_neither_suggested_nor_enumerated() -> None:
    space = Space(sweep_of(CONDITIONAL))
    for params in drawn(space, 3, 60):
        _, values = space.written(params)
        assert ("codec.level" in values) == (values["codec.kind"] == "rans")
        assert ("codec.lanes" in values) == (values.get("codec.level") == "best")


def test_dimensions_are_ordered_by_dependence_and_otherwise_as_written() -> None:
    assert Space(sweep_of(CONDITIONAL)).names == ["codec.kind", "codec.level", "codec.lanes", "train.lr"]


def test_dimensions_that_wait_for_one_another_are_refused() -> None:
    circle = {
        "a": {"choice": [1, 2], "when": {"b": 1}},
        "b": {"choice": [1, 2], "when": {"a": 1}},
        "c": {"choice": [1, 2]},
    }
    with pytest.raises(InputError, match="a, b wait for one another"):
        Space(sweep_of(circle))


def test_a_condition_sees_the_values_of_the_case_and_of_set() -> None:
    space = Space(
        sweep_of(
            {
                "n": {"int": [1, 2], "when": {"codec": "rans"}},
                "m": {"int": [1, 2], "when": {"fixed": {"above": 3}}},
                "k": {"int": [1, 2], "when": {"fixed": {"below": 3}}},
            },
            cases={"plain": {"codec": "packed"}, "coded": {"codec": "rans"}},
            set={"fixed": 5},
        ),
        ["plain", "coded"],
    )
    for params in space.cells():
        case, values = space.written(params)
        assert ("n" in values) == (case == "coded")
        assert "m" in values
        assert "k" not in values


def test_cells_are_all_combinations_once_in_written_order() -> None:
    space = Space(
        sweep_of({"a": {"choice": ["x", "y"]}, "b": {"int": [1, 3]}, "c": {"float": [0.0, 0.2], "step": 0.1}})
    )
    cells = [tuple(space.written(params)[1].values()) for params in space.cells()]
    assert cells == list(product(["x", "y"], [1, 2, 3], [0.0, 0.1, 0.2]))
    assert space.count(100) == 18
    assert space.count(17) is None


def test_cells_of_a_conditional_space_are_those_that_brute_force_finds() -> None:
    dimensions = {**CONDITIONAL, "train.lr": {"choice": [0.1, 0.2]}}
    space = Space(sweep_of(dimensions))
    expected = set()
    for kind, level, lanes, rate in product(["packed", "rans"], ["fast", "best"], range(1, 5), [0.1, 0.2]):
        point: dict[str, Any] = {"codec.kind": kind, "train.lr": rate}
        if kind == "rans":
            point["codec.level"] = level
            if level == "best":
                point["codec.lanes"] = lanes
        expected.add(canonical(point))
    found = [canonical(space.written(params)[1]) for params in space.cells()]
    assert sorted(found) == sorted(expected)


def test_a_huge_space_is_enumerated_without_being_held() -> None:
    space = Space(sweep_of({"n": {"int": [1, 10**12]}, "m": {"int": [1, 10**12]}}))
    assert [params["m"] for params in islice(space.cells(), 3)] == [1, 2, 3]
    assert space.count(1000) is None


def test_a_range_without_steps_has_no_count_and_cannot_be_a_grid() -> None:
    assert Space(sweep_of(MIXED)).count(10**6) is None
    with pytest.raises(InputError, match=r"needs a step for the range train\.lr"):
        Space(sweep_of(MIXED, sampler={"kind": "grid"}))


def test_equal_spaces_have_equal_identities_and_others_do_not() -> None:
    assert Space(sweep_of(MIXED)).identity() == Space(sweep_of(MIXED)).identity()
    assert Space(sweep_of(MIXED)).identity() != Space(sweep_of(CONDITIONAL)).identity()
    assert Space(sweep_of(MIXED)).identity() != Space(sweep_of(MIXED), ["a", "b"]).identity()
