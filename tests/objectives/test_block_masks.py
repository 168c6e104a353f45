"""Block-wise masks (beit): their statistics against those of the published drawing, and a plain one of our own."""

import math
import random

import numpy as np
import pytest
import torch

from tokexp.objectives.block_masks import ROUNDS, block_order, draw_blocks
from tokexp.spec.masked import BlockSpec

V1 = BlockSpec(exact=False)


def plain_blocks(spec: BlockSpec, count: int, rows: int, columns: int, draws: random.Random) -> list[int]:
    """Return how many patches are new in each block of one sample, one try after another, as the paper writes it."""
    masked, sizes = np.zeros((rows, columns), dtype=bool), []
    while masked.sum() < count:
        limit = min(count - int(masked.sum()), spec.largest or count)
        for _ in range(10):
            area = draws.uniform(spec.smallest, limit)
            aspect = math.exp(draws.uniform(math.log(spec.aspect), -math.log(spec.aspect)))
            height, width = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
            if height >= rows or width >= columns:
                continue
            top, left = draws.randint(0, rows - height), draws.randint(0, columns - width)
            box = masked[top : top + height, left : left + width]
            new = box.size - int(box.sum())
            if 0 < new <= limit:
                box[...] = True
                sizes.append(new)
                break
        else:
            break
    return sizes


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_counts_are_those_of_the_release() -> None:
    counts = draw_blocks(V1, 75, 4000, (14, 14), generator()).sum((1, 2)).double()
    assert 60 <= counts.min() <= counts.max() == 75
    assert counts.mean().item() == pytest.approx(74.5, abs=0.1)
    assert (counts == 75).double().mean().item() == pytest.approx(0.68, abs=0.03)


@pytest.mark.parametrize(
    ("spec", "count", "grid"),
    [(V1, 75, (14, 14)), (BlockSpec(smallest=2), 6, (4, 4)), (BlockSpec(smallest=3, largest=9), 20, (8, 6))],
)
def test_each_patch_is_masked_as_often_as_by_drawing_one_try_after_another(
    spec: BlockSpec, count: int, grid: tuple[int, int]
) -> None:
    samples, draws = 4000, random.Random(0)
    masked = draw_blocks(spec, count, samples, grid, generator())
    plain = [sum(plain_blocks(spec, count, *grid, draws)) for _ in range(samples)]
    expected = np.bincount(plain, minlength=count + 1) / samples
    found = np.bincount(masked.sum((1, 2)).numpy(), minlength=count + 1) / samples
    # Both are shares of 4000 draws: their difference deviates by at most sqrt(2 / 4 / 4000) = 0.011.
    assert np.abs(found - expected).max() < 0.045
    by_patch = masked.double().mean(0)
    torch.testing.assert_close(by_patch, by_patch.flip(0), atol=0.05, rtol=0)
    torch.testing.assert_close(by_patch, by_patch.flip(1), atol=0.05, rtol=0)


def test_a_first_block_is_a_rectangle_within_the_bounds_of_area_and_aspect() -> None:
    masked = draw_blocks(BlockSpec(smallest=16, largest=16), 16, 500, (14, 14), generator())
    for sample in masked:
        rows, columns = sample.any(1).nonzero().flatten(), sample.any(0).nonzero().flatten()
        height, width = len(rows), len(columns)
        if sample.sum() == height * width:
            assert 0.3 * 0.6 <= height / width <= 1 / 0.3 / 0.6
            assert abs(height * width - 16) <= 6
    filled = sum(bool(s.sum() == s.any(1).sum() * s.any(0).sum()) for s in masked)
    assert filled > 250


def test_no_sample_needs_more_rounds_than_there_are() -> None:
    draws = random.Random(1)
    assert max(len(plain_blocks(V1, 75, 14, 14, draws)) for _ in range(3000)) < ROUNDS / 1.5


def test_the_order_begins_with_the_blocks_and_is_random_otherwise() -> None:
    order, counts = block_order(V1, 75, 300, (14, 14), generator(2))
    masked = draw_blocks(V1, 75, 300, (14, 14), generator(2)).flatten(1)
    assert torch.equal(order.sort(1).values, torch.arange(196).expand(300, 196))
    assert torch.equal(counts, masked.sum(1))
    first = torch.arange(196) < counts[:, None]
    assert torch.equal(masked.gather(1, order), first)
    short = counts < 75
    assert short.any()
    added = order[short][torch.arange(196) == counts[short][:, None]]
    assert len(added.unique()) > 40


def test_equal_generators_give_equal_masks_whatever_the_other_samples() -> None:
    one, other = (draw_blocks(V1, 75, 8, (14, 14), generator(seed)) for seed in (3, 3))
    assert torch.equal(one, other)
    assert not torch.equal(one, draw_blocks(V1, 75, 8, (14, 14), generator(4)))


def test_a_grid_that_no_block_fits_stays_as_it_is() -> None:
    assert not draw_blocks(BlockSpec(smallest=9), 9, 4, (3, 3), generator()).any()
