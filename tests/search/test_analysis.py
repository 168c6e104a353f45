"""What reports read out of a search."""

from itertools import product

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.search.sweeps import BYTES, CONDITIONAL, MIXED, NUMBERS, TOP1, run, sweep_of
from tokexp.search.analysis import front, history, hypervolumes, read_rows
from tokexp.search.records import SearchRow
from tokexp.search.study import Search

TWO = sweep_of(NUMBERS, metrics=[TOP1, BYTES])
THREE = sweep_of(NUMBERS, metrics=[TOP1, BYTES, {"name": "cost/hours", "direction": "minimize"}])
SMALL = st.integers(0, 4).map(float)


def rows_of(sweep, results, feasible=None):
    names = [metric.name for metric in sweep.metrics]
    return [
        SearchRow(
            number, "complete", None, {}, dict(zip(names, result, strict=True)), feasible is None or feasible[number]
        )
        for number, result in enumerate(results)
    ]


def brute_force_front(sweep, rows):
    def at_least_as_good(left, right):
        return all(
            left.metrics[metric.name] >= right.metrics[metric.name]
            if metric.direction == "maximize"
            else left.metrics[metric.name] <= right.metrics[metric.name]
            for metric in sweep.metrics
        )

    feasible = [row for row in rows if row.feasible]
    return [
        row.number
        for row in feasible
        if not any(at_least_as_good(other, row) and not at_least_as_good(row, other) for other in feasible)
    ]


@given(st.lists(st.tuples(SMALL, SMALL, SMALL), max_size=25), st.data())
@settings(max_examples=80, deadline=None)
def test_a_front_is_the_one_that_brute_force_finds(results, data):
    feasible = data.draw(st.lists(st.booleans(), min_size=len(results), max_size=len(results)))
    for sweep, width in ((TWO, 2), (THREE, 3)):
        rows = rows_of(sweep, [result[:width] for result in results], feasible)
        assert sorted(front(rows, sweep)) == brute_force_front(sweep, rows)


def test_a_front_is_optunas_own(tmp_path):
    search = Search(tmp_path, sweep_of(NUMBERS, metrics=[TOP1, BYTES], sampler={"kind": "nsga2", "population": 6}))
    run(search, 40, lambda values: [values["x"] ** 2 + values["y"], abs(values["x"]) + values["y"] ** 2])
    optunas = [trial.number for trial in search._studies.kept.study.best_trials if "same_as" not in trial.user_attrs]
    assert sorted(search.best()) == sorted(optunas)
    assert len(search.best()) > 1


def test_the_best_of_one_metric_is_the_first_of_equals_and_feasible():
    one = sweep_of(NUMBERS)
    assert front(rows_of(one, [(1.0,), (3.0,), (3.0,), (2.0,)]), one) == [1]
    assert front(rows_of(one, [(1.0,), (3.0,), (2.0,)], [True, False, True]), one) == [2]
    down = sweep_of(NUMBERS, metrics=[BYTES])
    assert front(rows_of(down, [(1.0,), (3.0,), (0.5,)]), down) == [2]
    assert front([], one) == []


def test_what_breaks_a_constraint_or_has_not_been_measured_is_not_among_the_best(tmp_path):
    bounds = [
        {"metric": "storage/bytes_per_image", "at_most": 10.0},
        {"metric": "finetune/top5", "at_least": 0.5},
    ]
    search = Search(tmp_path, sweep_of(NUMBERS, constraints=bounds))
    violations = [[-1.0, 0.1], [0.0, 0.0], [-1.0, float("nan")], [], [3.0, -1.0]]
    for result, violation in enumerate(violations):
        search.tell(search.ask().number, [float(result)], constraints=violation)
    assert search.best() == [1]
    assert [row.feasible for row in search.rows()] == [False, True, False, False, False]
    assert Search(tmp_path, search._sweep).best() == [1]


@given(st.lists(st.tuples(SMALL, SMALL), min_size=1, max_size=15))
@settings(max_examples=60, deadline=None)
def test_a_hypervolume_is_the_number_of_unit_cells_that_the_front_covers(results):
    rows = rows_of(TWO, results)
    areas = hypervolumes(rows, TWO)
    worst = min(top1 for top1, _ in results), max(size for _, size in results)
    for end, (number, area) in enumerate(areas, 1):
        assert number == end - 1
        cells = sum(
            any(worst[0] + right < top1 and worst[1] - up > size for top1, size in results[:end])
            for right, up in product(range(5), range(5))
        )
        assert area == pytest.approx(cells)


def test_a_hypervolume_is_of_two_metrics_only():
    assert hypervolumes(rows_of(THREE, [(1.0, 2.0, 3.0)]), THREE) == []
    assert hypervolumes(rows_of(sweep_of(NUMBERS), [(1.0,)]), sweep_of(NUMBERS)) == []
    assert hypervolumes([], TWO) == []


def test_importances_find_what_decides_per_metric_in_its_direction(tmp_path):
    sampler = {"kind": "random"}
    search = Search(tmp_path, sweep_of(NUMBERS, metrics=[TOP1, BYTES], sampler=sampler), ["SeiT", "both"])
    run(search, 60, lambda values: [values["x"] + values["y"] / 100, -values["y"] + values["x"] / 100])
    found = search.importances()
    assert list(found) == ["finetune/top1", "storage/bytes_per_image"]
    assert next(iter(found["finetune/top1"])) == "x"
    assert next(iter(found["storage/bytes_per_image"])) == "y"
    for shares in found.values():
        assert set(shares) == {"case", "x", "y"}
        assert sum(shares.values()) == pytest.approx(1)
        assert list(shares.values()) == sorted(shares.values(), reverse=True)
        assert shares[next(iter(shares))] > 0.5


def test_importances_take_conditional_dimensions_and_choices_of_any_type(tmp_path):
    space = {**CONDITIONAL, "augment.task": {"choice": [[{"kind": "crop"}], [], [{"kind": "flip"}]]}}
    search = Search(tmp_path, sweep_of(space, sampler={"kind": "random"}))
    run(search, 60, lambda values: [float(len(str(values["augment.task"])))])
    assert next(iter(search.importances()["finetune/top1"])) == "augment.task"


def test_with_too_few_trials_everything_is_empty(tmp_path):
    search = Search(tmp_path, sweep_of(MIXED))
    assert (search.importances(), search.slices(), search.best(), search.rows()) == ({}, [], [], [])
    run(search, 9)
    assert search.importances() == {}
    assert len(search.slices()) == 9 * len(MIXED)


def test_importances_of_a_metric_that_is_always_equal_are_left_out(tmp_path):
    search = Search(tmp_path, sweep_of(MIXED))
    run(search, 12, lambda values: [0.5])
    assert search.importances() == {}


def test_slices_hold_each_active_value_once_per_metric(tmp_path):
    search = Search(tmp_path, sweep_of(CONDITIONAL, metrics=[TOP1, BYTES]), ["SeiT", "both"])
    asked = run(search, 5, lambda values: [1.0, 2.0])
    search.tell(search.ask().number, None, "failed")
    search.ask()
    rows = search.slices()
    assert len(rows) == 2 * sum(len(point.values) + 1 for point in asked)
    assert {row["path"] for row in rows if row["number"] == 0} == {"case", *asked[0].values}
    assert {(row["metric"], row["result"]) for row in rows} == {
        ("finetune/top1", 1.0), ("storage/bytes_per_image", 2.0),
    }  # fmt: skip


def test_a_history_tells_the_best_so_far_over_feasible_trials():
    rows = rows_of(TWO, [(1.0, 5.0), (3.0, 9.0), (2.0, 1.0), (9.0, 0.0)], [False, True, True, False])
    best = [row["best"] for row in history(rows, TWO)]
    assert best == [
        {},
        {"finetune/top1": 3.0, "storage/bytes_per_image": 9.0},
        {"finetune/top1": 3.0, "storage/bytes_per_image": 1.0},
        {"finetune/top1": 3.0, "storage/bytes_per_image": 1.0},
    ]


def test_rows_are_read_beside_the_writer_and_nothing_is_changed(tmp_path):
    sweep = sweep_of(MIXED)
    assert read_rows(tmp_path, sweep) == []
    assert not any(tmp_path.iterdir())
    search = Search(tmp_path, sweep)
    run(search, 3)
    search.ask()
    journal = tmp_path / "study.journal"
    with journal.open("ab") as half:
        half.write(b'{"op_code": 5')  # another process in the middle of a write
    content = journal.read_bytes()
    rows = read_rows(tmp_path, sweep)
    assert [row.state for row in rows] == ["complete"] * 3 + ["running"]
    assert rows == search.rows()
    assert rows[0].seconds is not None
    assert rows[3].seconds is None
    assert journal.read_bytes() == content


def test_rows_of_a_study_that_is_not_there_are_none(tmp_path):
    optuna.storages.journal.JournalFileBackend(str(tmp_path / "study.journal"))
    assert read_rows(tmp_path, sweep_of(MIXED)) == []


def test_duplicates_count_once(tmp_path):
    search = Search(tmp_path, sweep_of({"a": {"choice": [1, 2, 3]}}, sampler={"kind": "random"}))
    while (asked := search.ask()) is not None:
        search.tell(asked.number, [1.0])
    assert len(search.rows()) > 3
    assert len(search.slices()) == 3
    assert search.best() == [0]
