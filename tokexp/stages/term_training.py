"""Training an objective with the terms beside it; what is left is the objective's own."""

from collections.abc import Sequence
from dataclasses import replace

import torch

from tokexp.engine.batches import Feed
from tokexp.engine.loop import Augment, FitResult, Phase, fit
from tokexp.engine.randomness import key_of
from tokexp.objectives.base import Objective
from tokexp.objectives.targets.base import Target
from tokexp.objectives.with_terms import WithTerms
from tokexp.spec.terms import TermSpec


def fit_with_terms(
    objective: Objective,
    terms: Sequence[TermSpec],
    feed: Feed,
    augment: Augment,
    phase: Phase,
    target: Target | None = None,
) -> FitResult:
    """Train as `fit` does, with the terms' losses added; their weights are in checkpoints, and in no output.

    `target` is the frozen network that a term may learn from.
    """
    if not terms:
        return fit(objective, feed, augment, phase)
    torch.manual_seed(key_of(phase.seed, phase.name + "/terms"))
    result = fit(WithTerms(objective, terms, target), feed, augment, phase)
    return result if result.average is None else replace(result, average=WithTerms.own_part(result.average))
