"""Relative positions, which are between all patches of an image: what cannot be done with them."""

from collections.abc import Iterator

from tokexp.spec.experiment import Experiment
from tokexp.spec.findings import Finding
from tokexp.spec.models import VitSpec
from tokexp.spec.morphing import Layerwise, LayerwiseKMeans
from tokexp.spec.morphing_terms import morphing_of, target_of
from tokexp.spec.teachers import MomentumTarget, TeacherTarget
from tokexp.spec.yaml_tree import Path

REASONS = {
    "mtm": "shows the encoder some patches alone",
    "mae": "shows the encoder some patches alone",
    "cae": "shows the encoder some patches alone",
    "pim": "orders the patches",
    "mapet": "orders the patches",
    "data2vec": "runs the blocks of the average one by one",
}
"""Objectives that need absolute positions, and why."""

_PATH, _KIND = ("model", "positions"), ("objective", "kind")


def check_positions(spec: Experiment) -> Iterator[Finding]:
    """Yield why relative positions do not go with the objective or with a test of patches."""
    model, objective = spec.model, spec.objective
    if not isinstance(model, VitSpec) or not has_relative_positions(spec):
        return
    reason = None if objective is None else REASONS.get(objective.kind)
    if objective is not None and reason is not None:
        message = f"{model.positions} given; {objective.kind} {reason}, which needs absolute"
        yield Finding(_PATH, message, (_PATH, _KIND, ("model", "kind")))
    for path, grouper, whose in _inside_own_encoder(spec):
        message = f"{model.positions} given; the grouper {grouper} merges patches between {whose} blocks, "
        yield Finding(_PATH, message + "which needs absolute", (_PATH, path, ("model", "kind")))


def has_relative_positions(spec: Experiment) -> bool:
    """Say whether the model's patches know each other's places by biases, which are between all of them."""
    return isinstance(spec.model, VitSpec) and spec.model.positions != "absolute"


def inside_encoder(grouper: object) -> str | None:
    """Return the kind of a grouper that merges patches between an encoder's blocks; None of any other."""
    return grouper.kind if isinstance(grouper, (Layerwise, LayerwiseKMeans)) else None


def _inside_own_encoder(spec: Experiment) -> Iterator[tuple[Path, str, str]]:
    """Yield where groupers are that run the blocks of this experiment's model, their kinds, and whose blocks."""
    target = target_of(spec.objective)
    kind = inside_encoder(getattr(morphing_of(spec.objective), "grouper", None))
    if kind is not None and isinstance(target, MomentumTarget):
        yield ("objective",), kind, "the average's"
    elif kind is not None and isinstance(target, TeacherTarget) and target.origin.experiment is None:
        yield ("objective",), kind, "the teacher's"
    for name, test in spec.evaluate.items():
        kind = inside_encoder(getattr(test, "grouper", None))
        if kind is not None and getattr(test, "encoder", None) is None:
            yield ("evaluate", name), kind, "the model's"
