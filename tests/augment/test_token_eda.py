"""Token-EDA's rates, synonyms and exchanges (S9, S10), and the rows of its tables."""

import math

import pytest
import torch

from tokexp.augment.base import AugmentContext
from tokexp.augment.token_eda import TokenEda, displacement_weights, synonym_table
from tokexp.data.base import Batch
from tokexp.spec import augment as spec
from tokexp.tokenizers.base import Codebook

CODES = torch.randn(50, 6, generator=torch.Generator().manual_seed(0))


def eda(**fields):
    return TokenEda(spec.TokenEda(kind="token_eda", **fields), AugmentContext((32, 32), Codebook(CODES)))


def swapping(**fields):
    codebook = Codebook(torch.randn(1024, 2, generator=torch.Generator().manual_seed(0)))
    step = spec.TokenEda(kind="token_eda", synonym=0.0, swap=1.0, **fields)
    return TokenEda(step, AugmentContext((32, 32), codebook))


def unique_tokens(count: int, side: int) -> Batch:
    indices = torch.arange(side * side).view(1, side, side).repeat(count, 1, 1)
    return Batch(torch.zeros(count, dtype=torch.long), 2, indices=indices)


def run(step, batch, seed=0):
    return step(batch, torch.Generator().manual_seed(seed)).indices


def test_a_quarter_of_the_images_gets_synonyms_a_quarter_an_exchange_and_half_stays():
    indices = torch.randint(50, (4000, 16, 16), generator=torch.Generator().manual_seed(1))
    batch = Batch(torch.zeros(4000, dtype=torch.long), 2, indices=indices)
    changed = run(eda(), batch)
    same = (changed == indices).flatten(1).all(1).float().mean()
    reordered = (changed.flatten(1).sort(1).values == indices.flatten(1).sort(1).values).all(1)
    # Of the exchanges a quarter is empty (side 0 of 0..3), and some overlap; synonyms never keep the multiset.
    assert abs(same - (0.5 + 0.25 / 4)) < 0.03
    assert abs((~reordered).float().mean() - 0.25) < 0.04


def test_synonyms_change_a_quarter_of_the_tokens_and_only_to_listed_neighbours():
    indices = torch.randint(50, (200, 16, 16), generator=torch.Generator().manual_seed(1))
    batch = Batch(torch.zeros(200, dtype=torch.long), 2, indices=indices)
    step = eda(synonym=1.0, swap=0.0)
    changed = run(step, batch)
    moved = changed != indices
    # No code lists itself, so every replacement shows.
    assert abs(moved.float().mean() - 0.25) < 0.01
    listed = (step.table[indices] == changed[..., None]).any(-1)
    assert listed[moved].all()
    entry = (step.table[indices] == changed[..., None]).int().argmax(-1)[moved]
    assert (torch.bincount(entry, minlength=5) / len(entry) - 0.2).abs().max() < 0.02


def test_cosine_neighbours_are_those_of_the_largest_cosine_and_never_the_code_itself():
    table = synonym_table(Codebook(CODES), 5, "cosine")
    for code in range(50):
        cosine = [float(CODES[code] @ other / (CODES[code].norm() * other.norm())) for other in CODES]
        order = sorted((k for k in range(50) if k != code), key=lambda k: -cosine[k])
        assert table[code].tolist() == order[:5]


def test_the_tokenizers_metric_tells_collinear_codes_apart():
    codes = torch.tensor([[1.0, 0.0], [10.0, 0.0], [1.0, 0.5], [9.0, 4.0]])
    assert synonym_table(Codebook(codes), 1, "cosine")[0].item() == 1
    assert synonym_table(Codebook(codes), 1, "euclidean")[0].item() == 2
    step = spec.TokenEda(kind="token_eda", metric="tokenizer", neighbours=1)
    assert TokenEda(step, AugmentContext((4, 4), Codebook(codes))).table[0].item() == 2


def test_a_code_of_norm_zero_is_the_last_neighbour_and_has_the_nearest_ones_by_distance():
    codes = torch.tensor([[0.0, 0.0], [3.0, 0.0], [0.0, 1.0], [-1.0, -1.0]])
    table = synonym_table(Codebook(codes), 3, "cosine")
    assert table[0].tolist() == [2, 3, 1]
    assert (table[1:, -1] == 0).all()


def test_neighbours_do_not_depend_on_how_many_are_searched_at_once(monkeypatch):
    expected = [synonym_table(Codebook(CODES), 5, metric) for metric in ("cosine", "euclidean")]
    monkeypatch.setattr("tokexp.augment.token_eda.CHUNK", 7)
    assert torch.equal(synonym_table(Codebook(CODES), 5, "cosine"), expected[0])
    assert torch.equal(synonym_table(Codebook(CODES), 5, "euclidean"), expected[1])


def test_fewer_codes_than_neighbours_give_shorter_lists():
    assert synonym_table(Codebook(CODES[:3]), 5, "cosine").shape == (3, 2)
    assert synonym_table(Codebook(CODES[:1]), 5, "cosine").tolist() == [[0]]


def moved_blocks(side: int, count: int):
    """Return images of distinct tokens after an exchange, and which of their cells changed."""
    batch = unique_tokens(count, side)
    changed = run(swapping(), batch)
    return changed, changed != batch.indices


def test_exchanged_blocks_have_sides_0_to_7_equally_often_on_a_grid_of_32():
    _, moved = moved_blocks(32, 4000)
    cells = moved.flatten(1).sum(1)
    for side in range(8):
        # Overlapping exchanges (under 1 %) change fewer or other cells, so the count is a little low.
        share = (cells == 2 * side * side).float().mean()
        assert 0.125 - 0.03 < share < 0.125 + 0.02, side


def test_exchanges_that_do_not_overlap_keep_the_multiset_and_swap_two_squares():
    changed, moved = moved_blocks(32, 500)
    places = torch.arange(1024).view(32, 32)
    swapped = 0
    for image, cells in zip(changed, moved, strict=True):
        kept = torch.equal(image.flatten().sort().values, places.flatten())
        if not cells.any() or not kept:
            continue
        # The token now at p came from q, and the token now at q came from p.
        assert torch.equal(image.flatten()[image.flatten()], places.flatten())
        shift = (image - places)[cells].abs().unique()
        assert len(shift) == 1
        swapped += 1
    assert swapped > 400


def test_where_blocks_overlap_the_second_write_stays_and_every_block_shows_what_the_original_held():
    step = swapping()
    first, second = torch.tensor([[0, 0]]), torch.tensor([[2, 2]])
    step._blocks = lambda *_: (torch.tensor([3]), first, second)
    batch = unique_tokens(1, 8)
    image, original = run(step, batch)[0], batch.indices[0]
    assert torch.equal(image[2:5, 2:5], original[0:3, 0:3])
    assert image[0, 0] == original[2, 2]
    assert image[1, 2] == original[3, 4]


@pytest.mark.parametrize(("height", "width", "scale"), [(8, 8, 0.5), (6, 9, 0.5), (4, 4, 0.5), (3, 3, 0.5)])
def test_displacements_are_weighted_by_the_number_of_legal_corner_pairs(height, width, scale):
    table = displacement_weights(height, width, scale)
    assert len(table) == math.ceil(min(height, width) * scale)
    for side, weights in enumerate(table):
        expected = torch.zeros(2 * height - 1, 2 * width - 1)
        corners = [(r, c) for r in range(height - side) for c in range(width - side)]
        for a in corners:
            for b in corners:
                if math.dist(a, b) > side:
                    expected[b[0] - a[0] + height - 1, b[1] - a[1] + width - 1] += 1
        assert torch.equal(weights.view(2 * height - 1, -1), expected)


def test_corners_follow_the_law_of_redrawing_until_they_are_far_enough_apart():
    step = swapping()
    side, first, second = step._blocks(60000, 8, 8, torch.Generator().manual_seed(0))
    chosen = side == 1
    pairs = torch.cat([first, second], dim=1)[chosen]
    assert pairs.min() == 0
    assert pairs.max() == 6
    legal = [
        (a, b, c, d)
        for a in range(7) for b in range(7) for c in range(7) for d in range(7)
        if (a - c) ** 2 + (b - d) ** 2 > 1
    ]  # fmt: skip
    code = (pairs * torch.tensor([343, 49, 7, 1])).sum(1)
    seen = torch.bincount(code, minlength=7**4).float()
    allowed = torch.zeros(7**4, dtype=torch.bool)
    allowed[[343 * a + 49 * b + 7 * c + d for a, b, c, d in legal]] = True
    assert seen[~allowed].sum() == 0
    mean = len(pairs) / len(legal)
    chi_square = ((seen[allowed] - mean).square() / mean).sum() / len(legal)
    assert 0.85 < chi_square < 1.15


def test_a_grid_of_one_token_is_left_alone():
    batch = Batch(torch.zeros(5, dtype=torch.long), 2, indices=torch.full((5, 1, 1), 7))
    assert torch.equal(run(swapping(), batch), batch.indices)


def test_tokens_that_were_looked_up_are_refused():
    batch = Batch(torch.zeros(2, dtype=torch.long), 2, values=torch.zeros(2, 6, 4, 4))
    with pytest.raises(ValueError, match="must stand before"):
        run(eda(), batch)
    with pytest.raises(ValueError, match="reads pixels"):
        TokenEda(spec.TokenEda(kind="token_eda"), AugmentContext((4, 4)))
