import time

import numpy as np
import pytest
import torch

from tokexp.data.digits import build as digits
from tokexp.errors import InputError
from tokexp.spec.data import DigitsData
from tokexp.spec.tokenizers import PatchKMeans
from tokexp.tokenizers.base import Codebook
from tokexp.tokenizers.patch_kmeans import PatchKMeansTokenizer, build

SHAPE = (1, 8, 8)


@pytest.fixture(scope="module")
def images() -> dict[str, torch.Tensor]:
    source = digits(DigitsData(kind="digits"))
    return {split: source.read(split, range(len(source.labels(split)))) for split in source.splits}


@pytest.fixture(scope="module")
def fitted(images: dict[str, torch.Tensor]) -> PatchKMeansTokenizer:
    tokenizer = build(PatchKMeans(kind="patch_kmeans"), SHAPE)
    tokenizer.fit([images["train"]])
    return tokenizer


def test_the_default_on_digits_reconstructs_at_22_and_a_half_decibels(
    fitted: PatchKMeansTokenizer, images: dict[str, torch.Tensor]
) -> None:
    error = (fitted.decode(fitted.encode(images["test"])) - images["test"]).square().mean()
    assert -10 * np.log10(float(error)) == pytest.approx(22.5, abs=0.4)


def test_the_default_on_digits_costs_about_ten_bytes_of_entropy(
    fitted: PatchKMeansTokenizer, images: dict[str, torch.Tensor]
) -> None:
    tokens = fitted.encode(torch.cat([images["train"], images["test"]]))
    share = np.bincount(tokens.flatten().numpy(), minlength=64) / tokens.numel()
    entropy = -(share[share > 0] * np.log2(share[share > 0])).sum()
    assert 16 * entropy / 8 == pytest.approx(9.7, abs=0.4)


def test_the_default_on_digits_fits_in_seconds(images: dict[str, torch.Tensor]) -> None:
    start = time.process_time()
    build(PatchKMeans(kind="patch_kmeans"), SHAPE).fit([images["train"]])
    assert time.process_time() - start < 5


def test_a_token_is_the_nearest_code_of_its_patch(
    fitted: PatchKMeansTokenizer, images: dict[str, torch.Tensor]
) -> None:
    image = images["test"][3]
    tokens = fitted.encode(image[None])[0]
    for row, column in ((0, 0), (1, 3), (2, 1)):
        patch = image[:, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2].flatten()
        assert tokens[row, column] == (fitted.codebook() - patch).square().sum(1).argmin()


def test_the_codebook_of_embeddings_finds_the_same_tokens(
    fitted: PatchKMeansTokenizer, images: dict[str, torch.Tensor]
) -> None:
    codebook, tokens = Codebook(fitted.codebook()), fitted.encode(images["test"][:50])
    assert torch.equal(codebook.nearest(codebook.lookup(tokens)), tokens)


def test_a_code_decodes_to_its_patch_in_its_place() -> None:
    tokenizer = build(PatchKMeans(kind="patch_kmeans", patch_size=2, codebook_size=4), (3, 4, 6))
    image = torch.rand(1, 3, 4, 6)
    patches = tokenizer._patches(image).reshape(6, -1)
    tokenizer.codes.resize_(6, 12).copy_(patches)
    assert torch.equal(tokenizer.decode(torch.arange(6).view(1, 2, 3)), image)


def test_the_codes_do_not_depend_on_how_images_are_batched(images: dict[str, torch.Tensor]) -> None:
    spec = PatchKMeans(kind="patch_kmeans", codebook_size=8, sample=500, iterations=3)
    found = []
    for size in (1257, 100, 7):
        tokenizer = build(spec, SHAPE)
        tokenizer.fit(images["train"].split(size))
        found.append(tokenizer.codebook())
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


def test_the_sample_is_spread_over_all_images_and_has_its_size() -> None:
    tokenizer = build(PatchKMeans(kind="patch_kmeans", patch_size=4, codebook_size=4, sample=300), (1, 8, 8))
    numbered = (torch.arange(1000).view(-1, 1, 1, 1) / 1000).expand(1000, 1, 8, 8)
    sample = tokenizer._sample(numbered.split(64))
    assert sample.shape == (300, 16)
    assert sample.mean() == pytest.approx(0.5, abs=0.06)
    assert (sample[:, 0].diff() >= 0).all()


def test_constant_images_are_tokenised(images: dict[str, torch.Tensor]) -> None:
    tokenizer = build(PatchKMeans(kind="patch_kmeans", codebook_size=16), SHAPE)
    grey = torch.full((5, 1, 8, 8), 0.5)
    facts = tokenizer.fit([grey])
    assert facts["codes_used"] == 1
    assert torch.equal(tokenizer.decode(tokenizer.encode(grey)), grey)
    assert len(tokenizer.encode(grey).unique()) == 1


def test_it_must_be_fitted_and_needs_images() -> None:
    tokenizer = build(PatchKMeans(kind="patch_kmeans"), SHAPE)
    with pytest.raises(InputError, match="not been fitted"):
        tokenizer.encode(torch.zeros(1, 1, 8, 8))
    with pytest.raises(InputError, match="no training images"):
        tokenizer.fit([])


def test_a_patch_that_does_not_fill_the_image_is_refused() -> None:
    with pytest.raises(InputError, match=r"tokenizer\.patch_size: 3 does not divide"):
        build(PatchKMeans(kind="patch_kmeans", patch_size=3), SHAPE)
