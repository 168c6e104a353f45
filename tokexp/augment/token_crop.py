"""Random crop to the model's grid without resizing: the codes stay codes (an option of SeiT's release)."""

import torch
from torch import Tensor

from tokexp.augment.base import Augmentation, AugmentContext, uniform
from tokexp.data.base import Batch
from tokexp.spec import augment as spec


class TokenCrop(Augmentation):
    """Cuts `context.grid` out of another random place of every sample; works before and after lookup."""

    def __init__(self, context: AugmentContext) -> None:
        """Take the grid to end at."""
        self.grid = context.grid

    def __call__(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Return the cut batch, as indices or values as it came. Raises ValueError if it is smaller than the grid."""
        content = batch.values if batch.indices is None else batch.indices
        assert content is not None
        content = content.reshape(len(batch), -1, *content.shape[-2:])
        rows = self._places(content.shape[-2], self.grid[0], len(batch), generator)
        columns = self._places(content.shape[-1], self.grid[1], len(batch), generator)
        samples = torch.arange(len(batch), device=content.device)[:, None, None]
        cut = content.movedim(1, -1)[samples, rows[:, :, None], columns[:, None, :]].movedim(-1, 1)
        if batch.indices is None:
            return batch.with_values(cut)
        indices = cut.reshape(*batch.indices.shape[:-2], *self.grid)
        return Batch(batch.labels, batch.num_classes, indices=indices, targets=batch.targets)

    def _places(self, have: int, need: int, count: int, generator: torch.Generator) -> Tensor:
        if have < need:
            raise ValueError(f"token_crop: a side of {have} cannot be cropped to {need}")
        room = have - need
        start = (uniform((count, 1), generator) * (room + 1)).long().clamp(max=room)
        return start + torch.arange(need, device=generator.device)


def build(step: spec.TokenCrop, context: AugmentContext) -> TokenCrop:
    """Return the augmentation of a step."""
    del step
    return TokenCrop(context)
