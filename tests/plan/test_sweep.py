"""Points and trials of sweeps: what they are, what they share, and that the order of writing changes nothing."""

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.spec.specs import GOOD, write
from tests.spec.sweeps import HEAD, sweep
from tokexp.data import listing
from tokexp.errors import DataError, InputError, SpecError
from tokexp.plan.graph import build_plan
from tokexp.plan.sweep import Point, build_sweep_plan, example_point, expand, plan_points, point_of
from tokexp.spec.data import DigitsData
from tokexp.spec.sweep_reading import read_sweep, thaw

PATHS: Mapping[str, list[Any]] = {
    "tokenizer.codebook_size": [8, 16, 64],
    "objective.train.lr": [0.0015, 1, 1.0],
    "tokenizer.seed": [0, 1],
    "tasks.probe.lrs": [[0.1], [0.01, 0.1, 1.0]],
    "storage.fraction": [None, 0.5],
}

grids = st.lists(st.sampled_from(sorted(PATHS)), min_size=1, max_size=3, unique=True).flatmap(
    lambda paths: st.fixed_dictionaries(
        {path: st.lists(st.sampled_from(PATHS[path]), min_size=1, max_size=3) for path in paths}
    )
)


def ids(points: list[Point]) -> list[str]:
    return [point.id for point in points]


def expanded(folder: Path, document: Mapping[str, Any]) -> list[Point]:
    folder.mkdir(exist_ok=True)
    write(folder)
    return expand(read_sweep(write(folder, HEAD + yaml.safe_dump(dict(document), sort_keys=False), "sweep.yaml")))


def shuffled(grid: Mapping[str, list[Any]], seed: int) -> dict[str, list[Any]]:
    drawn = random.Random(seed)
    paths = drawn.sample(list(grid), len(grid))
    return {path: drawn.sample(grid[path], len(grid[path])) for path in paths}


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(grid=grids, seed=st.integers(0, 1000))
def test_the_same_grid_in_another_order_has_the_same_points(
    tmp_path: Path, grid: dict[str, list[Any]], seed: int
) -> None:
    one, other = (expanded(tmp_path / "s", {"grid": each}) for each in (grid, shuffled(grid, seed)))
    assert set(ids(one)) == set(ids(other))
    assert len(set(ids(one))) == len(one)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(grid=grids)
def test_a_grid_is_its_cases_written_out(tmp_path: Path, grid: dict[str, list[Any]]) -> None:
    points = expanded(tmp_path / "s", {"grid": grid})
    written = {f"case {number}": dict(point.values) for number, point in enumerate(points)}
    assert ids(expanded(tmp_path / "s", {"cases": written})) == ids(points)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(grid=grids, data=st.data())
def test_exclude_takes_out_exactly_what_it_names(
    tmp_path: Path, grid: dict[str, list[Any]], data: st.DataObject
) -> None:
    path = data.draw(st.sampled_from(sorted(grid)))
    value = data.draw(st.sampled_from(grid[path]))
    condition = {"one_of": [value]}
    every = expanded(tmp_path / "s", {"grid": grid})
    left = [point for point in every if point.values[path] != value]
    if not left:
        with pytest.raises(SpecError, match="every point is excluded"):
            expanded(tmp_path / "s", {"grid": grid, "exclude": [{path: condition}]})
        return
    found = expanded(tmp_path / "s", {"grid": grid, "exclude": [{path: condition}]})
    assert set(ids(found)) == set(ids(left))


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(grid=grids)
def test_a_point_is_the_experiment_with_its_values_set(tmp_path: Path, grid: dict[str, list[Any]]) -> None:
    read = sweep(tmp_path, yaml.safe_dump({"grid": grid, "seeds": [3]}))
    for point in expand(read):
        assert point.experiment == read.document.read(values={**point.values, "seeds": [3]}).experiment


def test_equal_points_are_one_and_the_first_name_wins(tmp_path: Path) -> None:
    points = expand(
        sweep(
            tmp_path,
            "cases:\n  a: {}\n  b: {tokenizer.codebook_size: 64}\n  c: {objective.train.lr: 1}\n"
            "  d: {resources.default.cpus: 1}\n  e: {objective.train: {lr: 1.0, epochs: 60, batch_size: 256}}\n",
        )
    )
    assert [(point.case, point.also) for point in points] == [("a", ("b", "d")), ("c", ("e",))]
    assert points[0].values == {}


def test_a_sweep_without_values_is_its_experiment(tmp_path: Path) -> None:
    [point] = expand(sweep(tmp_path, "seeds: [4]\n"))
    assert (point.case, point.values, point.experiment.seeds) == ("good", {}, (4,))


def test_a_point_id_depends_on_results_alone(tmp_path: Path) -> None:
    def only(text: str, name: str = "spec.yaml") -> str:
        [point] = expand(sweep(tmp_path, text, head=f"schema: 1\nexperiment: {name}\n"))
        return point.id

    first = only("seeds: [0]\n")
    assert only("name: other\nseeds: [5, 6]\nset: {resources.default.time: 5 min, track.uri: 'http://x'}\n") == first
    write(tmp_path, GOOD.replace("name: good", "name: renamed"), "renamed.yaml")
    assert only("seeds: [0]\n", "renamed.yaml") == first
    assert only("set: {evaluate.noise.severity: 1}\n") != first


def test_trials_are_points_for_seeds_and_share_stages(tmp_path: Path) -> None:
    read = sweep(
        tmp_path, "grid: {objective.train.lr: [0.1, 0.2], tasks.finetune.train.lr: [0.1, 0.2]}\nseeds: [0, 1]\n"
    )
    found = build_sweep_plan(read)
    assert len(found.trials) == 8
    assert len({trial.id for trial in found.trials}) == 8
    assert all(trial.id == f"{trial.point.id[:10]}-s{trial.seed}" for trial in found.trials)
    counts = {kind: sum(node.kind == kind for node in found.plan.nodes) for kind in ("tokenizer", "tokens", "pretrain")}
    assert counts == {"tokenizer": 1, "tokens": 1, "pretrain": 4}
    finetuned = {trial.keys["finetune"] for trial in found.trials}
    assert len(finetuned) == 8
    assert len({trial.keys["probe"] for trial in found.trials}) == 4
    keys = {node.key for node in found.plan.nodes}
    assert all(set(trial.keys.values()) <= keys for trial in found.trials)


def test_every_input_comes_before_what_needs_it(tmp_path: Path) -> None:
    nodes = build_sweep_plan(
        sweep(tmp_path, "grid: {tokenizer.seed: [0, 1], objective.train.lr: [0.1, 0.2]}\n")
    ).plan.nodes
    seen: set[str] = set()
    for node in nodes:
        assert set(node.inputs.values()) <= seen
        seen.add(node.key)


def test_a_trials_stages_are_those_of_its_experiment_alone(tmp_path: Path) -> None:
    found = build_sweep_plan(sweep(tmp_path, "grid: {tokenizer.codebook_size: [8, 16]}\n"))
    for trial in found.trials:
        assert build_plan(trial.point.experiment).seeds[trial.seed] == trial.keys


def test_a_plan_is_the_same_in_any_order_and_after_freezing(tmp_path: Path) -> None:
    one = sweep(tmp_path, "grid: {tokenizer.codebook_size: [8, 16], tokenizer.seed: [0, 1]}\n")
    first = build_sweep_plan(one)
    other = build_sweep_plan(sweep(tmp_path, "grid: {tokenizer.seed: [1, 0], tokenizer.codebook_size: [16, 8]}\n"))
    again = build_sweep_plan(thaw(one.freeze()))
    assert first.spec_hash == other.spec_hash == again.spec_hash
    assert {trial.id: dict(trial.keys) for trial in first.trials} == {
        trial.id: dict(trial.keys) for trial in other.trials
    }
    assert [trial.id for trial in again.trials] == [trial.id for trial in first.trials]


def test_the_data_is_looked_at_once_for_all_points(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    def count(spec: DigitsData, *, strict: bool = True) -> str:
        asked.append(spec)
        return listing.fingerprint(spec, strict=strict)

    monkeypatch.setattr("tokexp.plan.sweep.data_fingerprint", count)
    build_sweep_plan(sweep(tmp_path, "grid: {tokenizer.seed: [0, 1, 2], data.test_fraction: [0.2, 0.3]}\n"))
    assert len(asked) == 2


def test_missing_data_is_an_error_or_absent(tmp_path: Path) -> None:
    text = f"cases: {{a: {{data: {{kind: image_folder, root: {tmp_path}/no, image_size: 8}}}}}}\n"
    read = sweep(tmp_path, text)
    with pytest.raises(DataError):
        build_sweep_plan(read)
    assert {node.fingerprint for node in build_sweep_plan(read, strict=False).plan.nodes} == {None, listing.ABSENT}


SEARCH = """\
cases: {a: {}, b: {tokenizer.seed: 1}}
space:
  storage.fraction: {float: [0.1, 1.0], when: {tokenizer.codebook_size: [8, 600]}}
  tokenizer.codebook_size: {choice: [600, 8]}
  storage.codec.kind: {choice: [seit, packed], when: {case: a}}
budget: {trials: 6}
"""


def test_a_searched_sweep_has_no_plan_before_it_is_asked(tmp_path: Path) -> None:
    read = sweep(tmp_path, SEARCH)
    assert build_sweep_plan(read).trials == ()
    assert [point.case for point in expand(read)] == ["a", "b"]


def test_a_searched_point_lays_its_values_over_its_case(tmp_path: Path) -> None:
    read = sweep(tmp_path, SEARCH)
    point = point_of(read, "b", {"tokenizer.codebook_size": 8})
    assert point.values == {"tokenizer.seed": 1, "tokenizer.codebook_size": 8}
    assert point.id == point_of(read, "", {"tokenizer.codebook_size": 8, "tokenizer.seed": 1}).id
    assert len(plan_points("s", [point]).trials) == 2
    with pytest.raises(SpecError, match="600 codes"):
        point_of(read, "a", {"tokenizer.codebook_size": 600, "storage.codec.kind": "seit"})


def test_the_example_of_a_search_is_a_valid_point_with_all_that_exists_in_it(tmp_path: Path) -> None:
    point = example_point(sweep(tmp_path, SEARCH))
    assert point.case == "a"
    assert point.values == {"tokenizer.codebook_size": 600, "storage.fraction": 0.1, "storage.codec.kind": "packed"}


def test_an_excluded_point_is_no_example(tmp_path: Path) -> None:
    text = SEARCH + "exclude: [{case: a, tokenizer.codebook_size: 600}]\n"
    assert example_point(sweep(tmp_path, text)).values["tokenizer.codebook_size"] == 8
    text = SEARCH + "exclude: [{storage.codec.kind: [seit, packed]}]\n"
    with pytest.raises(InputError, match="exclude leaves out every point"):
        example_point(sweep(tmp_path, text))
