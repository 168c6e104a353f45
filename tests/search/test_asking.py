"""What a search hands out, and what it makes of the answers."""

import optuna
import pytest

from tests.search.sweeps import BYTES, CONDITIONAL, MIXED, NUMBERS, TOP1, run, score, sweep_of
from tokexp.errors import InputError
from tokexp.search import study as study_module
from tokexp.search.space import Space, canonical
from tokexp.search.study import Search
from tokexp.search.trials import violations_of

SIX = {"a": {"choice": ["x", "y"]}, "b": {"int": [1, 3]}}


def test_a_point_is_asked_for_told_and_known(tmp_path):
    search = Search(tmp_path, sweep_of(MIXED))
    first, second = search.ask(), search.ask()
    assert (first.number, second.number) == (0, 1)
    assert first.case is None
    assert list(first.values) == list(MIXED)
    assert search.running() == {0: first, 1: second}
    search.tell(0, [0.5])
    search.tell(1, None, "failed")
    assert search.running() == {}
    told = search.told()
    assert told[0] == study_module.Told("complete", (0.5,), first.values)
    assert (told[1].state, told[1].values) == ("failed", None)
    assert search.best() == [0]


def test_telling_twice_changes_nothing(tmp_path):
    search = Search(tmp_path, sweep_of(NUMBERS, pruner={"kind": "median"}))
    search.ask()
    search.tell(0, [0.5])
    search.tell(0, [0.9])
    search.tell(0, None, "failed")
    search.reject(0, "late")
    search.describe(0, {"trial": "late"})
    assert search.report(0, 1, 0.1) is False
    assert search.told()[0].values == (0.5,)
    assert search.rows()[0].reports == {}


def test_a_complete_trial_without_a_number_has_failed(tmp_path):
    search = Search(tmp_path, sweep_of(NUMBERS))
    search.ask()
    search.ask()
    search.tell(0, [float("nan")])
    search.tell(1, None)
    assert [each.state for each in search.told().values()] == ["failed", "failed"]
    assert search.best() == []


def test_a_pruned_trial_has_no_value_and_is_never_the_best(tmp_path):
    search = Search(tmp_path, sweep_of(NUMBERS, pruner={"kind": "median", "metric": "val_top1"}))
    search.ask()
    search.report(0, 0, 0.9)
    search.tell(0, None, "pruned")
    assert search.told()[0].state == "pruned"
    assert search.told()[0].values is None
    assert search.report(0, 1, 0.9) is True
    assert search.best() == []


def test_an_unknown_trial_is_refused(tmp_path):
    search = Search(tmp_path, sweep_of(NUMBERS))
    with pytest.raises(InputError, match="has no trial 3"):
        search.tell(3, [1.0])


def test_cases_are_one_more_dimension(tmp_path):
    search = Search(tmp_path, sweep_of({"x": {"int": [1, 2]}}, sampler={"kind": "random"}), ["SeiT", "both"])
    asked = []
    while (point := search.ask()) is not None:
        asked.append(point)
    assert {(point.case, point.values["x"]) for point in asked} == {
        ("SeiT", 1), ("SeiT", 2), ("both", 1), ("both", 2),
    }  # fmt: skip
    assert all(list(point.values) == ["x"] for point in asked)


def test_a_rejected_point_is_not_counted_and_never_comes_again(tmp_path):
    search = Search(tmp_path, sweep_of(SIX, sampler={"kind": "random"}))
    rejected = search.ask()
    search.reject(rejected.number, "excluded: a x")
    seen = set()
    while (asked := search.ask()) is not None:
        assert asked.values != rejected.values
        if asked.same_as is None:
            seen.add(canonical(asked.values))
        search.tell(asked.number, [1.0])
    assert len(seen) == 5
    row = search.rows()[rejected.number]
    assert (row.state, row.rejected) == ("failed", "excluded: a x")


def test_a_duplicate_names_the_earlier_trial_running_or_ended(tmp_path):
    search = Search(tmp_path, sweep_of({"a": {"choice": [[1], [2]]}}, sampler={"kind": "random"}))
    asked = []
    while (point := search.ask()) is not None:
        asked.append(point)
    firsts = {}
    for point in asked:
        assert point.same_as == firsts.get(canonical(point.values))
        firsts.setdefault(canonical(point.values), point.number)
    assert len(firsts) == 2


def test_all_points_of_a_finite_space_are_tried_and_then_nothing_is_left(tmp_path):
    search = Search(tmp_path, sweep_of(SIX, sampler={"kind": "random"}))
    points = set()
    while (asked := search.ask()) is not None:
        points.add(canonical(asked.values))
        search.tell(asked.number, [1.0])
    assert len(points) == 6
    assert search.ask() is None
    assert Search(tmp_path, sweep_of(SIX, sampler={"kind": "random"})).ask() is None


@pytest.mark.parametrize("kind", ["random", "nsga2", "cmaes", "gp"])
def test_a_sampler_that_repeats_itself_is_given_what_it_left_out_also_over_restarts(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(study_module, "MOST_REPEATS", 2)
    space = {"a": {"int": [1, 3]}, "b": {"int": [1, 4]}}
    sweep = sweep_of(space, sampler={"kind": kind})

    def all_asked(folder, restarts):
        search, found = Search(folder, sweep), []
        while (asked := search.ask()) is not None:
            found.append((asked.same_as is None, canonical(asked.values)))
            search.tell(asked.number, [-asked.values["a"]])
            search = Search(folder, sweep) if restarts else search
        return found

    found = all_asked(tmp_path / "one", restarts=False)
    assert len({values for _, values in found}) == 12
    news = [new for new, _ in found]
    assert all(any(news[place : place + 3]) for place in range(len(news) - 2))
    assert all_asked(tmp_path / "two", restarts=True) == found


def test_a_hundred_duplicates_in_a_row_end_a_space_that_is_too_large_to_count(tmp_path, monkeypatch):
    monkeypatch.setattr(study_module, "MOST_COUNTED", 0)
    search = Search(tmp_path, sweep_of({"a": {"choice": [1, 2]}}, sampler={"kind": "random"}))
    asked = []
    while (point := search.ask()) is not None:
        asked.append(point)
        search.tell(point.number, [1.0])
    assert [point.same_as is not None for point in asked[-101:]] == [False] + [True] * 100
    assert Search(tmp_path, sweep_of({"a": {"choice": [1, 2]}}, sampler={"kind": "random"})).ask() is None


def test_a_space_of_which_everything_is_rejected_ends(tmp_path, monkeypatch):
    monkeypatch.setattr(study_module, "MOST_REJECTED", 20)
    search = Search(tmp_path, sweep_of(NUMBERS, sampler={"kind": "random"}))
    count = 0
    while (asked := search.ask()) is not None:
        search.reject(asked.number, "excluded")
        count += 1
    assert count == 20


@pytest.mark.parametrize("space", [SIX, {**CONDITIONAL, "train.lr": {"float": [0.1, 0.3], "step": 0.1}}])
def test_a_grid_is_every_point_exactly_once_also_over_restarts(tmp_path, space):
    sweep = sweep_of(space, sampler={"kind": "grid"})
    expected = [canonical(Space(sweep).written(cell)[1]) for cell in Space(sweep).cells()]
    found = []
    while (asked := Search(tmp_path / "grid", sweep).ask()) is not None:
        assert asked.same_as is None
        found.append(canonical(asked.values))
        if asked.number % 2:
            Search(tmp_path / "grid", sweep).tell(asked.number, [1.0])
        elif asked.number % 4:
            Search(tmp_path / "grid", sweep).reject(asked.number, "excluded")
    assert found == expected
    assert len(set(found)) == len(found)


def test_what_a_sampler_or_pruner_cannot_do_is_said(tmp_path):
    with pytest.raises(InputError, match="cmaes searches for one metric"):
        Search(tmp_path, sweep_of(NUMBERS, metrics=[TOP1, BYTES], sampler={"kind": "cmaes"}))
    with pytest.raises(InputError, match="several metrics cannot prune"):
        Search(tmp_path, sweep_of(NUMBERS, metrics=[TOP1, BYTES], pruner={"kind": "median"}))
    assert not any(tmp_path.iterdir())


def test_a_study_of_another_space_or_metric_is_refused(tmp_path):
    run(Search(tmp_path, sweep_of(MIXED)), 1)
    for other in (
        sweep_of(NUMBERS),
        sweep_of(MIXED, metrics=[BYTES]),
        sweep_of(MIXED, metrics=[{**TOP1, "direction": "minimize"}]),
    ):
        with pytest.raises(InputError, match="was made for another space or other metrics"):
            Search(tmp_path, other)
    Search(tmp_path, sweep_of(MIXED, sampler={"kind": "random"}, budget={"trials": 99}))


def test_opening_and_looking_writes_nothing(tmp_path):
    run(Search(tmp_path, sweep_of(NUMBERS)), 3)
    content = (tmp_path / "study.journal").read_bytes()
    search = Search(tmp_path, sweep_of(NUMBERS))
    search.running(), search.told(), search.best(), search.importances()
    assert (tmp_path / "study.journal").read_bytes() == content


def test_a_trial_that_another_program_added_is_refused(tmp_path):
    search = Search(tmp_path, sweep_of(NUMBERS))
    run(search, 2)
    study = opened(tmp_path)
    study.enqueue_trial({"x": 1.0, "y": 1.0})
    with pytest.raises(InputError, match="another program writes to the study"):
        search.ask()
    with pytest.raises(InputError, match="trial 2 of the study 'search' was not made by tokexp"):
        Search(tmp_path, sweep_of(NUMBERS))


def opened(folder):
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    storage = JournalStorage(JournalFileBackend(str(folder / "study.journal")))
    return optuna.load_study(study_name="search", storage=storage)


def test_optunas_tools_open_the_study(tmp_path):
    constraint = {"metric": "storage/bytes_per_image", "at_most": 100.0}
    search = Search(tmp_path, sweep_of(CONDITIONAL, metrics=[TOP1, BYTES], constraints=[constraint]), ["SeiT", "both"])
    asked = search.ask()
    search.describe(asked.number, {"trial": "0123456789-s0"})
    search.tell(asked.number, [0.5, 90.0], constraints=[-10.0], attributes={"finetune/top5": 0.9})
    search.ask()
    study = opened(tmp_path)
    assert [direction.name for direction in study.directions] == ["MAXIMIZE", "MINIMIZE"]
    assert study.metric_names == ["finetune/top1", "storage/bytes_per_image"]
    first, second = study.trials
    assert first.state.name == "COMPLETE"
    assert first.values == [0.5, 90.0]
    assert first.params["case"] == asked.case
    assert first.params["codec.kind"] == asked.values["codec.kind"]
    assert first.user_attrs == {"trial": "0123456789-s0", "finetune/top5": 0.9}
    assert violations_of(first) == (-10.0,)
    assert second.state.name == "RUNNING"
    assert [trial.number for trial in study.best_trials] == [0]


def test_nothing_is_said_on_the_terminal(tmp_path, capfd, recwarn):
    sweep = sweep_of(
        CONDITIONAL, sampler={"kind": "tpe", "startup": 2}, pruner={"kind": "patience", "then": {"kind": "hyperband"}}
    )
    search = Search(tmp_path, sweep)
    for _ in range(6):
        asked = search.ask()
        search.report(asked.number, 0, 0.1)
        search.report(asked.number, 0, 0.1)
        search.tell(asked.number, [score(asked.values)])
    search.importances()
    Search(tmp_path, sweep_of(CONDITIONAL, sampler={"kind": "cmaes"}, pruner=sweep.pruner.model_dump(by_alias=True)))
    assert capfd.readouterr() == ("", "")
    assert not list(recwarn)
