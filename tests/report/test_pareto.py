"""The front, against its definition, and the plots of it."""

import random
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.recorded import workspace_at
from tests.recorded_sweeps import recorded_sweep
from tokexp.ledger.workspace import Workspace
from tokexp.report.drawing import label_points, panels
from tokexp.report.front import non_dominated
from tokexp.report.pareto import pareto_figure
from tokexp.report.trials import sweep_result

DIRECTIONS = st.lists(st.sampled_from(["maximize", "minimize"]), min_size=1, max_size=3)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return workspace_at(tmp_path)


def _by_definition(points: dict[int, list[float]], directions: list[str]) -> list[int]:
    def as_good(a: float, b: float, direction: str) -> bool:
        return a >= b if direction == "maximize" else a <= b

    def dominates(a: list[float], b: list[float]) -> bool:
        return a != b and all(map(as_good, a, b, directions))

    return [name for name, own in points.items() if not any(dominates(other, own) for other in points.values())]


@given(DIRECTIONS.flatmap(lambda d: st.tuples(
    st.just(d),
    st.dictionaries(st.integers(0, 50), st.lists(st.integers(0, 4).map(float), min_size=len(d), max_size=len(d))),
)), st.randoms(use_true_random=False))  # fmt: skip
def test_the_front_is_what_its_definition_says_in_any_order(
    drawn: tuple[list[str], dict[int, list[float]]], draw: random.Random
) -> None:
    directions, points = drawn
    found = non_dominated(points, directions)
    assert found == _by_definition(points, directions)
    items = list(points.items())
    draw.shuffle(items)
    assert set(non_dominated(dict(items), directions)) == set(found)


def test_one_value_has_its_best_and_all_equals_as_front() -> None:
    points = {"a": (0.5,), "b": (0.9,), "c": (0.9,)}
    assert non_dominated(points, ["maximize"]) == ["b", "c"]
    assert non_dominated(points, ["minimize"]) == ["a"]
    assert non_dominated({}, ["minimize"]) == []


def test_the_plot_names_its_points_and_tells_its_content(workspace: Workspace) -> None:
    cases = {"SeiT": {0: 0.7, 1: 0.72}, "small & <good>": {0: 0.75, 1: 0.76}, "failed": {0: "failed", 1: "failed"}}
    sweep = recorded_sweep(workspace, cases, baseline="SeiT", sizes={"SeiT": 16.0, "small & <good>": 8.0}, gpus=1)
    figure = pareto_figure(sweep_result(workspace, sweep))
    assert 'role="img" aria-label="finetune/top1 of 2 cases against bytes per image' in figure
    assert "<title>SeiT: 71.00 % \u00b1 12.71 (n=2) at 16</title>" in figure
    assert "small &amp; &lt;good&gt;" in figure
    assert "<good>" not in figure
    assert "GPU hours per trial" in figure


def test_costs_that_do_not_differ_are_not_drawn(workspace: Workspace) -> None:
    result = sweep_result(workspace, recorded_sweep(workspace, {"a": {0: 0.7}, "b": {0: 0.8}}))
    assert pareto_figure(result) == ""


@pytest.mark.parametrize("cases", [{}, {"a": {0: 0.5}}, {"a": {0: "failed"}, "b": {0: "planned"}}])
def test_too_little_for_a_plot_is_no_plot(workspace: Workspace, cases) -> None:  # type: ignore[no-untyped-def]
    assert pareto_figure(sweep_result(workspace, recorded_sweep(workspace, cases))) == ""


def test_ids_of_two_figures_do_not_meet(workspace: Workspace) -> None:
    cases = {"a": {0: 0.7}, "b": {0: 0.8}}
    first = recorded_sweep(workspace, cases, sizes={"a": 1.0, "b": 2.0})
    one = pareto_figure(sweep_result(workspace, first))
    second = workspace_at(workspace.root / "second")
    two = pareto_figure(sweep_result(second, recorded_sweep(second, cases, sizes={"a": 3.0, "b": 9.0})))
    ids = [set(re.findall(r' id="([^"]+)"', figure)) for figure in (one, two)]
    assert ids[0]
    assert not ids[0] & ids[1]
    for figure, own in zip((one, two), ids, strict=True):
        assert set(re.findall(r'(?:href="#|url\(#)([^")]+)', figure)) <= own


def test_labels_keep_clear_of_one_another_and_of_the_edge() -> None:
    with panels(1, 1) as (figure, (axis,)):
        points = [(0.5, 0.5)] * 40 + [(0.99, 0.99)]
        axis.set_xlim(0, 1)
        axis.set_ylim(0, 1)
        placed = label_points(axis, points, [f"point {number}" for number in range(40)] + ["at the corner"])
        figure.canvas.draw()
        boxes = [text.get_window_extent() for text in axis.texts]
    assert 1 < placed < 40
    assert len(boxes) == placed
    room = axis.get_window_extent()
    assert all(room.x0 <= box.x0 and box.x1 <= room.x1 for box in boxes)
    assert not any(one.overlaps(other) for place, one in enumerate(boxes) for other in boxes[:place])
