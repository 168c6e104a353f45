"""The geometry of TokenAdapt against its formulas, at two resolutions, and its rates (S16, S22)."""

import math

import pytest
import torch

from tokexp.augment import geometry
from tokexp.augment.geometry import GeometryDraw
from tokexp.spec.augment import Geometry


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def fixed(count=1, flip=False, rotate=0.0, shift=(0.0, 0.0), shear=(0.0, 0.0), each=False) -> GeometryDraw:
    return GeometryDraw(
        flip=torch.full((count,), flip),
        rotate=torch.full((count,), rotate),
        shift=torch.tensor([shift]).expand(count, 2),
        shear=torch.tensor([shear]).expand(count, 2),
        affine=True,
        crop=None,
        each=each,
    )


def bilinear(image, x, y):
    """Read an image (H, W) at real places with zeros outside."""
    height, width = image.shape
    total = 0.0
    for row in (math.floor(y), math.floor(y) + 1):
        for column in (math.floor(x), math.floor(x) + 1):
            if 0 <= row < height and 0 <= column < width:
                total += float(image[row, column]) * (1 - abs(y - row)) * (1 - abs(x - column))
    return total


def warped(image, forward):
    """Move every point by `forward` ((x, y) from the centre to (x, y)), a 2 x 3 map, by reading backwards."""
    height, width = image.shape
    matrix = torch.tensor([*forward, [0.0, 0.0, 1.0]], dtype=torch.float64)
    back = torch.linalg.inv(matrix)
    found = torch.zeros_like(image)
    for row in range(height):
        for column in range(width):
            place = torch.tensor([column - (width - 1) / 2, row - (height - 1) / 2, 1.0], dtype=torch.float64)
            x, y, _ = (back @ place).tolist()
            found[row, column] = bilinear(image, x + (width - 1) / 2, y + (height - 1) / 2)
    return found


IMAGE = torch.rand(7, 9, generator=seeded(5))
TURN = math.radians(20)


@pytest.mark.parametrize(
    ("change", "forward"),
    [
        ({"rotate": 20.0}, [[math.cos(TURN), -math.sin(TURN), 0], [math.sin(TURN), math.cos(TURN), 0]]),
        ({"shift": (0.15, 0.0)}, [[1, 0, 0.15 * 9], [0, 1, 0]]),
        ({"shift": (0.0, -0.1)}, [[1, 0, 0], [0, 1, -0.1 * 9]]),
        ({"shear": (12.0, 0.0)}, [[1, -math.tan(math.radians(12)), 0], [0, 1, 0]]),
        ({"shear": (0.0, 12.0)}, [[1, 0, 0], [-math.tan(math.radians(12)), 1, 0]]),
    ],
)
def test_each_member_moves_points_as_its_formula_says(change, forward):
    found = geometry.apply(IMAGE[None, None], fixed(**change), (7, 9))[0, 0]
    assert torch.allclose(found, warped(IMAGE, forward), atol=1e-5)


def test_the_members_are_composed_in_their_order():
    turn = torch.tensor([[math.cos(TURN), -math.sin(TURN), 0], [math.sin(TURN), math.cos(TURN), 0], [0, 0, 1]])
    shift = torch.tensor([[1, 0, 0.1 * 9], [0, 1, 0.05 * 9], [0, 0, 1.0]])
    lean = [torch.eye(3), torch.eye(3)]
    lean[0][0, 1], lean[1][1, 0] = -math.tan(math.radians(5)), -math.tan(math.radians(9))
    whole = lean[1] @ lean[0] @ shift @ turn
    drawn = fixed(rotate=20.0, shift=(0.1, 0.05), shear=(5.0, 9.0))
    found = geometry.apply(IMAGE[None, None], drawn, (7, 9))[0, 0]
    assert torch.allclose(found, warped(IMAGE, whole[:2].tolist()), atol=1e-5)


def test_the_flip_comes_first():
    found = geometry.apply(IMAGE[None, None], fixed(flip=True, shift=(1 / 9, 0.0)), (7, 9))[0, 0]
    expected = torch.cat([torch.zeros(7, 1), IMAGE.flip(1)[:, :-1]], dim=1)
    assert torch.allclose(found, expected, atol=1e-5)


def test_each_resamples_member_by_member_and_shifts_by_whole_cells():
    drawn = fixed(rotate=20.0, shift=(0.15, 0.0), each=True)
    turned = warped(IMAGE, [[math.cos(TURN), -math.sin(TURN), 0], [math.sin(TURN), math.cos(TURN), 0]])
    expected = torch.cat([torch.zeros(7, 1), turned[:, :-1]], dim=1)
    assert torch.allclose(geometry.apply(IMAGE[None, None], drawn, (7, 9))[0, 0], expected, atol=1e-5)


def test_a_map_that_nothing_was_drawn_for_keeps_every_bit():
    values = torch.randn(3, 2, 7, 9, generator=seeded())
    for each in (False, True):
        assert torch.equal(geometry.apply(values, fixed(3, each=each), (7, 9)), values)


def test_the_same_draw_shows_the_same_picture_in_pixels_and_in_a_coarser_space():
    y, x = torch.meshgrid(torch.linspace(-1, 1, 128), torch.linspace(-1, 1, 128), indexing="ij")
    picture = (torch.sin(3 * x + 1) + torch.cos(4 * y))[None, None].expand(40, 1, 128, 128)
    coarse = torch.nn.functional.avg_pool2d(picture, 4)
    drawn = geometry.draw(Geometry(rrc=(0.3, 1.0)), 40, seeded())
    fine = geometry.apply(picture, drawn, (112, 112))
    small = geometry.apply(coarse, drawn, (28, 28))
    difference = (torch.nn.functional.avg_pool2d(fine, 4) - small).abs()
    # Beside the edge of the zero fill, what differs is the smoothing; a shift of one coarse cell would be 0.1.
    assert (difference > 0.1).float().mean() < 0.04
    assert difference.median() < 0.01


def test_members_are_drawn_within_their_bounds_at_a_quarter_each():
    drawn = geometry.draw(Geometry(), 20000, seeded())
    members = torch.cat([drawn.rotate[:, None], drawn.shift, drawn.shear], dim=1)
    assert ((members != 0).float().mean(0) - 0.25).abs().max() < 0.015
    assert abs((members == 0).all(1).float().mean() - (0.5 + 0.5 / 32)) < 0.015
    assert abs(drawn.flip.float().mean() - 0.5) < 0.015
    bounds = torch.tensor([30.0, 0.2, 0.2, 15.0, 15.0])
    assert (members.amax(0) <= bounds).all()
    assert (members.amax(0) > 0.98 * bounds).all()
    assert (members.amin(0) < -0.98 * bounds).all()


def test_released_shear_is_positive_only():
    shear = geometry.draw(Geometry(shear_sign="positive"), 5000, seeded()).shear
    assert shear.min() == 0
    assert shear.max() > 14.5
    assert abs(shear[shear > 0].mean() - 7.5) < 0.3


def test_per_batch_all_maps_share_flip_and_affine_and_each_has_its_own_box():
    drawn = geometry.draw(Geometry(scope="per_batch", affine=1.0, member=1.0), 8, seeded())
    assert len(drawn.rotate.unique()) == len(drawn.flip.unique()) == 1
    assert len(drawn.shift.unique(dim=0)) == len(drawn.shear.unique(dim=0)) == 1
    assert len(drawn.crop.area[:, 0].unique()) == 8
    flips = [bool(geometry.draw(Geometry(scope="per_batch"), 4, seeded(seed)).flip[0]) for seed in range(50)]
    assert 10 < sum(flips) < 40


def test_per_sample_every_map_has_its_own_numbers():
    drawn = geometry.draw(Geometry(affine=1.0, member=1.0), 8, seeded())
    assert len(drawn.rotate.unique()) == 8


def test_without_a_crop_the_middle_is_taken():
    values = torch.randn(2, 3, 8, 8, generator=seeded())
    drawn = geometry.draw(Geometry(hflip=0.0, affine=0.0, rrc=None), 2, seeded())
    assert torch.equal(geometry.apply(values, drawn, (4, 4)), values[..., 2:6, 2:6])
