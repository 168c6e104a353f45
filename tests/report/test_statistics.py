"""Means, intervals, paired differences and Holm's correction, against independent computations and by properties."""

import math
import random
import warnings

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokexp.report.statistics import difference, estimate, holm

NUMBERS = st.floats(-1e3, 1e3).map(lambda value: round(value, 6))
TABLES = st.dictionaries(st.integers(0, 9), NUMBERS, max_size=8)
P_VALUES = st.dictionaries(st.text("abcdef", min_size=1, max_size=3), st.none() | st.floats(0, 1), max_size=8)


def _t_density(t: float, freedom: int) -> float:
    front = math.gamma((freedom + 1) / 2) / (math.sqrt(freedom * math.pi) * math.gamma(freedom / 2))
    return front * (1 + t * t / freedom) ** (-(freedom + 1) / 2)


def _t_tail(t: float, freedom: int, steps: int = 20_000) -> float:
    """P(T > t) by Simpson's rule over the density from 0 to t: no library's t distribution is asked."""
    width = t / steps
    inner = sum((4 if step % 2 else 2) * _t_density(step * width, freedom) for step in range(1, steps))
    return 0.5 - width / 3 * (_t_density(0, freedom) + inner + _t_density(t, freedom))


def test_the_interval_is_students_t_over_the_seeds() -> None:
    # By hand: mean 3, sd sqrt(2.5), n 5, t(0.975; 4) = 2.776445 from printed tables.
    found = estimate({0: 1.0, 1: 2.0, 2: 3.0, 3: 4.0, 4: 5.0})
    assert found is not None
    assert (found.n, found.mean) == (5, 3.0)
    assert found.sd == pytest.approx(math.sqrt(2.5))
    assert found.half == pytest.approx(2.776445 * math.sqrt(2.5 / 5), rel=1e-6)
    assert found.low == pytest.approx(3.0 - found.half)


@pytest.mark.parametrize("n", [2, 3, 5, 30])
def test_the_interval_leaves_a_fortieth_on_each_side(n: int) -> None:
    draw = random.Random(n)
    found = estimate({seed: draw.gauss(70, 3) for seed in range(n)})
    assert found is not None
    assert found.half is not None
    assert found.sd is not None
    assert _t_tail(found.half / (found.sd / math.sqrt(n)), n - 1) == pytest.approx(0.025, abs=1e-6)


@pytest.mark.parametrize("n", [2, 3, 5, 30])
def test_the_paired_test_agrees_with_scipy_and_with_the_integral(n: int) -> None:
    from scipy import stats

    draw = random.Random(100 + n)
    base = {seed: draw.gauss(0.9, 0.02) for seed in range(n)}
    mine = {seed: value + draw.gauss(0.01, 0.01) for seed, value in base.items()}
    found = difference(mine, base)
    expected = stats.ttest_rel([mine[seed] for seed in range(n)], [base[seed] for seed in range(n)])
    low, high = expected.confidence_interval(0.95)
    assert found is not None
    assert found.p == pytest.approx(expected.pvalue, rel=1e-9)
    assert (found.low, found.high) == pytest.approx((low, high), rel=1e-9)
    assert found.p == pytest.approx(2 * _t_tail(abs(expected.statistic), n - 1), abs=1e-7)


def test_pairing_finds_what_seeds_hide() -> None:
    base = {seed: 0.1 * seed for seed in range(6)}
    mine = {seed: value + 0.01 + 0.001 * (seed % 2) for seed, value in base.items()}
    found, own = difference(mine, base), estimate(mine)
    assert found is not None
    assert own is not None
    assert found.p is not None
    assert found.p < 1e-5
    assert own.low is not None
    assert own.low < 0.25 < 0.3


def test_one_seed_has_a_mean_and_no_interval_and_no_test() -> None:
    found, against = estimate({3: 0.5}), difference({3: 0.5}, {3: 0.4})
    assert found is not None
    assert (found.n, found.mean, found.sd, found.low, found.half) == (1, 0.5, None, None, None)
    assert against is not None
    assert (against.n, against.p, against.low) == (1, None, None)
    assert against.mean == pytest.approx(0.1)


def test_only_common_seeds_are_paired_and_the_others_are_told() -> None:
    found = difference({0: 1.0, 1: 2.0, 5: 9.0}, {1: 1.5, 0: 0.0, 7: 3.0})
    assert found is not None
    assert (found.seeds, found.unpaired) == ((0, 1), (5, 7))
    assert found.mean == pytest.approx(0.75)


def test_no_common_seed_is_no_difference() -> None:
    assert difference({0: 1.0}, {1: 1.0}) is None
    assert difference({}, {}) is None
    assert estimate({}) is None


def test_values_that_are_not_finite_are_missing() -> None:
    values = {0: 0.5, 1: math.nan, 2: math.inf, 3: 0.7}
    found, against = estimate(values), difference(values, {0: 0.4, 1: 0.4, 3: 0.4})
    assert found is not None
    assert (found.n, found.mean) == (2, pytest.approx(0.6))
    assert against is not None
    assert (against.seeds, against.unpaired) == ((0, 3), (1,))
    assert estimate({0: math.nan}) is None


def test_equal_values_have_an_interval_of_no_width() -> None:
    found = estimate(dict.fromkeys(range(3), 0.1))
    assert found is not None
    assert (found.sd, found.low, found.high) == (0.0, found.mean, found.mean)


def test_a_difference_without_spread_is_not_tested() -> None:
    # In floating point the three differences are not quite equal, which must not pass for a p of 1e-30.
    base = {0: 0.1, 1: 0.2, 2: 0.3}
    found = difference({seed: value + 0.02 for seed, value in base.items()}, base)
    assert found is not None
    assert (found.sd, found.p) == (0.0, None)
    assert found.mean == pytest.approx(0.02)


def test_equal_results_in_all_seeds_are_no_evidence() -> None:
    found = difference({0: 0.1, 1: 0.2}, {0: 0.1, 1: 0.2})
    assert found is not None
    assert (found.mean, found.p) == (0.0, 1.0)


def test_a_number_that_no_seed_decides_is_not_tested() -> None:
    found = difference(dict.fromkeys(range(3), 16.0), dict.fromkeys(range(3), 16.0))
    assert found is not None
    assert (found.mean, found.low, found.p) == (0.0, 0.0, None)


def test_holm_agrees_with_the_example_by_hand() -> None:
    # Five tests: 5 x 0.01, 4 x 0.02, 3 x 0.03 = 0.09, 2 x 0.04 = 0.08 -> 0.09, 1 x 0.05 -> 0.09.
    found = holm({"c": 0.03, "a": 0.01, "e": 0.05, "b": 0.02, "none": None, "d": 0.04})
    assert found == {
        "a": pytest.approx(0.05), "b": pytest.approx(0.08), "c": pytest.approx(0.09), "d": pytest.approx(0.09),
        "e": pytest.approx(0.09), "none": None,
    }  # fmt: skip
    assert holm({"a": 0.4, "b": 0.9}) == {"a": 0.8, "b": 0.9}
    assert holm({"a": 0.7, "b": 0.9}) == {"a": 1.0, "b": 1.0}
    assert holm({}) == {}


@given(TABLES, TABLES, st.randoms(use_true_random=False))
@settings(max_examples=200, deadline=None)
def test_the_order_of_seeds_changes_nothing(
    mine: dict[int, float], base: dict[int, float], draw: random.Random
) -> None:
    def shuffled(values: dict[int, float]) -> dict[int, float]:
        items = list(values.items())
        draw.shuffle(items)
        return dict(items)

    assert estimate(shuffled(mine)) == estimate(mine)
    assert difference(shuffled(mine), shuffled(base)) == difference(mine, base)


@given(TABLES, TABLES)
@settings(max_examples=200, deadline=None)
def test_a_difference_turned_round_has_the_other_sign_and_the_same_p(
    mine: dict[int, float], base: dict[int, float]
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        one, other = difference(mine, base), difference(base, mine)
    if one is None or other is None:
        assert not mine.keys() & base.keys()
        return
    assert (one.seeds, one.unpaired, one.p) == (other.seeds, other.unpaired, other.p)
    assert one.mean == pytest.approx(-other.mean)
    assert one.p is None or 0.0 <= one.p <= 1.0


@given(P_VALUES, st.randoms(use_true_random=False))
def test_the_order_of_cases_changes_nothing_and_the_correction_only_raises(
    values: dict[str, float | None], draw: random.Random
) -> None:
    found = holm(values)
    items = list(values.items())
    draw.shuffle(items)
    assert holm(dict(items)) == found
    ranked = sorted((p, found[name]) for name, p in values.items() if p is not None)
    assert all(p <= corrected <= 1.0 for p, corrected in ranked if corrected is not None)
    corrections = [corrected for _, corrected in ranked]
    assert corrections == sorted(corrections)
