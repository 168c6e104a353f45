import math

import pytest
import torch

from tokexp.models.positions import sincos_positions


def test_the_table_has_a_row_of_zeros_for_the_class_token_and_one_row_a_patch() -> None:
    table = sincos_positions((3, 5), 16)
    assert table.shape == (1, 16, 16)
    assert table.dtype == torch.float32
    assert torch.equal(table[0, 0], torch.zeros(16))


@pytest.mark.parametrize(("row", "column"), [(0, 0), (2, 4), (1, 3)])
def test_each_entry_follows_the_formula_with_the_column_in_the_first_half(row: int, column: int) -> None:
    rows, columns, width = 3, 5, 16
    found = sincos_positions((rows, columns), width)[0, 1 + row * columns + column]
    expected = []
    for place in (column, row):
        angles = [place / 10000 ** (i / (width / 4)) for i in range(width // 4)]
        expected += [math.sin(angle) for angle in angles] + [math.cos(angle) for angle in angles]
    torch.testing.assert_close(found, torch.tensor(expected))


def test_a_width_that_is_no_multiple_of_four_is_refused() -> None:
    with pytest.raises(ValueError, match="multiple of 4"):
        sincos_positions((2, 2), 6)
