"""The names that the language knows for stages and metrics are those that plans and results have."""

from pathlib import Path

import pytest

from tests.spec.specs import GOOD, read
from tokexp.plan.graph import build_plan
from tokexp.spec.check_names import metric_stages, stage_names
from tokexp.spec.experiment import Experiment

PIXELS = """\
schema: 1
data: {kind: digits}
model: {kind: vit, width: 32, depth: 1, heads: 2, input: pixels, stem: {kind: patchify, patch_size: 4}}
tasks: {a: {kind: classify}}
evaluate: {blurred: {kind: corruption, name: gaussian_blur, severity: 1}}
"""


@pytest.mark.parametrize(
    "text",
    [GOOD, PIXELS, GOOD.replace("token_adapt, geometry: {translate: 0.15, rotate: 10, rrc: [0.7, 1.0]}", "token_rrc")],
    ids=["good", "pixels", "no adapt"],
)  # fmt: skip
def test_every_stage_of_a_plan_has_a_known_name_and_no_other_is_known(tmp_path: Path, text: str) -> None:
    experiment: Experiment = read(tmp_path, text).experiment
    planned = next(iter(build_plan(experiment).seeds.values()))
    assert set(planned) - set(stage_names(experiment)) <= {f"{task}/clean" for task in experiment.tasks}
    assert set(stage_names(experiment)) <= set(planned)


def test_metrics_go_by_storage_for_tokens_and_by_the_task_for_clean_images(tmp_path: Path) -> None:
    experiment = read(tmp_path).experiment
    assert metric_stages(experiment) == [
        "tokenizer", "storage", "adapt", "pretrain", "finetune", "probe", "finetune/noise", "probe/noise",
    ]  # fmt: skip
