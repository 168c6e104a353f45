"""Relative positions, which are between all patches of an image: what cannot be done with them."""

from collections.abc import Iterator

from tokexp.spec.experiment import Experiment
from tokexp.spec.findings import Finding
from tokexp.spec.models import VitSpec
from tokexp.spec.morphing import Layerwise, LayerwiseKMeans
from tokexp.spec.morphing_terms import morphing_of, target_of
from tokexp.spec.teachers import MomentumTarget

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
    """Yield why relative positions do not go with the objective."""
    model, objective = spec.model, spec.objective
    if not isinstance(model, VitSpec) or model.positions == "absolute" or objective is None:
        return
    reason = REASONS.get(objective.kind)
    if reason is not None:
        message = f"{model.positions} given; {objective.kind} {reason}, which needs absolute"
        yield Finding(_PATH, message, (_PATH, _KIND, ("model", "kind")))
    grouper = getattr(morphing_of(objective), "grouper", None)
    if isinstance(grouper, (Layerwise, LayerwiseKMeans)) and isinstance(target_of(objective), MomentumTarget):
        message = f"{model.positions} given; the grouper {grouper.kind} merges patches between the average's blocks, "
        yield Finding(_PATH, message + "which needs absolute", (_PATH, ("objective",), ("model", "kind")))
