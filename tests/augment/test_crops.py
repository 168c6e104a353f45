"""The crop against its definition: cut the box out, then resize bicubically; and the law of its boxes (S5 to S8)."""

import math

import pytest
import torch
from torch.nn import functional as F

from tokexp.augment.base import AugmentContext
from tokexp.augment.crops import boxes, centre_crop, crop_taps, draw_crops, random_resized_crop, resample
from tokexp.augment.token_rrc import TokenRrc
from tokexp.data.base import Batch
from tokexp.spec import augment as spec
from tokexp.tokenizers.base import Codebook

SCALE, RATIO = (0.08, 1.0), (0.75, 4 / 3)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def crop_then_resize(values: torch.Tensor, box: torch.Tensor, out: tuple[int, int]) -> torch.Tensor:
    parts = []
    for sample, place in zip(values, box.int().tolist(), strict=True):
        top, left, height, width = place
        part = sample[None, :, top : top + height, left : left + width]
        parts.append(F.interpolate(part, out, mode="bicubic", align_corners=False))
    return torch.cat(parts)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
@pytest.mark.parametrize(("size", "out"), [((32, 32), (28, 28)), ((4, 4), (4, 4)), ((12, 20), (9, 15))])
def test_a_whole_box_equals_cropping_first_and_resizing_then(dtype, tolerance, size, out):
    values = torch.randn(16, 5, *size, generator=seeded(), dtype=dtype)
    box = boxes(draw_crops(16, SCALE, RATIO, seeded(1)), *size)
    found = resample(values, *crop_taps(box, size, out, dtype))
    assert found.shape == (16, 5, *out)
    assert (found - crop_then_resize(values, box, out)).abs().max() < tolerance


def test_lookup_before_the_crop_equals_the_one_hot_way():
    codebook = Codebook(torch.randn(64, 8, generator=seeded()))
    indices = torch.randint(64, (6, 16, 16), generator=seeded(1))
    batch = Batch(torch.zeros(6, dtype=torch.long), 2, indices=indices)
    step = TokenRrc(spec.TokenRrc(kind="token_rrc"), AugmentContext((14, 14), codebook))
    found = step(batch, seeded(2)).values
    box = boxes(draw_crops(6, SCALE, RATIO, seeded(2)), 16, 16)
    one_hot = crop_then_resize(F.one_hot(indices, 64).permute(0, 3, 1, 2).float(), box, (14, 14))
    expected = torch.einsum("bkhw,kd->bdhw", one_hot, codebook.codes)
    assert (found - expected).abs().max() < 1e-5


def test_token_rrc_gives_the_same_before_and_after_lookup():
    codebook = Codebook(torch.randn(64, 8, generator=seeded()))
    batch = Batch(torch.zeros(6, dtype=torch.long), 2, indices=torch.randint(64, (6, 16, 16), generator=seeded(1)))
    step = TokenRrc(spec.TokenRrc(kind="token_rrc"), AugmentContext((14, 14), codebook))
    after = step(batch.with_values(codebook.lookup(batch.indices)), seeded(2))
    assert torch.equal(step(batch, seeded(2)).values, after.values)


def test_a_crop_of_everything_to_the_same_size_changes_no_bit():
    values = torch.randn(3, 4, 9, 7, generator=seeded())
    everything = torch.tensor([[0.0, 0.0, 9.0, 7.0]]).expand(3, 4)
    assert torch.equal(resample(values, *crop_taps(everything, (9, 7), (9, 7))), values)


def test_boxes_keep_to_their_area_and_aspect_and_lie_on_the_map():
    draw = draw_crops(4000, (0.2, 0.7), RATIO, seeded())
    box = boxes(draw, 64, 64)
    top, left, height, width = box.T
    assert torch.equal(box, box.round())
    assert (top >= 0).all()
    assert (left >= 0).all()
    assert (top + height <= 64).all()
    assert (left + width <= 64).all()
    # Rounding moves a side of at least 24 by at most half a cell.
    assert (height * width / 4096).min() > 0.2 * 0.95
    assert (height * width / 4096).max() < 0.7 * 1.05
    assert (width / height).min() > 0.75 * 0.95
    assert (width / height).max() < 4 / 3 * 1.05


def test_areas_are_uniform_and_aspects_log_uniform():
    # Below half of the area a box of any allowed aspect fits, so the first try always counts.
    box = boxes(draw_crops(20000, (0.1, 0.5), RATIO, seeded()), 512, 512).double()
    share = (box[:, 2] * box[:, 3] / 512**2 - 0.1) / 0.4
    tilt = ((box[:, 3] / box[:, 2]).log() - math.log(0.75)) / math.log(16 / 9)
    for numbers in (share, tilt):
        histogram = torch.histc(numbers.clamp(0, 1), 10, 0, 1) / 20000
        assert (histogram - 0.1).abs().max() < 0.012


def test_corners_are_uniform_over_all_legal_places():
    box = boxes(draw_crops(30000, (0.25, 0.25), (1.0, 1.0), seeded()), 8, 8)
    assert (box[:, 2:] == 4).all()
    seen = torch.bincount((box[:, 0] * 5 + box[:, 1]).long(), minlength=25) / 30000
    assert (seen - 1 / 25).abs().max() < 0.006


@pytest.mark.parametrize(("size", "sides"), [((4, 40), (4, 5)), ((40, 4), (5, 4)), ((10, 10), (10, 10))])
def test_where_no_try_fits_the_box_is_central_and_within_the_aspect_bounds(size, sides):
    draw = draw_crops(5, (50.0, 50.0), RATIO, seeded())
    box = boxes(draw, *size)
    height, width = sides
    expected = [(size[0] - height) // 2, (size[1] - width) // 2, height, width]
    assert box.tolist() == [expected] * 5


def test_the_first_try_that_fits_is_taken():
    draw = draw_crops(1, SCALE, (1.0, 1.0), seeded())
    draw.area[0] = torch.tensor([4.0, 3.0, 0.25, 0.5, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0])
    assert boxes(draw, 8, 8)[0, 2:].tolist() == [4, 4]


def test_a_real_box_shows_the_same_part_of_the_picture_at_every_resolution():
    draw = draw_crops(50, SCALE, RATIO, seeded())
    small, large = boxes(draw, 16, 16, whole=False), boxes(draw, 64, 64, whole=False)
    assert torch.allclose(small * 4, large, atol=1e-4)


def test_a_real_box_of_a_linear_ramp_reads_the_ramp():
    ramp = torch.arange(32.0).expand(1, 1, 32, 32)
    box = torch.tensor([[8.3, 10.6, 12.0, 8.4]])
    found = resample(ramp, *crop_taps(box, (32, 32), (6, 6)))
    expected = 10.6 + (torch.arange(6) + 0.5) * 8.4 / 6 - 0.5
    # Away from the border, which is replicated, a straight line stays within 0.03 of itself (a = -0.75).
    assert torch.allclose(found[0, 0, 3, 2:4], expected[2:4], atol=0.04)


def test_a_box_thinner_than_a_cell_gives_that_cell():
    ramp = torch.arange(4.0).expand(1, 1, 4, 4)
    found = resample(ramp, *crop_taps(torch.tensor([[0.0, 2.6, 4.0, 0.2]]), (4, 4), (2, 2)))
    assert torch.allclose(found, torch.full_like(found, 2.0))


def test_autocast_does_not_lower_the_precision():
    values = torch.randn(4, 3, 8, 8, generator=seeded())
    plain = random_resized_crop(values, SCALE, RATIO, (8, 8), seeded(1))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(random_resized_crop(values, SCALE, RATIO, (8, 8), seeded(1)), plain)


def test_the_centre_crop_drops_as_much_on_each_side():
    maps = torch.arange(32 * 32).view(32, 32)
    assert torch.equal(centre_crop(maps, (28, 28)), maps[2:30, 2:30])
    with pytest.raises(ValueError, match="4 x 4 cannot be cropped to the 8 x 8"):
        centre_crop(torch.zeros(1, 4, 4), (8, 8))
