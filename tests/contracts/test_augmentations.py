"""What every augmentation promises: the generator decides all, the given batch stays, nothing turns into NaN."""

import pytest
import torch

from tokexp.augment.adapt_networks import AdaptNetworks
from tokexp.augment.base import AugmentContext
from tokexp.augment.policy import build_step
from tokexp.data.base import Batch
from tokexp.registry import implementation
from tokexp.spec.augment import AdaptSpec, AugmentSpec
from tokexp.tokenizers.base import Codebook
from tokexp.tokenizers.coefficient_maps import CoefficientBook, CoefficientLayout

TOKEN_KINDS = ("token_rrc", "token_crop", "token_eda", "token_adapt")
VALUE_KINDS = ("token_rrc", "token_crop", "emb_noise", "color_adapt", "token_cutmix", "mixup", "token_adapt")
PIXEL_KINDS = ("pixel_rrc", "pixel_flip", "color_jitter", "emb_noise", "color_adapt", "mixup")
MIXED = {"kind": "token_adapt", "preset": "released", "mixup": 0.8, "cutmix": 1.0}
COMBINED = (
    {"one_of": [{"kind": "emb_noise"}, {"kind": "color_adapt"}], "per": "sample"},
    {"one_of": [{"kind": "emb_noise"}, {"kind": "color_adapt"}], "weights": [0.75, 0.25]},
    {"sometimes": 0.5, "do": [{"kind": "emb_noise"}, {"kind": "mixup"}]},
    {"halves": [[{"kind": "token_rrc"}, {"kind": "token_cutmix"}], [MIXED]]},
    MIXED,
)
STEPS = [{"kind": kind} for kind in dict.fromkeys(TOKEN_KINDS + VALUE_KINDS)] + list(COMBINED)
SIZES = {"small": (4, 4, (4, 4)), "published": (32, 32, (28, 28)), "coefficients": (5, 6, (4, 4))}
COUNT = 6


def _world(size: str):
    width, side, grid = SIZES[size]
    if size == "coefficients":
        return _coefficients(width, side, grid)
    codebook = Codebook(torch.randn(24, width, generator=torch.Generator().manual_seed(0)))
    networks = AdaptNetworks(AdaptSpec(width=16, heads=2), codebook, (side, side), grid)
    indices = torch.randint(24, (COUNT, side, side), generator=torch.Generator().manual_seed(1))
    return AugmentContext(grid, codebook, networks), Batch(torch.arange(COUNT) % 4, 4, indices=indices)


def _coefficients(width: int, side: int, grid: tuple[int, int]):
    levels = torch.arange(-4.0, 5.0)[:, None]
    codebook = CoefficientBook(levels, CoefficientLayout(3, 1, False), torch.arange(1.0, width + 1), torch.ones(width))
    networks = AdaptNetworks(AdaptSpec(width=16, heads=2), codebook, (side, side), grid)
    indices = torch.randint(9, (COUNT, width, side, side), generator=torch.Generator().manual_seed(1))
    return AugmentContext(grid, codebook, networks), Batch(torch.arange(COUNT) % 4, 4, indices=indices)


def _name(step) -> str:
    return step.get("kind") or next(iter(step))


def _build(step, context):
    return build_step(AugmentSpec.model_validate([step]).task[0], context)


def _content(batch: Batch) -> torch.Tensor:
    content = batch.values if batch.indices is None else batch.indices
    assert content is not None
    return content


CASES = [(step, size, form) for step in STEPS for size in SIZES for form in ("tokens", "values")
         if form == "tokens" or _name(step) != "token_eda"]  # fmt: skip


@pytest.mark.parametrize(
    ("step", "size", "form"), CASES, ids=lambda part: part if isinstance(part, str) else _name(part)
)
def test_every_step_on_tokens_or_embeddings(step, size, form):
    context, batch = _world(size)
    if form == "values":
        batch = batch.with_values(context.codebook.lookup(batch.indices).contiguous())
    _check(_build(step, context), batch, context)


@pytest.mark.parametrize("kind", PIXEL_KINDS)
def test_every_step_on_pixels(kind):
    context = AugmentContext((8, 8))
    values = torch.rand(COUNT, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    _check(_build({"kind": kind}, context), Batch(torch.arange(COUNT) % 4, 4, values=values), context)


def _check(step, batch: Batch, context: AugmentContext) -> None:
    before, labels = _content(batch).clone(), batch.labels.clone()
    torch.manual_seed(1)
    state = torch.get_rng_state()
    seen = set()
    for seed in range(8):
        first = step(batch, torch.Generator().manual_seed(seed))
        again = step(batch, torch.Generator().manual_seed(seed))
        assert torch.equal(_content(first), _content(again))
        assert torch.equal(first.soft_targets(), again.soft_targets())
        _check_result(first, batch, context)
        seen.add(_content(first).contiguous().numpy().tobytes())
    assert torch.equal(_content(batch), before)
    assert torch.equal(batch.labels, labels)
    assert batch.targets is None
    assert torch.equal(torch.get_rng_state(), state)
    # A crop of a grid to itself has one outcome; everything else depends on the generator.
    if type(step).__name__ != "TokenCrop" or _content(batch).shape[-2:] != context.grid:
        assert len(seen) > 1


def _check_result(found: Batch, batch: Batch, context: AugmentContext) -> None:
    assert (found.values is None) != (found.indices is None)
    content = _content(found)
    assert len(content) == len(found) == COUNT
    assert tuple(content.shape[-2:]) in (context.grid, tuple(_content(batch).shape[-2:]))
    assert content.isfinite().all()
    if found.indices is None:
        assert content.dtype == torch.float32
        assert context.codebook is None or content.shape[1] == context.codebook.width
    else:
        assert content.dtype == torch.int64
        assert 0 <= content.min() <= content.max() < len(context.codebook)
    assert torch.allclose(found.soft_targets().sum(1), torch.ones(COUNT), atol=1e-5)
    assert (found.soft_targets() >= 0).all()
    assert torch.equal(found.labels, batch.labels)


@pytest.mark.parametrize("step", STEPS, ids=_name)
def test_a_batch_of_one_sample_is_served(step):
    context, batch = _world("small")
    found = _build(step, context)(batch.part(0, 1), torch.Generator().manual_seed(0))
    assert _content(found).isfinite().all()
    assert len(found) == 1


@pytest.mark.parametrize("step", STEPS, ids=_name)
def test_mixed_precision_around_a_step_leaves_its_result_in_float32(step):
    context, batch = _world("small")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = _build(step, context)(batch, torch.Generator().manual_seed(0))
    assert _content(found).dtype in (torch.float32, torch.int64)
    if _name(step) not in ("token_adapt", "halves"):
        plain = _build(step, context)(batch, torch.Generator().manual_seed(0))
        assert torch.equal(_content(found), _content(plain))


@pytest.mark.parametrize("kind", [*TOKEN_KINDS, *VALUE_KINDS, *PIXEL_KINDS, "one_of", "sometimes", "halves"])
def test_every_kind_is_found_by_its_name(kind):
    assert implementation("augment", kind).__module__ == f"tokexp.augment.{kind}"
