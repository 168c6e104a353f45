"""What a sweep will take: every stage once, as it is estimated in the experiment that needs it."""

from pathlib import Path

from tests.spec.sweeps import sweep
from tokexp.data.listing import image_counts
from tokexp.plan.estimate import estimate_plan
from tokexp.plan.graph import build_plan
from tokexp.plan.sweep import build_sweep_plan
from tokexp.plan.sweep_estimate import estimate_sweep


def test_a_stage_is_estimated_as_in_its_own_experiment(tmp_path: Path) -> None:
    plan = build_sweep_plan(
        sweep(tmp_path, "grid: {tokenizer.codebook_size: [8, 256], storage.fraction: [0.25, 1.0]}\n")
    )
    found = estimate_sweep(plan, lambda data: image_counts(data))
    assert set(found) == plan.plan.keys()
    for trial in plan.trials:
        experiment = trial.point.experiment
        alone = estimate_plan(build_plan(experiment), image_counts(experiment.data))
        own = {key: found[key] for name, key in trial.keys.items() if name not in ("tokenizer", "probe/clean")}
        assert own == {key: alone[key] for key in own}


def test_earlier_attempts_are_asked_for_once_for_each_kind(tmp_path: Path) -> None:
    plan = build_sweep_plan(sweep(tmp_path, "grid: {tokenizer.seed: [0, 1, 2]}\n"))
    asked: list[str] = []

    def durations(kind: str) -> list[tuple[float | None, float]]:
        asked.append(kind)
        return [(1e9, 1.0)]

    estimate_sweep(plan, lambda _: {"train": 100, "test": 50}, durations)
    assert sorted(asked) == sorted({node.kind for node in plan.plan.nodes})
