"""Each word for a sampler gives Optuna's sampler with what was written."""

import importlib

import optuna
import pytest

from tests.search.sweeps import BYTES, CONDITIONAL, MIXED, NUMBERS, TOP1, run, score, sweep_of
from tokexp.errors import InputError
from tokexp.search.samplers import build_sampler, trial_seed
from tokexp.search.space import Space
from tokexp.search.study import Search

KINDS = ["random", "tpe", "cmaes", "nsga2", "nsga3", "gp", "qmc"]


@pytest.mark.parametrize("kind", KINDS)
def test_each_sampler_searches_a_conditional_space(tmp_path, kind):
    search = Search(tmp_path, sweep_of(CONDITIONAL, sampler={"kind": kind}))
    for asked in run(search, 14):
        assert ("codec.level" in asked.values) == (asked.values["codec.kind"] == "rans")


@pytest.mark.parametrize("kind", ["tpe", "cmaes", "gp"])
def test_a_sampler_that_learns_finds_better_points_than_chance(tmp_path, kind):
    def far(values):
        return [-((values["x"] - 1) ** 2) - (values["y"] + 2) ** 2]

    learned, drawn = (
        max(far(asked.values)[0] for asked in run(Search(tmp_path / each, sweep), 40, far)[20:])
        for each in (kind, "random")
        for sweep in [sweep_of(NUMBERS, sampler={"kind": each})]
    )
    assert learned > drawn


@pytest.mark.parametrize(
    "sampler", [{"kind": "tpe", "startup": 8}, {"kind": "nsga2", "population": 8}, {"kind": "gp", "startup": 8}],
    ids=lambda sampler: sampler["kind"],
)  # fmt: skip
def test_a_constraint_is_honoured(tmp_path, sampler):
    """The better points are forbidden ones: a sampler that does not know that would ask for them."""
    count = 20 if sampler["kind"] == "gp" else 40

    def feasible(constrained):
        bound = {"metric": "storage/bytes_per_image", "at_most": 1.0}
        fields = {"constraints": [bound]} if constrained else {}
        search = Search(tmp_path / str(constrained), sweep_of(NUMBERS, sampler=sampler, **fields))
        asked = []
        for _ in range(count):
            asked.append(search.ask())
            x, y = asked[-1].values["x"], asked[-1].values["y"]
            search.tell(asked[-1].number, [x - abs(y)], constraints=[x + 2] if constrained else ())
        if constrained:
            best = search.told()[search.best()[0]]
            assert best.params["x"] <= -2
        return sum(point.values["x"] <= -2 for point in asked[count // 2 :])

    assert feasible(constrained=True) > 2 * feasible(constrained=False)


def test_seeds_of_trials_differ_and_stay():
    seeds = {trial_seed(seed, number) for seed in range(20) for number in range(500)}
    assert len(seeds) == 20 * 500
    assert trial_seed(0, 0) == trial_seed(0, 0)
    assert all(0 <= seed < 2**32 for seed in seeds)


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(importlib.import_module("sys").modules, "torch", None)
    sweep = sweep_of(NUMBERS, sampler={"kind": "gp"})
    monkeypatch.setattr(optuna.samplers, "GPSampler", lambda **_: importlib.import_module("torch"))
    with pytest.raises(InputError, match="the sampler gp needs the package torch"):
        build_sampler(sweep, Space(sweep), 0)


def test_a_known_space_changes_no_suggestion():
    """Against Optuna's own sampler, which finds the space by comparing all trials."""
    for kind, options in (("tpe", {"startup": 3}), ("cmaes", {"population": 4}), ("nsga2", {"population": 4})):
        sweep = sweep_of(MIXED, sampler={"kind": kind, **options})
        space = Space(sweep)
        points = []
        for own in (False, True):
            study = optuna.create_study(direction="maximize")
            for number in range(15):
                sampler = build_sampler(sweep, space, number)
                study.sampler = sampler._inner if own else sampler
                trial = study.ask()
                points.append(space.suggest(trial))
                study.tell(trial, score(space.written(points[-1])[1]))
        assert points[:15] == points[15:]


@pytest.mark.parametrize("kind", ["tpe", "nsga2", "nsga3", "gp"])
def test_several_metrics_are_searched_towards_a_front(tmp_path, kind):
    """Every point with x between 0 and 2, a fifth of the space, is on the front."""
    first = {"startup": 8} if kind in ("tpe", "gp") else {"population": 8}
    search = Search(tmp_path, sweep_of(NUMBERS, metrics=[TOP1, BYTES], sampler={"kind": kind, **first}))
    asked = run(search, 24 if kind == "gp" else 60, lambda values: [-abs(values["x"]), abs(values["x"] - 2)])
    late = asked[len(asked) // 2 :]
    assert sum(0 <= point.values["x"] <= 2 for point in late) > 0.3 * len(late)
