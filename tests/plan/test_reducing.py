"""Storage policies in a plan: what is kept decides what training will take."""

from typing import Any

import pytest

from tokexp.plan.estimate import estimate_plan
from tokexp.plan.graph import build_plan
from tokexp.spec.experiment import Experiment

COUNTS = {"train": 1000, "test": 100}
PIXELS = 64


def estimates(storage: dict[str, Any]) -> dict[str, float]:
    """Bytes of the stored images and seconds of the training, by stage."""
    spec = Experiment.model_validate(
        {
            "schema": 1, "data": {"kind": "digits"}, "storage": storage,
            "model": {"kind": "vit", "input": "pixels", "stem": {"kind": "patchify", "patch_size": 2}},
            "tasks": {"train": {"kind": "classify", "train": {"epochs": 10, "batch_size": 10}}},
        }
    )  # fmt: skip
    plan = build_plan(spec)
    found = estimate_plan(plan, COUNTS)
    named = plan.seeds[0]
    return {"bytes": found[named["images"]].bytes, "seconds": found[named["train"]].seconds - 4}


def test_a_tenth_of_the_images_takes_a_tenth_of_the_bytes_and_of_the_training() -> None:
    whole, part = estimates({"reduce": {"kind": "fraction", "share": 1.0}}), estimates(
        {"reduce": {"kind": "fraction", "share": 0.1}}
    )  # fmt: skip
    assert part["bytes"] == pytest.approx(whole["bytes"] / 10, rel=0.01)
    assert part["seconds"] == pytest.approx(whole["seconds"] / 10, rel=0.05)


def test_a_fraction_beside_a_policy_keeps_that_share() -> None:
    whole, part = (estimates({"reduce": {"kind": "jpeg", "quality": 5}, **more}) for more in ({}, {"fraction": 0.5}))
    assert part["seconds"] == pytest.approx(whole["seconds"] / 2, rel=0.05)


@pytest.mark.parametrize("budget", ["1000 B", "1 B/image"])
def test_a_budget_keeps_less_than_everything(budget: str) -> None:
    whole = estimates({"reduce": {"kind": "fraction", "share": 1.0}})
    part = estimates({"reduce": {"kind": "fraction"}, "budget": budget})
    assert part["bytes"] == pytest.approx(1000, rel=0.05)
    assert part["seconds"] < whole["seconds"] / 5


def test_a_budget_for_the_quality_keeps_every_image() -> None:
    spec = {"reduce": {"kind": "jpeg"}, "budget": "1 kB/image"}
    assert estimates(spec)["seconds"] == pytest.approx(estimates({"reduce": {"kind": "jpeg", "quality": 5}})["seconds"])
