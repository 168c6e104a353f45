"""Tokens of patches for tests of them: of a trained encoder or a frozen tower, as they are and morphed."""

from math import prod
from pathlib import Path

import torch
from torch import Tensor, nn

from tokexp.durable import file_digest
from tokexp.engine.randomness import generator
from tokexp.errors import InputError
from tokexp.evaluation.base import Grouped
from tokexp.models.base import Backbone
from tokexp.objectives.groupers.base import EncodingGrouper, Grouper, Grouping
from tokexp.objectives.morphing.loss import group_means
from tokexp.objectives.morphing.schedules import Level
from tokexp.objectives.targets.base import Target
from tokexp.objectives.targets.teacher import EncoderTarget
from tokexp.registry import implementation
from tokexp.spec.check_evaluation import removed_tokens
from tokexp.spec.data import DataSpec
from tokexp.spec.morphing import Bipartite, asked_steps, made_steps
from tokexp.spec.patch_predictions import SpatialInconsistency
from tokexp.stages.assembly import image_shape
from tokexp.stages.base import StageContext


def encoder_of(
    spec: SpatialInconsistency, context: StageContext, data: DataSpec, backbone: Backbone, token_input: nn.Module
) -> Target:
    """Return the tower that a test names, on the device, or else the given encoder.

    Raises InputError for files whose content is not what was planned with.
    """
    for field, file in {"encoder.weights": getattr(spec.encoder, "weights", None), "text": spec.text}.items():
        planned = getattr(context.job.payload, "files", {}).get(field)
        if file is not None and planned != file_digest(Path(file).expanduser()):
            raise InputError(f"{field}: {file} is not the file that was planned with; start the run again")
    if spec.encoder is None:
        return EncoderTarget(backbone, token_input)
    torch.manual_seed(spec.seed)
    tower: Target = implementation("targets", spec.encoder.kind)(spec.encoder, image_shape(data), token_input)
    return tower.to(context.device)


class MorphedTokens:
    """Patches of a target without morphing and at every granularity of a spec (see evaluation.base.PatchTokens)."""

    def __init__(self, target: Target, spec: SpatialInconsistency) -> None:
        """Take the target and the spec. Raises InputError for a grouper that cannot work on the target's patches."""
        self.grid, self.width, self._target, self._seed = target.patch_grid, target.width, target, spec.seed
        self._grouper: Grouper = implementation("groupers", spec.grouper.kind)(spec.grouper)
        self._grouper.check(self.grid)
        scheduled = self._grouper.scheduled
        self._levels = _levels(spec, prod(self.grid)) if scheduled else [Level(prod(self.grid), ())]
        self.settings = 1 + len(self._levels)

    @torch.no_grad()
    def __call__(self, values: Tensor) -> list[Grouped]:
        """Return tokens of values (B, C, H, W), in float32, and their groups; draws depend on the seed alone."""
        with torch.autocast(values.device.type, enabled=False):
            tokens = self._target(values).float()
            alone = Grouping(None, tokens.shape[1])
            return [_grouped(alone, tokens), *(self._morphed(tokens, values, level) for level in self._levels)]

    def _morphed(self, tokens: Tensor, values: Tensor, level: Level) -> Grouped:
        draws = generator(self._seed, "patches", device=values.device)
        if isinstance(self._grouper, EncodingGrouper):
            grouping, rows = self._grouper.encode(self._target, values, draws)
            return _grouped(grouping, rows.float())
        grouping = self._grouper.group(tokens, level, draws)
        return _grouped(grouping, group_means(tokens, grouping))


def _levels(spec: SpatialInconsistency, count: int) -> list[Level]:
    """Return the granularities of N patches. Raises InputError for one that matching cannot reach."""
    protected = isinstance(spec.grouper, Bipartite) and spec.grouper.protect_first
    levels = []
    for removed in dict.fromkeys(removed_tokens(share, count) for share in spec.removed):
        asked = asked_steps(count, removed, spec.iterations, "balanced")
        if isinstance(spec.grouper, Bipartite) and made_steps(count, asked, protected) != asked:
            raise InputError(f"{spec.iterations} step(s) cannot remove {removed} of {count} patches; raise iterations")
        levels.append(Level(count, asked))
    return levels


def _grouped(grouping: Grouping, rows: Tensor) -> Grouped:
    labels = grouping.labels
    if labels is None:
        labels = torch.arange(rows.shape[1], device=rows.device).expand(rows.shape[:2])
    return Grouped(rows, labels)
