from itertools import product

import pytest
import torch

from tokexp.spec.tokenizers import EmaQuantizer, FsqQuantizer, LfqQuantizer
from tokexp.tokenizers.quantizers import EmaCodes, FiniteScalar, SignBits, build_quantizer


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def ema(**fields: float) -> EmaCodes:
    made = EmaCodes(EmaQuantizer(**{"kind": "ema", "codebook_size": 4, "code_dim": 2, "restart_below": 0.0} | fields))
    return made.train()


def features(seed: int, count: int = 6) -> torch.Tensor:
    return torch.randn(count, 2, 3, 3, generator=draws(seed))


def rows(values: torch.Tensor) -> torch.Tensor:
    return values.permute(0, 2, 3, 1).reshape(-1, values.shape[1])


def test_codes_start_as_features_of_the_first_batch() -> None:
    quantizer, batch = ema(), features(0)
    quantizer(batch, draws())
    distances = (quantizer.codes[:, None] - rows(batch)).abs().sum(2).min(1).values
    assert torch.equal(distances, torch.zeros(4))
    assert len(quantizer.codes.unique(dim=0)) == 4


def test_a_batch_smaller_than_the_codebook_fills_it() -> None:
    quantizer = ema(codebook_size=50)
    quantizer(features(0, 1), draws())
    assert len(quantizer.codes.unique(dim=0)) == 9


def test_the_update_is_the_formula_of_the_paper() -> None:
    quantizer = ema(decay=0.9)
    quantizer(features(0), draws())
    quantizer.update()
    for step in range(1, 4):
        counts, sums, codes = quantizer.counts.clone(), quantizer.sums.clone(), quantizer.codes.clone()
        batch = features(step)
        quantizer(batch, draws(step))
        quantizer.update()
        vectors = rows(batch)
        places = torch.cdist(vectors, codes).argmin(1)
        for code in range(4):
            chose = vectors[places == code]
            count = 0.9 * counts[code] + 0.1 * len(chose)
            total = 0.9 * sums[code] + 0.1 * chose.sum(0)
            assert quantizer.counts[code] == pytest.approx(float(count), rel=1e-5)
            assert torch.allclose(quantizer.codes[code], total / count, atol=1e-5)


def test_micro_batches_of_an_update_count_as_one() -> None:
    whole, cut = ema(), ema()
    for quantizer in (whole, cut):
        quantizer(features(0), draws())
        quantizer.update()
    batch = features(1)
    whole(batch, draws(1))
    for part in batch.chunk(3):
        cut(part, draws(1))
    whole.update()
    cut.update()
    assert torch.allclose(whole.codes, cut.codes, atol=1e-6)
    assert torch.allclose(whole.counts, cut.counts, atol=1e-5)


def test_a_code_that_is_hardly_used_becomes_a_feature_of_the_batch() -> None:
    quantizer = ema(restart_below=0.5, decay=0.5)
    quantizer(features(0), draws())
    quantizer.update()
    quantizer.codes[2] = 100.0
    quantizer.sums[2], quantizer.counts[2] = 100.0, 0.6
    batch = features(1)
    quantizer(batch, draws(1))
    quantizer.update()
    assert (rows(batch) - quantizer.codes[2]).abs().sum(1).min() == 0
    assert quantizer.counts[2] >= 0.5


def test_without_restarts_an_unused_code_stays_where_it_is() -> None:
    quantizer = ema(decay=0.5)
    quantizer(features(0), draws())
    quantizer.update()
    quantizer.codes[2], quantizer.sums[2], quantizer.counts[2] = 100.0, 100.0, 1.0
    for step in range(60):
        quantizer(features(step), draws(step))
        quantizer.update()
    assert quantizer.codes[2].tolist() == pytest.approx([100.0, 100.0])


def test_the_gradient_passes_straight_through_and_commitment_pulls() -> None:
    quantizer, batch = ema(commitment=0.25), features(0).requires_grad_()
    quantizer(features(1), draws())
    out = quantizer(batch, draws())
    (straight,) = torch.autograd.grad(out.values.sum(), batch, retain_graph=True)
    assert torch.equal(straight, torch.ones_like(batch))
    (pull,) = torch.autograd.grad(out.loss, batch)
    codes = quantizer.codes[out.indices].permute(0, 3, 1, 2)
    assert torch.allclose(pull, 0.25 * 2 * (batch.detach() - codes) / batch.numel(), atol=1e-7)
    assert torch.allclose(out.values, codes, atol=1e-6)


def test_evaluation_changes_no_state() -> None:
    quantizer = ema()
    quantizer(features(0), draws())
    quantizer.update()
    before = {name: value.clone() for name, value in quantizer.state_dict().items()}
    quantizer.eval()
    quantizer(features(1), draws())
    quantizer.update()
    quantizer.train().indices(features(2))
    quantizer.update()
    assert all(torch.equal(before[name], value) for name, value in quantizer.state_dict().items())


def test_a_loaded_state_goes_on_as_the_original() -> None:
    one, other = ema(), ema()
    one(features(0), draws())
    one.update()
    other.load_state_dict(one.state_dict())
    for quantizer in (one, other):
        quantizer(features(1), draws(1))
        quantizer.update()
    assert torch.equal(one.codes, other.codes)


LEVELS = [(8, 8), (5, 5, 5), (2, 2), (3,), (4, 3, 2), (7, 64)]


@pytest.mark.parametrize("levels", LEVELS)
def test_indices_and_codes_of_fsq_belong_to_each_other(levels: tuple[int, ...]) -> None:
    quantizer = FiniteScalar(FsqQuantizer(kind="fsq", levels=levels))
    digits = [tuple(reversed(place)) for place in product(*(range(level) for level in reversed(levels)))]
    expected = [[(d - n // 2) / (n // 2) for d, n in zip(row, levels, strict=True)] for row in digits]
    assert torch.allclose(quantizer.codebook(), torch.tensor(expected))


@pytest.mark.parametrize("levels", LEVELS)
def test_every_code_of_fsq_is_reached_and_found_again(levels: tuple[int, ...]) -> None:
    quantizer = FiniteScalar(FsqQuantizer(kind="fsq", levels=levels))
    line = torch.linspace(-9, 9, 4001)
    for dim, level in enumerate(levels):
        batch = torch.zeros(1, len(levels), 1, 4001)
        batch[0, dim, 0] = line
        out = quantizer(batch, draws())
        assert len(out.values[0, dim].unique()) == level
        assert torch.equal(quantizer.codebook()[out.indices].permute(0, 3, 1, 2), out.values)
        assert torch.equal(quantizer.indices(batch), out.indices)


@pytest.mark.parametrize("level", [5, 8])
def test_fsq_rounds_as_the_paper_writes(level: int) -> None:
    quantizer = FiniteScalar(FsqQuantizer(kind="fsq", levels=(level,)))
    values = torch.linspace(-3, 3, 50)
    half = (level - 1) * 1.001 / 2
    offset = 0.5 if level % 2 == 0 else 0.0
    shift = torch.atanh(torch.tensor(offset / half))
    expected = (torch.tanh(values + shift) * half - offset).round() / (level // 2)
    assert torch.allclose(quantizer(values.view(1, 1, 1, -1), draws()).values.flatten(), expected)


def test_zero_is_a_code_of_fsq_and_gets_a_gradient() -> None:
    quantizer = FiniteScalar(FsqQuantizer(kind="fsq", levels=(8, 5)))
    batch = torch.zeros(1, 2, 1, 1, requires_grad=True)
    out = quantizer(batch, draws())
    assert out.values.flatten().tolist() == [0.0, 0.0]
    out.values.sum().backward()
    assert batch.grad is not None
    assert (batch.grad > 0.1).all()
    assert float(out.loss) == 0


def test_fsq_stores_nothing() -> None:
    assert build_quantizer(FsqQuantizer(kind="fsq")).state_dict() == {}


def lfq(**fields: float) -> SignBits:
    made = build_quantizer(LfqQuantizer(**{"kind": "lfq", "bits": 3} | fields))
    assert isinstance(made, SignBits)
    return made


def test_the_index_of_lfq_is_the_signs_as_bits_and_its_codes_are_the_signs() -> None:
    quantizer, batch = lfq(), torch.randn(5, 3, 2, 2, generator=draws(0))
    tokens = quantizer.indices(batch)
    for place, vector in zip(tokens.flatten().tolist(), rows(batch).tolist(), strict=True):
        bits = [1 if number > 0 else 0 for number in vector]
        assert place == bits[0] + 2 * bits[1] + 4 * bits[2]
        assert quantizer.codebook()[place].tolist() == [2 * bit - 1 for bit in bits]
    assert torch.equal(quantizer(batch, draws()).indices, tokens)


def test_the_loss_of_lfq_is_commitment_and_the_entropies_of_its_probabilities() -> None:
    fields = {"commitment": 0.3, "entropy": 0.2, "diversity": 0.7, "temperature": 1.5}
    quantizer, batch = lfq(**fields), torch.randn(5, 3, 2, 2, generator=draws(0))
    codes, vectors = quantizer.codebook().double(), rows(batch).double()
    probabilities = torch.softmax(-torch.cdist(vectors, codes).square() / 1.5, dim=1)
    sure = -(probabilities * probabilities.log()).sum(1).mean()
    # The mean token's entropy, dimension by dimension.
    ones = torch.stack([probabilities[:, codes[:, d] > 0].sum(1).mean() for d in range(3)])
    used = -(ones * ones.log() + (1 - ones) * (1 - ones).log()).sum()
    pull = (vectors - torch.where(vectors > 0, 1.0, -1.0)).square().mean()
    expected = 0.3 * pull + 0.2 * (sure - 0.7 * used)
    assert float(quantizer(batch, draws()).loss) == pytest.approx(float(expected), rel=1e-5)


def test_the_gradient_of_lfq_passes_straight_through_and_is_finite_far_out() -> None:
    quantizer, batch = lfq(), (50 * torch.randn(5, 3, 2, 2, generator=draws(0))).requires_grad_()
    out = quantizer(batch, draws())
    (straight,) = torch.autograd.grad(out.values.sum(), batch, retain_graph=True)
    assert torch.equal(straight, torch.ones_like(batch))
    (pull,) = torch.autograd.grad(out.loss, batch)
    assert pull.isfinite().all()
