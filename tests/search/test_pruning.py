"""Reports of running trials, and which of them are stopped."""

import pytest

from tests.search.sweeps import MIXED, NUMBERS, sweep_of
from tokexp.search.pruners import build_pruner, needs_steps, sign
from tokexp.search.study import Search

ACCURACY = {"metric": "val_top1", "direction": "maximize"}


def search_with(folder, pruner, **fields):
    return Search(folder, sweep_of(NUMBERS, sampler={"kind": "random"}, pruner={**ACCURACY, **pruner}, **fields))


def trial_with(search, curve, result=None):
    """Ask, report a curve; return the first step at which the trial was to be stopped, or tell its end."""
    number = search.ask().number
    for step, value in enumerate(curve):
        if search.report(number, step, value):
            search.tell(number, None, "pruned")
            return step
    search.tell(number, [curve[-1] if result is None else result])
    return None


GOOD = [0.1 * step for step in range(10)]
BAD = [0.01 * step for step in range(10)]


@pytest.mark.parametrize(
    ("pruner", "stopped"),
    [
        ({"kind": "none"}, None),
        ({"kind": "median", "startup": 2}, 1),
        ({"kind": "median", "startup": 2, "warmup": 4}, 4),
        ({"kind": "median", "startup": 2, "warmup": 1, "interval": 5}, 1),
        ({"kind": "median", "startup": 9}, None),
        ({"kind": "percentile", "percentile": 60.0, "startup": 2}, 1),
        ({"kind": "successive_halving", "resource": 2, "reduction": 2}, 2),
        ({"kind": "successive_halving", "resource": 2, "reduction": 2, "early": 1}, 4),
        ({"kind": "threshold", "lower": 0.005, "warmup": 1}, None),
        ({"kind": "threshold", "upper": 0.035}, 4),
    ],
)
def test_a_bad_trial_is_stopped_by_each_pruner_at_its_step(tmp_path, pruner, stopped):
    fields = {} if pruner["kind"] == "none" else ACCURACY
    search = Search(tmp_path, sweep_of(NUMBERS, sampler={"kind": "random"}, pruner={**fields, **pruner}))
    if pruner["kind"] != "threshold":
        for scale in (1.0, 1.1, 1.2):
            assert trial_with(search, [value * scale for value in sorted(GOOD)]) is None
    assert trial_with(search, BAD) == stopped


def test_patience_stops_what_gets_no_better(tmp_path):
    search = search_with(tmp_path, {"kind": "patience", "patience": 2})
    assert trial_with(search, GOOD) is None
    assert trial_with(search, [0.1, 0.5, 0.4, 0.4, 0.4, 0.4]) == 4


def test_patience_asks_the_pruner_behind_it(tmp_path):
    search = search_with(
        tmp_path, {"kind": "patience", "patience": 1, "then": {"kind": "median", "startup": 2, **ACCURACY}}
    )
    for _ in range(2):
        assert trial_with(search, GOOD) is None
    assert trial_with(search, [0.9, 0.8, 0.8, 0.8]) is None
    assert trial_with(search, [0.05, 0.01, 0.01, 0.01]) == 2


def test_hyperband_takes_its_steps_from_the_first_whole_trial(tmp_path):
    search = search_with(tmp_path, {"kind": "hyperband", "reduction": 2})
    assert trial_with(search, GOOD) is None
    for scale in (1.0, 1.1, 1.2, 1.3, 1.4):
        trial_with(search, [value * scale for value in GOOD])
    stopped = [trial_with(search, BAD) for _ in range(12)]
    assert set(stopped) & set(range(10))
    again = Search(tmp_path, search._sweep)
    assert [row.state for row in again.rows()] == [row.state for row in search.rows()]


def test_resources_that_were_not_written_are_needed_and_nothing_is_stopped_before():
    for pruner in ({"kind": "hyperband"}, {"kind": "successive_halving"}):
        spec = sweep_of(NUMBERS, pruner=pruner).pruner
        assert needs_steps(spec)
        assert type(build_pruner(spec)).__name__ == "NopPruner"
        assert type(build_pruner(spec, steps=9)).__name__ != "NopPruner"
        patient = sweep_of(NUMBERS, pruner={"kind": "patience", "then": pruner}).pruner
        assert needs_steps(patient)
    assert not needs_steps(sweep_of(NUMBERS, pruner={"kind": "hyperband", "most": 9}).pruner)
    assert not needs_steps(sweep_of(NUMBERS, pruner={"kind": "patience"}).pruner)


def test_hyperband_with_more_least_than_most_steps_still_works(tmp_path):
    search = search_with(tmp_path, {"kind": "hyperband", "resource": 5, "most": 3})
    assert trial_with(search, GOOD) is None


def test_a_loss_is_pruned_downwards_while_the_metric_goes_up(tmp_path):
    search = Search(tmp_path, sweep_of(NUMBERS, pruner={"kind": "median", "startup": 2}))
    assert sign(search._sweep.pruner, "maximize") == -1
    for _ in range(2):
        assert trial_with(search, [2.0, 1.0, 0.5], result=0.9) is None
    assert trial_with(search, [3.0, 2.9, 2.8], result=0.9) == 0
    assert trial_with(search, [1.9, 0.9, 0.4], result=0.9) is None


def test_the_direction_of_a_pruner_is_its_own_that_of_a_loss_or_the_metrics():
    def turned(pruner, study):
        return sign(sweep_of(NUMBERS, pruner=pruner).pruner, study)

    assert turned({"kind": "median", "metric": "val_loss"}, "minimize") == 1
    assert turned({"kind": "median", "metric": "val_top1"}, "minimize") == 1
    assert turned({"kind": "median", "metric": "val_top1"}, "maximize") == 1
    assert turned({"kind": "median", "metric": "val_top1", "direction": "maximize"}, "minimize") == -1
    assert turned({"kind": "median", "metric": "loss", "direction": "maximize"}, "maximize") == 1
    assert turned({"kind": "none"}, "maximize") == 1


def test_bounds_of_a_threshold_are_in_the_units_of_what_is_reported(tmp_path):
    search = Search(tmp_path, sweep_of(NUMBERS, pruner={"kind": "threshold", "metric": "loss", "upper": 5.0}))
    assert trial_with(search, [4.0, 4.9, -100.0], result=0.5) is None
    assert trial_with(search, [4.0, 5.1], result=0.5) == 1


def test_a_step_that_comes_again_keeps_its_first_value(tmp_path):
    search = search_with(tmp_path, {"kind": "median", "startup": 1})
    number = search.ask().number
    for step, value in [(0, 0.1), (1, 0.2), (0, 0.9), (1, 0.9), (3, 0.4), (2, 0.3)]:
        search.report(number, step, value)
    assert search.rows()[number].reports == {0: 0.1, 1: 0.2, 3: 0.4, 2: 0.3}
    assert Search(tmp_path, search._sweep).rows()[number].reports == {0: 0.1, 1: 0.2, 3: 0.4, 2: 0.3}


def test_a_resumed_worker_that_repeats_its_steps_is_judged_as_before(tmp_path):
    search = search_with(tmp_path, {"kind": "successive_halving", "resource": 1, "reduction": 2})
    for scale in (1.0, 1.1, 1.2):
        trial_with(search, [value * scale for value in GOOD])
    lines = (tmp_path / "study.journal").read_text().count("\n")
    number = search.ask().number
    first = [search.report(number, step, value * 1.3) for step, value in enumerate(GOOD)]
    written = (tmp_path / "study.journal").read_text().count("\n")
    assert written > lines + 10  # the reports, and the rungs
    second = [Search(tmp_path, search._sweep).report(number, step, 0.0) for step in range(10)]
    assert first == second == [False] * 10
    assert (tmp_path / "study.journal").read_text().count("\n") == written


@pytest.mark.parametrize("kind", ["median", "successive_halving", "hyperband"])
def test_a_restart_between_reports_changes_no_verdict(tmp_path, kind):
    def verdicts(folder, restarts):
        pruner = {"kind": kind, **({"reduction": 2} if kind != "median" else {"startup": 2}), **ACCURACY}
        sweep = sweep_of(MIXED, sampler={"kind": "tpe", "startup": 3}, pruner=pruner)
        search = Search(folder, sweep)
        seen = []
        for trial in range(14):
            search = Search(folder, sweep) if restarts else search
            number = search.ask().number
            for step in range(8):
                search = Search(folder, sweep) if restarts else search
                prune = search.report(number, step, step * (1 + (trial * 5) % 7))
                seen.append((number, step, prune))
                if prune:
                    search.tell(number, None, "pruned")
                    break
            else:
                search.tell(number, [float(trial)])
        return seen, [row.values for row in search.rows()]

    expected = verdicts(tmp_path / "going", restarts=False)
    assert any(prune for _, _, prune in expected[0])
    assert verdicts(tmp_path / "restarted", restarts=True) == expected
