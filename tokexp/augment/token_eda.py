"""Token-EDA: synonyms, or an exchange of two blocks, on stored indices (SeiT section 3.3 and appendix).

Per image exactly one of: synonym, swap, neither. Synonyms are one gather in a table of neighbours. The swap draws both
corners of its blocks jointly uniform, given that they lie further apart than a block's side: the displacement is drawn
from its exact distribution, so nothing is redrawn.

Where tokens are levels of coefficients (own; the papers have none for these), the synonyms of a level are the nearest
levels in use, and zero has none: most coefficients are zero, and what replaced them would be noise at every frequency.
Blocks are exchanged with all coefficients of their places.
"""

import math

import torch
from torch import Tensor
from torch.nn.functional import normalize

from tokexp.augment.base import Augmentation, AugmentContext, uniform
from tokexp.data.base import Batch
from tokexp.spec import augment as spec
from tokexp.tokenizers.base import Codebook, Metric

CHUNK = 1024
"""Codes whose neighbours are searched at once: a codebook of 65,536 does not fit in memory against itself."""


def synonym_table(codebook: Codebook, neighbours: int, metric: Metric) -> Tensor:
    """Return the nearest other codes (K, min(neighbours, K - 1)) of every code, the nearest first.

    A code of norm zero has no angle: under `cosine` it is everyone's last neighbour, and its own are the nearest by
    distance. A codebook of one code gives a table of that code.
    """
    codes = codebook.codes
    if len(codes) == 1:
        return torch.zeros(1, 1, dtype=torch.long, device=codes.device)
    found = []
    for some in torch.arange(len(codes), device=codes.device).split(CHUNK):
        closeness = _angles(codes, some) if metric == "cosine" else -torch.cdist(codes[some], codes)
        closeness[torch.arange(len(some)), some] = -math.inf
        found.append(closeness.topk(min(neighbours, len(codes) - 1), dim=1).indices)
    return torch.cat(found)


def level_synonyms(levels: Tensor, neighbours: int) -> Tensor:
    """Return the nearest other levels (K, min(neighbours, K - 1)) of levels (K, 1); of a level of zero, itself."""
    table = synonym_table(Codebook(levels), neighbours, "euclidean")
    own = torch.arange(len(levels), device=levels.device)[:, None]
    return torch.where(levels == 0, own, table)


def _angles(codes: Tensor, some: Tensor) -> Tensor:
    """Return the cosines (n, K) of some codes to all; a code of norm zero ranks by distance, as -2 for the others."""
    zero = codes.norm(dim=1) == 0
    directions = normalize(codes, dim=1)
    cosines = (directions[some] @ directions.T).masked_fill(zero[None, :], -2)
    return torch.where(zero[some][:, None], -codes.norm(dim=1)[None, :], cosines)


class TokenEda(Augmentation):
    """Replaces tokens by synonyms in some images and exchanges two blocks in others."""

    def __init__(self, step: spec.TokenEda, context: AugmentContext) -> None:
        """Take the rates; the synonyms come from the context's codebook. Raises ValueError without one."""
        if context.codebook is None:
            raise ValueError("token_eda works on tokens, and this experiment reads pixels: take it out of the policy")
        self.step = step
        metric: Metric = context.codebook.metric if step.metric == "tokenizer" else "cosine"
        if context.codebook.is_table:
            self.table = synonym_table(context.codebook, step.neighbours, metric)
        else:
            self.table = level_synonyms(context.codebook.codes, step.neighbours)
        self._displacements: dict[tuple[int, int], Tensor] = {}

    def __call__(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Return changed indices of the same shape. Raises ValueError if they were looked up already."""
        if batch.indices is None:
            raise ValueError("token_eda changes indices: it must stand before every step that works on embeddings")
        number = uniform((len(batch), *(1 for _ in batch.indices.shape[1:])), generator)
        synonym, either = self.step.synonym, self.step.synonym + self.step.swap
        changed = torch.where(number < synonym, self._synonyms(batch.indices, generator), batch.indices)
        if self.step.swap:
            moved = (number >= synonym) & (number < either)
            changed = torch.where(moved, self._swapped(batch.indices, generator), changed)
        return Batch(batch.labels, batch.num_classes, indices=changed, targets=batch.targets)

    def _synonyms(self, indices: Tensor, generator: torch.Generator) -> Tensor:
        self.table = self.table.to(indices.device)
        entry = torch.randint(self.table.shape[1], indices.shape, generator=generator, device=indices.device)
        replaced = uniform(tuple(indices.shape), generator) < self.step.replace
        return torch.where(replaced, self.table[indices, entry], indices)

    def _swapped(self, indices: Tensor, generator: torch.Generator) -> Tensor:
        count, (height, width) = len(indices), indices.shape[-2:]
        side, first, second = self._blocks(count, height, width, generator)
        rows = torch.arange(height, device=indices.device)[None, :, None]
        columns = torch.arange(width, device=indices.device)[None, None, :]
        source = (rows * width + columns).expand(count, -1, -1)
        # The block at `first` is written, then the one at `second`: where they overlap the later one stays.
        for here, there in ((first, second), (second, first)):
            down, right = rows - here[:, 0, None, None], columns - here[:, 1, None, None]
            within = (down >= 0) & (down < side[:, None, None]) & (right >= 0) & (right < side[:, None, None])
            taken = (there[:, 0, None, None] + down) * width + there[:, 1, None, None] + right
            source = torch.where(within, taken, source)
        maps = indices.reshape(count, -1, height * width)
        return maps.gather(2, source.view(count, 1, -1).expand(-1, maps.shape[1], -1)).view_as(indices)

    def _blocks(self, count: int, height: int, width: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Draw sides (n,) and the two corners (n, 2) each."""
        if (height, width) not in self._displacements:
            self._displacements[height, width] = displacement_weights(height, width, self.step.swap_scale)
        weights = self._displacements[height, width].to(generator.device)
        self._displacements[height, width] = weights
        side = (uniform((count,), generator) * (min(height, width) * self.step.swap_scale)).long()
        side = side.clamp(max=len(weights) - 1)
        picked = torch.multinomial(weights[side], 1, generator=generator)[:, 0]
        across = 2 * width - 1
        move = torch.stack([picked // across - (height - 1), picked % across - (width - 1)], dim=1)
        room = torch.tensor([height, width], device=side.device) - side[:, None] - move.abs()
        start = torch.minimum((uniform((count, 2), generator) * room).long(), room - 1) + (-move).clamp(min=0)
        # Only a grid too small for any exchange gives "no displacement"; a block of side zero moves nothing.
        return torch.where((move == 0).all(1), 0, side), start, start + move


def displacement_weights(height: int, width: int, swap_scale: float) -> Tensor:
    """Return how many corner pairs have each displacement, for every side: (sides, (2 H - 1) x (2 W - 1)).

    Corners lie in [0, H - side - 1] x [0, W - side - 1] (the released code never draws the last legal one); pairs
    whose Euclidean distance does not exceed the side count zero. A side with no pair left gets "no displacement".
    """
    sides = max(1, math.ceil(min(height, width) * swap_scale))
    down = torch.arange(1 - height, height)[:, None]
    right = torch.arange(1 - width, width)[None, :]
    table = []
    for side in range(sides):
        pairs = (height - side - down.abs()).clamp(min=0) * (width - side - right.abs()).clamp(min=0)
        pairs = pairs * (down.square() + right.square() > side * side)
        if not pairs.any():
            pairs[height - 1, width - 1] = 1
        table.append(pairs.flatten().float())
    return torch.stack(table)


def build(step: spec.TokenEda, context: AugmentContext) -> TokenEda:
    """Return the augmentation of a step."""
    return TokenEda(step, context)
