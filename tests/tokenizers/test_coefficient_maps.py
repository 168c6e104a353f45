"""How levels lie in the stored grid, and what vectors they make."""

import pytest
import torch

from tokexp.errors import DamagedError
from tokexp.tokenizers.coefficient_maps import CoefficientBook, CoefficientLayout, book_of, coefficient_steps
from tokexp.tokenizers.jpeg_tables import steps

NOTE = {
    "levels": 8, "block": 8, "quality": 50, "luma": 3, "chroma": 2, "half": True, "scale": "deviation",
    "deviations": [40.0, 20.0, 10.0, 8.0, 4.0, 8.0, 4.0],
}  # fmt: skip
LAYOUTS = [CoefficientLayout(5, 0, False), CoefficientLayout(3, 2, False), CoefficientLayout(3, 3, True)]


def stored_grid(layout: CoefficientLayout, rows: int, columns: int) -> tuple[int, int]:
    places = rows // 2 if layout.half else 2 * rows
    return rows * layout.luma + places * layout.chroma, columns


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_stored_number_comes_back_to_its_place(layout: CoefficientLayout) -> None:
    stored = torch.arange(2 * 6 * 4 * 20).view(-1)[: 2 * stored_grid(layout, 6, 4)[0] * 4].view(2, -1, 4)
    assert layout.map_grid((stored.shape[1], 4)) == (6, 4)
    maps = layout.unfold(stored)
    assert maps.shape == (2, layout.channels, 6, 4)
    assert torch.equal(layout.fold(maps), stored)
    assert torch.equal(maps[:, 0], stored[:, :6])


def test_colour_of_half_resolution_stands_in_pairs_and_is_read_for_four_places() -> None:
    layout = CoefficientLayout(1, 2, True)
    stored = torch.zeros(1, 4 + 2 + 2, 4, dtype=torch.long)
    stored[0, 4:6] = torch.tensor([[1, 2, 11, 12], [3, 4, 13, 14]])  # first coefficient: one colour left, one right
    stored[0, 6:8] = 5
    maps = layout.unfold(stored)[0]
    assert maps[1].tolist() == [[1, 1, 2, 2], [1, 1, 2, 2], [3, 3, 4, 4], [3, 3, 4, 4]]
    assert maps[3].tolist() == [[11, 11, 12, 12], [11, 11, 12, 12], [13, 13, 14, 14], [13, 13, 14, 14]]
    assert (maps[2] == 5).all()
    assert (maps[4] == 5).all()


def test_embeddings_are_levels_times_the_step_over_the_deviation() -> None:
    book = book_of(torch.arange(-4.0, 4.0)[:, None], NOTE)
    indices = torch.full((1, 7, 2, 2), 5)  # level 1
    luma, chroma = steps(50).flatten(), steps(50, chroma=True).flatten()
    worth = [luma[0], luma[1], luma[8], chroma[0], chroma[1], chroma[0], chroma[1]]
    expected = [float(step) / deviation for step, deviation in zip(worth, NOTE["deviations"], strict=True)]  # type: ignore[call-overload]
    assert book.lookup(indices)[0, :, 0, 0].tolist() == pytest.approx(expected)
    assert book.width == 7
    assert book.spread.flatten().tolist() == [1.0] * 7


def test_the_nearest_level_in_use_is_found_for_every_coefficient() -> None:
    layout = CoefficientLayout(2, 0, False)
    book = CoefficientBook(
        torch.tensor([[-3.0], [0.0], [1.0], [4.0]]), layout, torch.tensor([1.0, 10.0]), torch.ones(2)
    )
    values = torch.tensor([[-9.0, -1.4, 0.6, 2.4, 2.6, 99.0], [-16.0, -14.0, 4.0, 6.0, 24.0, 26.0]])[None, :, None]
    assert book.nearest(values)[0, :, 0].tolist() == [[0, 1, 2, 2, 3, 3], [0, 1, 1, 2, 2, 3]]
    assert torch.equal(book.nearest(book.lookup(torch.randint(4, (3, 2, 5, 5)) * 1)).unique(), torch.arange(4))


def test_steps_stand_in_the_order_of_the_layout() -> None:
    found = coefficient_steps(CoefficientLayout(3, 1, False), 50, 8)
    assert found.tolist() == [16, 11, 12, 17, 17]


@pytest.mark.parametrize("wrong", [{"luma": None}, {"deviations": [1.0]}, {"quality": "high"}])
def test_a_note_that_makes_no_sense_is_said_to_be_damaged(wrong: dict[str, object]) -> None:
    with pytest.raises(DamagedError, match="coefficients"):
        book_of(torch.zeros(2, 1), {**NOTE, **wrong})
