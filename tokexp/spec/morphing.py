"""Token morphing: how many groups the tokens of an image are merged into, by what rule, and how groups are compared.

Sources: Kim et al. 2024 (DTM, arXiv 2401.00254), equations 1 to 5, and its release; Bolya et al. 2023 (ToMe). Shares
are of the N tokens of an image, so that one spec serves any grid: the paper's 98 of 196 are 0.5.
"""

import math
from functools import cache
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from tokexp.spec.base import Spec
from tokexp.spec.extensions import Kinds

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1, le=1024)]
LastStep = Literal["balanced", "remainder", "released"]


def most_merged(tokens: int, protected: bool) -> int:
    """Return how many of T tokens one matching can remove: floor((T - p) / 2), p = 1 if the first never merges."""
    return max(0, (tokens - protected) // 2)


def asked_steps(tokens: int, removed: int, iterations: int, last_step: LastStep) -> tuple[int, ...]:
    """Return what every iteration is asked to remove, by the rule of `ScheduleSpec.last_step`."""
    each, left = divmod(removed, iterations)
    if last_step == "balanced":
        return tuple(each + (step < left) for step in range(iterations))
    if last_step == "remainder":
        return (*[each] * (iterations - 1), each + left)
    above = math.ceil(removed / iterations)
    return (above if above * iterations <= tokens else each,) * iterations


def made_steps(tokens: int, asked: tuple[int, ...], protected: bool) -> tuple[int, ...]:
    """Return what iterations really remove: a matching stops at half of the tokens, without a word."""
    made = []
    for count in asked:
        made.append(min(count, most_merged(tokens, protected)))
        tokens -= made[-1]
    return tuple(made)


@cache
def fewest_groups(tokens: int, iterations: int, last_step: LastStep, protected: bool) -> int:
    """Return the number of groups from which on every number up to N can be reached, at least ceil(N / (k + 1))."""
    groups = tokens
    while groups > math.ceil(tokens / (iterations + 1)):
        asked = asked_steps(tokens, tokens - groups + 1, iterations, last_step)
        if made_steps(tokens, asked, protected) != asked:
            break
        groups -= 1
    return groups


class ScheduleSpec(Spec):
    """How many tokens are removed in how many iterations, drawn anew for every level of every micro-batch."""

    levels: int = Field(2, ge=1, le=64, description="Groupings drawn for a micro-batch; their losses are averaged.")
    removed: tuple[Share, Share] = Field(
        (0.0, 1.0), description="Smallest and largest share of the tokens that is removed; N minus that many are left."
    )
    iterations: tuple[Count, Count] = Field((1, 14), description="Fewest and most steps of a grouping.")
    last_step: LastStep = Field(
        "balanced", description="What steps remove. balanced: equal shares, the first steps one more; remainder: "
        "equation 1 corrected, the last step takes what is left; both reach the drawn number exactly. released: the "
        "same rounded up in every step, cut where a step can remove no more."
    )  # fmt: skip

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        for name in ("removed", "iterations"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"{name}: the smallest ({low}) must not exceed the largest ({high})")
        return self

    def group_range(self, tokens: int, iterations: int, protected: bool) -> tuple[int, int]:
        """Return the fewest and most groups of N tokens after k steps; an empty range where no number is possible."""
        least, most = (math.floor(share * tokens + 1e-9) for share in self.removed)
        if self.last_step == "released":
            return tokens - most, tokens - least
        return max(tokens - most, fewest_groups(tokens, iterations, self.last_step, protected)), tokens - least

    def impossible(self, tokens: int, protected: bool) -> int | None:
        """Return a number of iterations in which not even the smallest share of N tokens can be removed, or None."""
        for iterations in range(self.iterations[0], self.iterations[1] + 1):
            fewest, most = self.group_range(tokens, iterations, protected)
            if fewest > most:
                return iterations
        return None


class Bipartite(Spec):
    """Even tokens are matched with odd ones, the most alike merge, again and again (ToMe's matching)."""

    kind: Literal["bipartite"]
    protect_first: bool = Field(
        False, description="Never merge the first token. The release does so although it has removed the class token, "
        "which leaves the top left patch alone in every image."
    )  # fmt: skip


class KMeans(Spec):
    """Lloyd's k-means of the target tokens: as many clusters as groups were drawn, as many updates as iterations."""

    kind: Literal["kmeans"]


class Layerwise(Spec):
    """Tokens are merged inside the target's encoder, after every block; what it makes of them is the target."""

    kind: Literal["layerwise"]
    per_block: int = Field(8, ge=1, le=4096, description="Tokens that are removed after every block.")


class LayerwiseKMeans(Spec):
    """Tokens are clustered inside the target's encoder, after every block, to fewer from block to block."""

    kind: Literal["layerwise_kmeans"]
    removed: Share = Field(
        0.5, description="Share of the tokens that is gone after the last block; every block removes equally many."
    )
    updates: int = Field(5, ge=0, le=100, description="Lloyd's updates after every block.")


class Downsample(Spec):
    """Squares of neighbouring patches are the groups, the same in every image."""

    kind: Literal["downsample"]
    factor: int = Field(2, ge=2, le=64, description="Side of a square in patches.")


class Whole(Spec):
    """The whole image is one group, which no matching reaches."""

    kind: Literal["whole"]


class Ungrouped(Spec):
    """Every token is its own group: plain token-wise distillation, the baseline of the paper's tables."""

    kind: Literal["ungrouped"]


GrouperSpec = Annotated[
    Bipartite | KMeans | Layerwise | LayerwiseKMeans | Downsample | Whole | Ungrouped, Kinds("groupers")
]


class MorphingSpec(Spec):
    """What is common to token morphing as an objective and as a term of another one, beside the target."""

    grouper: GrouperSpec = Field(Bipartite(kind="bipartite"), description="How tokens of the target form groups.")
    schedule: ScheduleSpec = Field(ScheduleSpec(), description="How many groups there are.")
    distance: Literal["cosine", "l1", "l2", "smooth_l1"] = Field(
        "cosine", description="Between the means of a group on both sides; weighted by the group's size."
    )
    beta: float = Field(2.0, gt=0, le=100, description="Where smooth_l1 turns from a square into a line.")
    standardise: bool = Field(False, description="Give every morphed target mean 0 and deviation 1 over its channels.")

    @property
    def protects_first(self) -> bool:
        """Whether the grouper never merges the first token."""
        return isinstance(self.grouper, Bipartite) and self.grouper.protect_first
