"""Policies, batches and resources that cannot work."""

from pathlib import Path

import pytest

from tests.spec.specs import problems_of
from tokexp.spec.check_training import parts_needed
from tokexp.spec.experiment import Experiment

_TOKENS = "schema: 1\ndata: {kind: digits}\ntokenizer: {kind: patch_kmeans}\n"
_TASKS = "tasks: {a: {kind: classify}}\n"
_PIXELS = "schema: 1\ndata: {kind: digits}\nmodel: {kind: vit, input: pixels, stem: {kind: patchify, patch_size: 4}}\n"
_RELEASE = "schema: 1\ndata: {kind: seit_release, root: r}\n"


def _problems(folder: Path, text: str) -> list[tuple[str, str]]:
    return [(problem.path, problem.message) for problem in problems_of(folder, text)]


@pytest.mark.parametrize("kind", ["token_rrc", "token_crop", "token_eda", "emb_noise", "color_adapt", "token_adapt"])
def test_a_token_step_is_refused_on_pixels(tmp_path: Path, kind: str) -> None:
    found = _problems(tmp_path, _PIXELS + _TASKS + f"augment: {{task: [{{sometimes: 0.5, do: [{{kind: {kind}}}]}}]}}\n")
    assert [path for path, _ in found] == ["augment.task.0.do.0"]
    assert "this model reads pixels" in found[0][1]


@pytest.mark.parametrize("kind", ["pixel_rrc", "pixel_flip"])
def test_a_pixel_step_is_refused_on_tokens(tmp_path: Path, kind: str) -> None:
    text = _TOKENS + _TASKS + f"augment: {{task: [{{one_of: [{{kind: emb_noise}}, {{kind: {kind}}}]}}]}}\n"
    found = _problems(tmp_path, text)
    assert [path for path, _ in found] == ["augment.task.0.one_of.1"]
    assert "this model reads tokens" in found[0][1]


@pytest.mark.parametrize("head", [_PIXELS, _TOKENS])
def test_mixing_is_allowed_on_both(tmp_path: Path, head: str) -> None:
    assert _problems(tmp_path, head + _TASKS + "augment: [{kind: mixup}, {kind: token_cutmix}]\n") == []


def test_token_adapt_is_refused_where_there_are_no_pixels_to_train_it_on(tmp_path: Path) -> None:
    found = _problems(tmp_path, _RELEASE + _TASKS + "augment: {task: [{kind: token_adapt}]}\n")
    assert [path for path, _ in found] == ["augment.task.0"]
    assert "trained on pixels" in found[0][1]


@pytest.mark.parametrize(
    ("policy", "paths"),
    [
        ("[{kind: token_eda}, {kind: emb_noise}]", []),
        ("[{kind: emb_noise}, {kind: token_eda}]", ["augment.task.1"]),
        ("[{sometimes: 0.5, do: [{kind: token_eda}, {kind: token_eda}]}, {kind: token_eda}]", []),
        ("[{sometimes: 0.5, do: [{kind: mixup}]}, {kind: token_eda}]", ["augment.task.1"]),
        ("[{halves: [[{kind: token_eda}], [{kind: token_rrc}, {kind: token_eda}]]}]", ["augment.task.0.halves.1.1"]),
        ("[{halves: [[{kind: token_eda}], [{kind: token_eda}]]}, {kind: token_eda}]", ["augment.task.1"]),
        ("[{one_of: [{kind: token_rrc}, {kind: token_eda}]}]", []),
        ("[{kind: token_rrc}, {one_of: [{kind: token_eda}, {kind: token_eda}]}]",
         ["augment.task.1.one_of.0", "augment.task.1.one_of.1"]),
    ],
)  # fmt: skip
def test_token_eda_must_come_before_tokens_are_looked_up(tmp_path: Path, policy: str, paths: list[str]) -> None:
    found = _problems(tmp_path, _TOKENS + _TASKS + f"augment: {{task: {policy}}}\n")
    assert [path for path, _ in found] == paths


@pytest.mark.parametrize(
    ("policy", "paths"),
    [
        ("[{kind: emb_noise}, {kind: token_adapt}, {kind: token_rrc}]", []),
        ("[{kind: token_rrc}, {kind: token_adapt}]", ["augment.task.1"]),
        ("[{kind: token_adapt}, {kind: token_adapt}]", ["augment.task.1"]),
        ("[{sometimes: 0.5, do: [{kind: token_crop}, {kind: token_adapt}]}]", ["augment.task.0.do.1"]),
        ("[{halves: [[{kind: token_rrc}], [{kind: token_adapt}]]}]", []),
        ("[{halves: [[], []]}, {one_of: [{kind: emb_noise}, {kind: token_adapt}]}]", ["augment.task.1.one_of.1"]),
    ],
)  # fmt: skip
def test_token_adapt_must_come_before_a_crop_to_a_smaller_grid(tmp_path: Path, policy: str, paths: list[str]) -> None:
    small = "model: {kind: vit, stem: {kind: conv2x2}, grid: 2}\n"
    text = _TOKENS + _TASKS + f"augment: {{task: {policy}}}\n"
    found = _problems(tmp_path, text + small)
    assert [path for path, _ in found] == paths
    assert all("reads the whole stored grid, 4 x 4, and a step before it leaves 2 x 2" in each for _, each in found)
    assert _problems(tmp_path, text) == []


@pytest.mark.parametrize(
    ("policy", "multiple"),
    [
        ([{"kind": "mixup"}], 1),
        ([{"halves": [[{"kind": "emb_noise"}], []]}], 2),
        ([{"halves": [[{"kind": "mixup"}], []]}], 4),
        ([{"halves": [[], [{"sometimes": 0.5, "do": [{"kind": "token_cutmix"}]}]]}], 4),
        ([{"halves": [[], [{"kind": "token_adapt", "cutmix": 1.0}]]}], 4),
        ([{"halves": [[], [{"kind": "token_adapt"}]]}], 2),
        ([{"halves": [[{"halves": [[], []]}], []]}], 4),
        ([{"halves": [[{"halves": [[{"kind": "mixup"}], []]}], []]}], 8),
        ([{"sometimes": 0.5, "do": [{"halves": [[], []]}]}], 2),
    ],
)
def test_halves_say_what_a_micro_batch_must_be_a_multiple_of(policy: list[object], multiple: int) -> None:
    given = {"schema": 1, "data": {"kind": "digits"}, "tasks": {"a": {"kind": "probe"}}, "augment": {"task": policy}}
    assert parts_needed(Experiment.model_validate(given).augment.task) == multiple


@pytest.mark.parametrize(("train", "good"), [("batch_size: 30", False), ("batch_size: 32", True),
                                             ("batch_size: 36, accumulate: 6", False),
                                             ("batch_size: 48, accumulate: 6", True)])  # fmt: skip
def test_a_batch_that_cannot_be_cut_into_halves_is_refused(tmp_path: Path, train: str, good: bool) -> None:
    text = _TOKENS + f"tasks: {{a: {{kind: classify, train: {{{train}}}}}}}\n"
    found = _problems(tmp_path, text + "augment: {task: [{halves: [[{kind: mixup}], []]}]}\n")
    assert [path for path, _ in found] == ([] if good else ["tasks.a.train.batch_size"])


def test_only_the_phase_that_uses_the_policy_is_judged(tmp_path: Path) -> None:
    text = _TOKENS + "objective: {kind: supervised, train: {batch_size: 31}}\n"
    assert _problems(tmp_path, text + "augment: {task: [{halves: [[], []]}]}\n") == []
    found = _problems(tmp_path, text + "augment: {pretrain: [{halves: [[], []]}]}\n")
    assert [path for path, _ in found] == ["objective.train.batch_size"]


@pytest.mark.parametrize(
    ("resources", "accumulate", "good"),
    [
        ("default: {gpus: 2}", 1, False), ("default: {gpus: 2}", 4, True),
        ("downstream: {nodes: 2, gpus: 4}", 4, False),
        ("downstream: {nodes: 2, gpus: 4}", 8, True), ("pretrain: {gpus: 8}", 1, True), ("default: {gpus: 1}", 1, True),
        ("default: {processes: 2}", 1, False), ("downstream: {nodes: 2, processes: 2}", 4, True),
    ],
)  # fmt: skip
def test_processes_must_share_the_micro_batches_evenly(
    tmp_path: Path, resources: str, accumulate: int, good: bool
) -> None:
    text = _TOKENS + f"tasks: {{a: {{kind: classify, train: {{batch_size: 64, accumulate: {accumulate}}}}}}}\n"
    found = _problems(tmp_path, text + f"resources: {{{resources}}}\n")
    assert [path for path, _ in found] == ([] if good else ["tasks.a.train.accumulate"])
    assert good or "number of processes" in found[0][1]


def test_gpus_on_a_stage_that_computes_on_the_cpu_are_refused(tmp_path: Path) -> None:
    text = _TOKENS + "tasks: {a: {kind: probe}}\nresources: {tokens: {device: cpu, gpus: 1}}\n"
    assert [path for path, _ in _problems(tmp_path, text)] == ["resources.tokens.gpus"]


@pytest.mark.parametrize(
    ("objective", "init", "refused"),
    [("supervised", "auto", True), ("supervised", "scratch", False), ("mtm", "auto", False)],
)
def test_images_whose_labels_the_pretraining_learned_cannot_be_held_out(
    tmp_path: Path, objective: str, init: str, refused: bool
) -> None:
    text = _TOKENS + "model: {kind: vit, stem: {kind: conv2x2}}\n" + f"objective: {{kind: {objective}}}\n"
    text += f"tasks: {{a: {{kind: classify, init: {init}, validation: {{fraction: 0.2}}}}}}\n"
    assert [path for path, _ in _problems(tmp_path, text)] == (["tasks.a.validation"] if refused else [])
