from typing import Any

import pytest

from tokexp.plan.keys import canonical, differences, stage_key
from tokexp.spec.objectives import Mtm
from tokexp.spec.stages import DownstreamStage, PretrainStage


def pretrain(**objective: Any) -> PretrainStage:
    return PretrainStage.model_validate(
        {"kind": "pretrain", "model": {"kind": "vit"}, "policy": [], "objective": {"kind": "mtm", **objective}}
    )


def key(payload: PretrainStage, **changes: Any) -> str:
    given: dict[str, Any] = {"inputs": {"tokens": "ab"}, "fingerprint": None, "seed": 0} | changes
    return stage_key("pretrain", payload, **given)


def test_key_does_not_depend_on_the_order_of_fields() -> None:
    assert canonical({"b": 1, "a": [1.0, 2]}) == canonical({"a": [1.0, 2], "b": 1})


def test_a_default_that_is_written_out_has_the_same_key() -> None:
    assert key(pretrain()) == key(pretrain(label_smoothing=0.1))


@pytest.mark.parametrize("change", [{"seed": 1}, {"inputs": {"tokens": "cd"}}, {"fingerprint": "x"}])
def test_everything_that_decides_the_result_changes_the_key(change: dict[str, Any]) -> None:
    assert key(pretrain(), **change) != key(pretrain())


def test_a_changed_field_changes_the_key() -> None:
    assert key(pretrain(label_smoothing=0.0)) != key(pretrain())


def test_a_changed_default_changes_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    before = key(pretrain())
    monkeypatch.setattr(Mtm, "PRESETS", {"paper": {"label_smoothing": 0.2}})
    assert key(pretrain()) != before


def test_neutral_fields_stay_out_of_the_key() -> None:
    from tokexp.spec.data import ImageFolderData

    near, far = (
        ImageFolderData.model_validate({"kind": "image_folder", "root": root, "image_size": 32})
        for root in ("near", "far")
    )
    assert near.relevant() == far.relevant()
    assert "root" not in near.relevant()


def test_differences_name_the_path_and_both_values() -> None:
    left, right = {"train": {"lr": 0.0015}, "a": [1, 2]}, {"train": {"lr": 0.003}, "a": [1, 2], "b": 1}
    assert differences(left, right) == [("train.lr", 0.0015, 0.003), ("b", "(absent)", 1)]


def test_every_default_of_the_pretraining_is_pinned_by_its_key() -> None:
    # A failure here means that a default changed: keys change with it, which the changelog must say.
    assert key(pretrain()) == GOLDEN


def test_every_default_of_a_classification_is_pinned_by_its_key() -> None:
    given = {"kind": "downstream", "model": {"kind": "vit"}, "embed": "codebook", "policy": []}
    payload = DownstreamStage.model_validate({**given, "task": {"kind": "classify"}})
    assert stage_key("downstream", payload, {"tokens": "ab"}, None, 0) == GOLDEN_CLASSIFICATION


GOLDEN = "56021bed2b98914b56ebc5b5275fe26df7bbb621"
GOLDEN_CLASSIFICATION = "295a464c00ab475593a4f1dea86ee816b8a4d3fb"
