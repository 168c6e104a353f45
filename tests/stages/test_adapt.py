"""The pairs that TokenAdapt is trained on."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tokexp.spec.augment import AdaptSpec, Geometry
from tokexp.spec.tokenizers import PatchKMeans
from tokexp.stages.adapt import AdaptObjective, _chosen
from tokexp.tokenizers.base import Codebook
from tokexp.tokenizers.patch_kmeans import build

LEVELS = torch.arange(16)[:, None] / 16


class Plain(nn.Module):
    """f gives every token twice in each direction, g compares with the codes: an exact pair of networks."""

    stored_grid, model_grid, space_size = (8, 8), (6, 6), (12, 12)

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.dtype, self.seen = dtype, torch.empty(0)

    def to_space(self, values: Tensor) -> Tensor:
        return values.repeat_interleave(2, 2).repeat_interleave(2, 3).to(self.dtype)

    def to_logits(self, space: Tensor) -> Tensor:
        self.seen = space
        cells = space[:, 0, ::2, ::2].flatten(1)
        return -(cells[:, :, None] - LEVELS[:, 0]).square()


def objective(networks: Plain) -> AdaptObjective:
    tokenizer = build(PatchKMeans(kind="patch_kmeans", patch_size=1, codebook_size=16), (1, 8, 8))
    tokenizer.codes.copy_(LEVELS)
    tokenizer.fitted.fill_(True)
    # Stored codes are numbered backwards: the table has to be used.
    codes = Codebook(LEVELS.flip(0))
    table = torch.arange(16).flip(0)
    return AdaptObjective(networks, tokenizer, codes, table, Geometry())  # type: ignore[arg-type]


def pictures(count: int = 32) -> Tensor:
    return LEVELS[torch.randint(16, (count, 1, 8, 8), generator=torch.Generator().manual_seed(0))][..., 0]


@pytest.mark.parametrize("shift", [0.0, 0.4])
def test_a_pair_shows_the_same_middle_when_models_read_less_than_is_stored(shift: float) -> None:
    geometry = Geometry(
        hflip=0.5, affine=1.0 if shift else 0.0, member=1.0, rotate=0.0, shear=0.0, translate=shift, rrc=None,
        resample="each", scope="per_sample",
    )  # fmt: skip
    images = pictures()
    logits, targets = objective(Plain()).predict(images, geometry, torch.Generator().manual_seed(1))
    assert targets.shape == (32, 36)
    met = (15 - logits.argmax(-1)) == targets
    # A shift of an odd number of cells in the finer space is half a token, which the pixels cannot show.
    same = met.all(1)
    assert same.all() if not shift else 3 < same.sum() < 32
    if not shift:
        middle = 15 - (images * 16).long()[:, 0, 1:7, 1:7]
        flipped = (targets.view(-1, 6, 6) == middle.flip(-1)).flatten(1).all(1)
        assert ((targets.view(-1, 6, 6) == middle).flatten(1).all(1) ^ flipped).all()
        assert 4 < flipped.sum() < 28


def test_geometry_keeps_its_precision_where_the_networks_have_less() -> None:
    seen = []
    for dtype in (torch.float32, torch.bfloat16):
        networks = Plain(dtype)
        objective(networks).predict(pictures(), Geometry(), torch.Generator().manual_seed(1))
        seen.append(networks.seen)
    assert torch.equal(*seen)


def test_fewer_images_are_taken_from_all_classes_and_only_from_those_kept() -> None:
    labels, kept = np.repeat(np.arange(5), 40), np.arange(0, 200, 2)
    chosen = _chosen(kept, labels, AdaptSpec(images=10))
    assert chosen == sorted(chosen)
    assert set(chosen) < set(kept.tolist())
    assert np.bincount(labels[chosen]).tolist() == [2] * 5
    assert _chosen(kept, labels, AdaptSpec()) == kept.tolist()
