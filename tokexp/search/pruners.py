"""From the words of a sweep to Optuna's pruners.

Optuna compares what is reported in the direction of the study. A pruner that looks at a loss while the study makes an
accuracy larger is therefore given the loss with its sign turned (`sign`), and sees its bounds turned likewise.
"""

from collections.abc import Callable, Mapping
from typing import Any

from tokexp.search.quiet import quietly
from tokexp.spec.searching import (
    Hyperband,
    Median,
    NoPruner,
    Patience,
    Percentile,
    PrunerSpec,
    SuccessiveHalving,
    Threshold,
)


def sign(spec: PrunerSpec, study_direction: str) -> float:
    """Return what reported values are multiplied by: -1 if the pruner's better is the study's worse, else 1."""
    if isinstance(spec, NoPruner):
        return 1.0
    direction = spec.direction or ("minimize" if "loss" in spec.metric else study_direction)
    return 1.0 if direction == study_direction else -1.0


def build_pruner(spec: PrunerSpec, turned: float = 1.0, steps: int | None = None) -> Any:
    """Return the Optuna pruner; one that never prunes as long as it needs `steps` that are not known yet.

    `turned`: what `sign` gave. `steps`: steps of a whole trial, from which resources follow that were not written.
    """
    with quietly():
        return _build(spec, turned, steps)


def needs_steps(spec: PrunerSpec) -> bool:
    """Say whether resources are to be taken from the first trial that completes."""
    if isinstance(spec, Patience):
        return spec.then is not None and needs_steps(spec.then)
    return (isinstance(spec, SuccessiveHalving) and spec.resource is None) or (
        isinstance(spec, Hyperband) and spec.most is None
    )


def _build(spec: PrunerSpec, turned: float, steps: int | None) -> Any:
    from optuna import pruners

    if isinstance(spec, NoPruner) or (steps is None and needs_steps(spec)):
        return pruners.NopPruner()
    if isinstance(spec, Patience):
        wrapped = None if spec.then is None else _build(spec.then, turned, steps)
        return pruners.PatientPruner(wrapped, patience=spec.patience, min_delta=spec.tolerance)
    return _BUILDERS[spec.kind](spec, turned, steps)


def _median(spec: Median, turned: float, steps: int | None) -> Any:
    from optuna.pruners import MedianPruner

    return MedianPruner(**_looks(spec), n_startup_trials=spec.startup, n_min_trials=spec.least)


def _percentile(spec: Percentile, turned: float, steps: int | None) -> Any:
    from optuna.pruners import PercentilePruner

    return PercentilePruner(spec.percentile, **_looks(spec), n_startup_trials=spec.startup, n_min_trials=spec.least)


def _halving(spec: SuccessiveHalving, turned: float, steps: int | None) -> Any:
    from optuna.pruners import SuccessiveHalvingPruner

    return SuccessiveHalvingPruner(
        min_resource=spec.resource or max((steps or 1) // 100, 1),
        reduction_factor=spec.reduction,
        min_early_stopping_rate=spec.early,
    )


def _hyperband(spec: Hyperband, turned: float, steps: int | None) -> Any:
    from optuna.pruners import HyperbandPruner

    # Less than one rung would leave Optuna without brackets, and divide by zero.
    most = max(spec.most or steps or 1, spec.resource)
    return HyperbandPruner(min_resource=spec.resource, max_resource=most, reduction_factor=spec.reduction)


def _threshold(spec: Threshold, turned: float, steps: int | None) -> Any:
    from optuna.pruners import ThresholdPruner

    lower, upper = spec.lower, spec.upper
    if turned < 0:
        lower, upper = None if upper is None else -upper, None if lower is None else -lower
    return ThresholdPruner(lower=lower, upper=upper, **_looks(spec))


def _looks(spec: Median | Percentile | Threshold) -> dict[str, int]:
    return {"n_warmup_steps": spec.warmup, "interval_steps": spec.interval}


_BUILDERS: Mapping[str, Callable[..., Any]] = {
    "median": _median, "percentile": _percentile, "successive_halving": _halving, "hyperband": _hyperband,
    "threshold": _threshold,
}  # fmt: skip
