"""How many groups there are: the counts of the paper and of its release, every one of them possible."""

import math
from collections import Counter

import pytest
import torch

from tokexp.errors import InputError
from tokexp.objectives.morphing.schedules import Level, draw_levels
from tokexp.spec.morphing import LastStep, ScheduleSpec, asked_steps, fewest_groups, made_steps

N = 196


def released(removed: int, iterations: int) -> tuple[int, ...]:
    return made_steps(N, asked_steps(N, removed, iterations, "released"), protected=True)


@pytest.mark.parametrize(
    ("removed", "iterations", "each", "groups"),
    [(0, 3, 0, 196), (3, 14, 1, 182), (98, 7, 14, 98), (100, 7, 15, 91), (98, 1, 98, 99), (150, 3, 50, 49),
     (196, 7, 28, 15), (196, 14, 14, 8), (196, 1, 196, 99)],
)  # fmt: skip
def test_the_releases_steps_are_rounded_up_and_cut_at_half(
    removed: int, iterations: int, each: int, groups: int
) -> None:
    assert set(asked_steps(N, removed, iterations, "released")) == {each}
    assert N - sum(released(removed, iterations)) == groups


def test_a_step_that_would_overshoot_is_rounded_down() -> None:
    assert asked_steps(N, 195, 13, "released") == (15,) * 13
    assert asked_steps(N, 194, 13, "released") == (15,) * 13
    assert asked_steps(10, 10, 4, "released") == (2,) * 4


def test_the_releases_law_over_all_draws() -> None:
    counts = [N - sum(released(removed, k)) for removed in range(N + 1) for k in range(1, 15)]
    assert (min(counts), max(counts)) == (8, 196)
    assert sum(counts) / len(counts) == pytest.approx(98.5, abs=0.05)
    ranked = sorted(counts)
    assert [ranked[int(len(ranked) * share)] for share in (0.05, 0.25, 0.5, 0.75, 0.95)] == [15, 52, 99, 144, 184]
    asked = [N - removed for removed in range(N + 1) for _ in range(14)]
    relation = Counter((made > wanted) - (made < wanted) for made, wanted in zip(counts, asked, strict=True))
    shares = {sign: round(100 * count / len(counts), 1) for sign, count in relation.items()}
    assert shares == {-1: 67.0, 0: 17.3, 1: 15.7}


@pytest.mark.parametrize(
    ("last_step", "expected"),
    [
        ("balanced", [98, 66, 49, 40, 33, 28, 25, 22, 18, 16, 14]),
        ("remainder", [98, 66, 49, 40, 34, 31, 26, 25, 22, 21, 20]),
    ],
)  # fmt: skip
def test_from_the_fewest_groups_on_every_number_is_possible(last_step: LastStep, expected: list[int]) -> None:
    steps = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14)
    assert [fewest_groups(N, k, last_step, protected=False) for k in steps] == expected
    for k in range(1, 15):
        for groups in range(fewest_groups(N, k, last_step, protected=True), N + 1):
            asked = asked_steps(N, N - groups, k, last_step)
            assert len(asked) == k
            assert N - sum(made_steps(N, asked, protected=True)) == groups


def test_the_smallest_numbers_that_balanced_steps_reach_at_all() -> None:
    def reached(groups: int, k: int, protected: bool) -> bool:
        asked = asked_steps(N, N - groups, k, "balanced")
        return made_steps(N, asked, protected) == asked

    for protected in (False, True):
        least = [next(groups for groups in range(N) if reached(groups, k, protected)) for k in (1, 2, 3, 4, 8, 14)]
        assert least == [N // (k + 1) + protected for k in (1, 2, 3, 4, 8, 14)]


def test_the_corrected_last_step_takes_what_is_left() -> None:
    assert asked_steps(N, 100, 7, "remainder") == (14,) * 6 + (16,)
    assert asked_steps(N, 100, 7, "balanced") == (15, 15) + (14,) * 5
    for k in range(1, 15):
        assert sum(asked_steps(N, 101, k, "remainder")) == sum(asked_steps(N, 101, k, "balanced")) == 101


@pytest.mark.parametrize("last_step", ["balanced", "remainder"])
def test_draws_are_uniform_over_what_is_possible(last_step: LastStep) -> None:
    spec = ScheduleSpec(levels=64, iterations=(1, 2), last_step=last_step)
    generator = torch.Generator().manual_seed(0)
    levels = [level for _ in range(60) for level in draw_levels(spec, 8, False, generator)]
    by_steps = Counter(len(level.steps) for level in levels)
    assert by_steps[1] / len(levels) == pytest.approx(0.5, abs=0.03)
    for k, fewest in ((1, 4), (2, 3)):
        found = Counter(level.groups for level in levels if len(level.steps) == k)
        assert set(found) == set(range(fewest, 9))
        expected = by_steps[k] / len(found)
        assert max(abs(count - expected) for count in found.values()) < 5 * math.sqrt(expected)


def test_released_draws_cover_all_removals_and_iterations() -> None:
    spec = ScheduleSpec(levels=64, last_step="released")
    generator = torch.Generator().manual_seed(1)
    levels = [level for _ in range(64) for level in draw_levels(spec, N, True, generator)]
    assert {len(level.steps) for level in levels} == set(range(1, 15))
    assert sum(level.groups for level in levels) / len(levels) == pytest.approx(98.5, abs=3.5)
    assert {level.identity for level in levels} == {True, False}


def test_a_fixed_schedule_is_a_range_of_one() -> None:
    spec = ScheduleSpec(removed=(0.5, 0.5), iterations=(7, 7), levels=3)
    assert draw_levels(spec, N, False, torch.Generator()) == (Level(N, (14,) * 7),) * 3


def test_equal_generators_draw_equal_levels_and_levels_differ() -> None:
    spec = ScheduleSpec(levels=4)
    first, second = (draw_levels(spec, N, False, torch.Generator().manual_seed(5)) for _ in range(2))
    assert first == second
    assert len(set(first)) > 1


def test_what_no_step_can_remove_is_refused() -> None:
    spec = ScheduleSpec(removed=(0.6, 1.0), iterations=(1, 3))
    assert spec.impossible(N, protected=False) == 1
    assert ScheduleSpec(removed=(0.6, 1.0), iterations=(2, 3)).impossible(N, protected=False) is None
    with pytest.raises(InputError, match="removes at most half"):
        draw_levels(ScheduleSpec(removed=(0.6, 1.0), iterations=(1, 1)), N, False, torch.Generator())
