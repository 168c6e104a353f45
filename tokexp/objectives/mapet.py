"""MaPeT: permuted image modelling in which every prediction sees all places (Baraldi et al. 2023, equation 2).

Maximise the sum over ranks t > c of log p(token of z_t | patches of ranks below t, mask tokens of ranks from t on). To
`pim` it adds, for every target, a mask token (one learned vector at the target's place) as key and value: each row then
sees each of the 1 + N places exactly once, as content or as mask token. Mask tokens and context see the context and all
mask tokens, so these 1 + N rows are a plain transformer; only the rows of targets and queries need a mask. At first the
mask tokens and the query stream are the same vectors. In fine-tuning there are neither: a plain transformer is left.
"""

from tokexp.objectives.base import ObjectiveContext
from tokexp.objectives.pim import PermutedImageModelling
from tokexp.spec.permuted import Mapet


class MaskedAndPermuted(PermutedImageModelling):
    """One merged pass of 1 + N + 2 T rows: context, mask tokens, targets, queries; the rule is `pim.visible`."""

    mask_tokens = True


def build(spec: Mapet, context: ObjectiveContext) -> MaskedAndPermuted:
    """Return the objective for a spec; build its backbone with learned positions."""
    return MaskedAndPermuted(spec, context)
