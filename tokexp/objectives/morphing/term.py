"""Morphing as objectives use it: from a target's view of the whole image to a loss on the student's patches.

It knows nothing of the objective: features (B, N, D) of all patches come in, whatever masked, encoded or decoded them.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tokexp.errors import InputError
from tokexp.objectives.base import ObjectiveContext, StepOutput
from tokexp.objectives.groupers.base import EncodingGrouper, Grouper, Grouping
from tokexp.objectives.morphing.loss import distance_of, group_means, morphing_loss
from tokexp.objectives.morphing.schedules import Level, draw_levels
from tokexp.objectives.targets.base import Held, Target
from tokexp.registry import implementation
from tokexp.spec.distill import Dtm
from tokexp.spec.morphing import MorphingSpec
from tokexp.spec.morphing_terms import TargetedMorphing
from tokexp.spec.teachers import MomentumTarget

INIT_STD = 0.02


@dataclass(frozen=True)
class Morphed:
    """The target's side of one level: its groups and their means (B, groups, d)."""

    grouping: Grouping
    rows: Tensor


class Morphing:
    """Groups a target's tokens by a spec and compares a student's with them."""

    def __init__(self, spec: MorphingSpec, grid: tuple[int, int]) -> None:
        """Take the spec and the grid of patches. Raises InputError if the grouper cannot work on it."""
        self.spec, self._distance = spec, distance_of(spec)
        self.grouper: Grouper = implementation("groupers", spec.grouper.kind)(spec.grouper)
        self.grouper.check(grid)

    # Lengths change from step to step: traced, every one would be compiled anew.
    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def morph(self, tokens: Tensor, generator: torch.Generator) -> list[Morphed]:
        """Return the levels of target tokens (B, N, d)."""
        tokens, count = tokens.detach().float(), tokens.shape[1]
        levels = [Level(count, ())]
        if self.grouper.scheduled:
            levels = list(draw_levels(self.spec.schedule, count, self.spec.protects_first, generator))
        return [self._morphed(tokens, level, generator) for level in levels]

    def _morphed(self, tokens: Tensor, level: Level, generator: torch.Generator) -> Morphed:
        if self.grouper.scheduled and level.identity:
            return Morphed(Grouping(None, level.tokens), tokens)
        grouping = self.grouper.group(tokens, level, generator)
        with torch.autocast(tokens.device.type, enabled=False):
            return Morphed(grouping, group_means(tokens, grouping))

    # What this calls is compiled: the target, whose shapes never change.
    @torch.compiler.disable(recursive=False)  # type: ignore[untyped-decorator]
    def of(self, target: Target, values: Tensor, generator: torch.Generator) -> list[Morphed]:
        """Return the levels of what a target makes of values (B, C, H, W)."""
        if isinstance(self.grouper, EncodingGrouper):
            return [Morphed(*self.grouper.encode(target, values, generator))]
        levels: list[Morphed] = self.morph(target(values), generator)
        return levels

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def compare(self, student: Tensor, levels: list[Morphed]) -> StepOutput:
        """Return the loss of student tokens (B, N, d), the mean over levels, and the mean number of groups."""
        losses = [
            morphing_loss(student, each.grouping, each.rows, self._distance, self.spec.standardise) for each in levels
        ]
        groups = torch.full((), sum(each.grouping.groups for each in levels) / len(levels), device=student.device)
        return StepOutput(torch.stack(losses).mean(), {"groups": groups})


class MorphingLoss(nn.Module):
    """A target, a linear head from the student's width to the target's, and the morphing between them.

    A moving average is part of the state; a frozen target is not.
    """

    def __init__(self, spec: Dtm | TargetedMorphing, context: ObjectiveContext, width: int | None = None) -> None:
        """Take the spec, what is trained, and the width of the features (the backbone's if not given)."""
        super().__init__()
        self.target: Target | None = None
        if isinstance(spec.target, MomentumTarget):
            build = implementation("targets", spec.target.kind)
            self.target = build(spec.target, context.backbone, context.token_input)
        self._frozen = Held(context.target)
        found = self._found()
        if found.patch_grid != context.backbone.patch_grid:
            (rows, columns), (own, across) = found.patch_grid, context.backbone.patch_grid
            raise InputError(
                f"the target has {rows} x {columns} patches and the model {own} x {across}; morphing needs one for one"
            )
        self.morphing = Morphing(spec, found.patch_grid)
        self.head = nn.Linear(width or context.backbone.width, found.width)
        nn.init.normal_(self.head.weight, std=INIT_STD)
        nn.init.zeros_(self.head.bias)

    def _found(self) -> Target:
        found = self.target if self.target is not None else self._frozen.module
        if not isinstance(found, Target):
            raise InputError("this objective learns from a target, and the stage has none; name it in the spec")
        return found

    @torch.compiler.disable(recursive=False)  # type: ignore[untyped-decorator]
    def morphed(self, values: Tensor, generator: torch.Generator) -> list[Morphed]:
        """Return what is to be predicted of values (B, C, H, W)."""
        levels: list[Morphed] = self.morphing.of(self._found(), values, generator)
        return levels

    @torch.compiler.disable(recursive=False)  # type: ignore[untyped-decorator]
    def loss(self, features: Tensor, levels: list[Morphed]) -> StepOutput:
        """Return the loss of features (B, N, D) of all patches in raster order, without the term's weight."""
        output: StepOutput = self.morphing.compare(self.head(features), levels)
        return output

    def follow(self, *students: nn.Module) -> None:
        """Let a moving average take over an update of the backbone and the token input."""
        self._found().follow(*students)
