"""The tokenizer `dct` against scipy's transform, and against what Pillow writes into JPEG files and reads from them."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.fft import dctn

from tests.tokenizers.baseline_jpeg import ZIGZAG, coefficients
from tokexp.errors import InputError
from tokexp.spec.coefficients import Dct
from tokexp.tokenizers.coefficient_maps import book_of
from tokexp.tokenizers.dct import DctTokenizer, build
from tokexp.tokenizers.jpeg_tables import cosines, steps, zigzag

SIDE = 48
SUBSAMPLING = {"full": 0, "half": 2}


def pixels(channels: int = 3, count: int = 2) -> np.ndarray:
    """Return smooth pictures with some noise, uint8 (n, H, W, C), colours far from grey."""
    random = np.random.default_rng(3)
    rows, columns = np.meshgrid(np.arange(SIDE) / SIDE, np.arange(SIDE) / SIDE, indexing="ij")
    waves = [
        np.sin(7 * rows * random.uniform(0.3, 1.5) + 9 * columns * random.uniform(0.3, 1.5) + random.uniform(0, 6))
        for _ in range(count * channels)
    ]
    smooth = 127 + 100 * np.stack(waves).reshape(count, channels, SIDE, SIDE)
    return (smooth + random.normal(0, 9, smooth.shape)).clip(0, 255).astype(np.uint8).transpose(0, 2, 3, 1)


def images(pictures: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(pictures.copy()).permute(0, 3, 1, 2).float() / 255


def fitted(pictures: np.ndarray, **fields: object) -> DctTokenizer:
    spec = Dct.model_validate({"kind": "dct", **fields})
    tokenizer = build(spec, (pictures.shape[3], *pictures.shape[1:3]))
    tokenizer.fit([images(pictures)])
    return tokenizer.eval()


def maps(tokenizer: DctTokenizer, pictures: np.ndarray) -> np.ndarray:
    """Return levels (n, channels, rows, columns)."""
    indices = tokenizer.layout.unfold(tokenizer.encode(images(pictures)))
    return (indices - tokenizer.spec.levels // 2).numpy()


def jpeg(picture: np.ndarray, quality: int, chroma: str = "full") -> bytes:
    target = io.BytesIO()
    shown = Image.fromarray(picture.squeeze(-1) if picture.shape[-1] == 1 else picture)
    shown.save(target, "jpeg", quality=quality, subsampling=SUBSAMPLING[chroma])
    return target.getvalue()


@pytest.mark.parametrize("quality", [1, 5, 10, 24, 25, 49, 50, 51, 75, 90, 95, 99, 100])
def test_the_tables_are_those_that_libjpeg_writes(quality: int) -> None:
    written = Image.open(io.BytesIO(jpeg(pixels(count=1)[0], quality))).quantization
    for number, chroma in enumerate((False, True)):
        assert steps(quality, chroma=chroma).flatten().tolist() == written[number]


def test_the_zigzag_is_that_of_the_standard() -> None:
    assert zigzag().tolist() == ZIGZAG
    assert zigzag(2).tolist() == [0, 1, 2, 3]
    assert zigzag(3).tolist() == [0, 1, 3, 6, 4, 2, 5, 7, 8]


@pytest.mark.parametrize("side", [2, 4, 5, 8, 16])
def test_the_transform_is_scipys_orthonormal_one(side: int) -> None:
    block = np.random.default_rng(0).normal(size=(side, side))
    basis = cosines(side).numpy()
    np.testing.assert_allclose(basis @ block @ basis.T, dctn(block, norm="ortho"), atol=1e-12)


def test_tables_of_another_side_are_read_at_the_same_frequencies() -> None:
    whole, half, double = steps(50), steps(50, 4), steps(50, 16)
    assert torch.equal(half, whole[::2, ::2])
    assert torch.equal(double[:15:2, :15:2], whole)
    assert double[0, 5] == 13  # half-way between 10 and 16
    assert torch.equal(double[15], double[14])


@pytest.mark.parametrize(("block", "quality", "kept"), [(8, 50, 64), (8, 90, 10), (4, 75, 16), (16, 30, 100)])
def test_levels_are_scipys_coefficients_over_the_steps_rounded(block: int, quality: int, kept: int) -> None:
    grey = pixels(1)
    tokenizer = fitted(grey, block=block, quality=quality, coefficients=kept)
    cut = grey[..., 0].reshape(2, SIDE // block, block, SIDE // block, block).transpose(0, 1, 3, 2, 4) - 128.0
    shares = dctn(cut, axes=(3, 4), norm="ortho") / steps(quality, block).numpy()
    shares = shares.reshape(*shares.shape[:3], -1)[..., zigzag(block)[:kept].numpy()].transpose(0, 3, 1, 2)
    expected = np.sign(shares) * np.floor(np.abs(shares) + 0.5 + 1e-9)
    np.testing.assert_array_equal(maps(tokenizer, grey), expected)


def exact(tokenizer: DctTokenizer, pictures: np.ndarray) -> np.ndarray:
    """Return what is rounded to levels, by the same tokenizer with a step of a thousandth."""
    fine = build(tokenizer.spec, tokenizer.info.image_shape)
    fine.steps.copy_(tokenizer.steps / 1000)
    return (fine.layout.unfold(fine.unclipped(images(pictures))) / 1000).numpy()


@pytest.mark.parametrize("quality", [10, 50, 75, 90])
@pytest.mark.parametrize(("channels", "chroma"), [(1, "full"), (3, "full"), (3, "half")])
def test_levels_are_those_that_pillow_writes_into_a_jpeg(quality: int, channels: int, chroma: str) -> None:
    pictures = pixels(channels)
    tokenizer = fitted(pictures, quality=quality, chroma=chroma)
    ours, shares = maps(tokenizer, pictures), exact(tokenizer, pictures)
    differing = total = 0
    for number, picture in enumerate(pictures):
        for plane, written in enumerate(coefficients(jpeg(picture, quality, chroma))):
            factor = 2 if plane and chroma == "half" else 1
            part = slice(64 * plane, 64 * (plane + 1))
            own = ours[number, part, ::factor, ::factor].transpose(1, 2, 0)
            share = shares[number, part, ::factor, ::factor].transpose(1, 2, 0)
            assert own.shape == written.shape
            # libjpeg transforms in whole numbers: it errs by up to a tenth of a unit, before the step divides it.
            allowed = 0.5 + 0.12 / tokenizer.steps[part].numpy()
            assert (np.abs(share - written) <= allowed).all()
            differing, total = differing + int((own != written).sum()), total + own.size
    assert differing <= 0.01 * total


@pytest.mark.parametrize("quality", [10, 50, 90])
def test_levels_of_a_jpeg_decode_to_the_picture_that_pillow_reads_from_it(quality: int) -> None:
    grey = pixels(1)
    tokenizer = fitted(grey, quality=quality)
    written = np.stack([coefficients(jpeg(picture, quality))[0] for picture in grey]).transpose(0, 3, 1, 2)
    levels = torch.from_numpy(written) + tokenizer.spec.levels // 2
    decoded = tokenizer.decode(tokenizer.layout.fold(levels))[:, 0].numpy() * 255
    read = np.stack([np.asarray(Image.open(io.BytesIO(jpeg(picture, quality)))) for picture in grey])
    assert np.abs(decoded - read).max() < 0.6  # Pillow rounds to whole numbers


@pytest.mark.parametrize("fields", [{}, {"chroma": "half"}, {"block": 4, "coefficients": 9}, {"block": 2}])
def test_encoding_what_was_decoded_gives_the_same_levels(fields: dict[str, object]) -> None:
    soft = (pixels() // 2 + 64).astype(np.uint8)  # far from black and white, where decoding clips
    tokenizer = fitted(soft, quality=30, **fields)
    indices = tokenizer.encode(images(soft))
    again = tokenizer.encode(tokenizer.decode(indices))
    assert (again == indices).float().mean() > 0.999


def test_a_flat_image_half_way_between_two_levels_goes_away_from_zero() -> None:
    flat = np.full((1, SIDE, SIDE, 1), 129, np.uint8)  # 8 x 1 / 16 is half a level
    tokenizer = fitted(flat, coefficients=1)
    assert (maps(tokenizer, flat) == 1).all()
    assert (maps(tokenizer, np.full_like(flat, 127)) == -1).all()


def test_finer_tables_and_more_coefficients_come_closer_to_the_image() -> None:
    pictures = pixels()

    def error(**fields: object) -> float:
        tokenizer = fitted(pictures, **fields)
        return float((tokenizer.decode(tokenizer.encode(images(pictures))) - images(pictures)).square().mean())

    assert error(quality=95) < error(quality=50) < error(quality=5)
    assert error(quality=95) < error(quality=95, coefficients=10) < error(quality=95, coefficients=1)
    assert error(quality=95) < error(quality=95, chroma="half") < error(quality=95, chroma="none")
    assert error(chroma="half", chroma_coefficients=64) < error(chroma="half", chroma_coefficients=1)


def test_levels_beyond_the_alphabet_are_clipped_and_counted() -> None:
    pictures = pixels(1)
    spec = Dct(kind="dct", levels=8)
    tokenizer = build(spec, (1, SIDE, SIDE))
    levels = maps(fitted(pictures), pictures)
    found = tokenizer.fit([images(pictures)])
    beyond = ((levels < -4) | (levels > 3)).mean()
    assert beyond > 0
    assert found["clipped"] == pytest.approx(beyond)
    np.testing.assert_array_equal(maps(tokenizer, pictures), levels.clip(-4, 3))


@pytest.mark.parametrize("block", [2, 4, 8])
def test_no_picture_is_clipped_by_the_default_alphabet(block: int) -> None:
    extremes = np.random.default_rng(1).choice(np.array([0, 255], np.uint8), (20, SIDE, SIDE, 3))
    extremes[0], extremes[1] = 0, 255
    assert build(Dct(kind="dct", quality=100, block=block), (3, SIDE, SIDE)).fit([images(extremes)])["clipped"] == 0


def test_what_a_model_reads_has_the_deviation_of_one_over_the_training_images() -> None:
    pictures = pixels(count=6)
    tokenizer = fitted(pictures, quality=95)
    book = book_of(tokenizer.codebook(), tokenizer.code_facts()["dct"])  # type: ignore[arg-type]
    values = book.lookup(book.unfold(tokenizer.encode(images(pictures)))).double()
    deviations = values.transpose(0, 1).flatten(1).std(1, unbiased=False)
    own = tokenizer.deviations > tokenizer.steps / 2 * 1.001  # the others are held at half a step
    assert own.sum() > 60
    assert torch.allclose(deviations[own], torch.ones(int(own.sum())).double(), atol=2e-3)
    assert (deviations[~own] < 1.001).all()


def test_values_of_a_pixels_scale_are_dequantised_coefficients_over_255() -> None:
    pictures = pixels(1)
    tokenizer = fitted(pictures, scale="pixel")
    book = book_of(tokenizer.codebook(), tokenizer.code_facts()["dct"])  # type: ignore[arg-type]
    values = book.lookup(book.unfold(tokenizer.encode(images(pictures))))
    expected = maps(tokenizer, pictures) * tokenizer.steps.numpy()[:, None, None] / 255
    np.testing.assert_allclose(values.numpy(), expected, rtol=1e-5)
    assert torch.allclose(book.spread.flatten(), (tokenizer.deviations / 255).float())


def test_how_images_are_batched_changes_neither_levels_nor_deviations() -> None:
    pictures = pixels(count=6)
    whole, split = fitted(pictures), build(Dct(kind="dct"), (3, SIDE, SIDE))
    split.fit(images(pictures).split(1))
    assert torch.equal(whole.deviations, split.deviations)
    one_by_one = torch.cat([whole.encode(image[None]) for image in images(pictures)])
    assert torch.equal(whole.encode(images(pictures)), one_by_one)


def test_without_images_or_before_the_fit_there_are_no_deviations() -> None:
    tokenizer = build(Dct(kind="dct"), (1, SIDE, SIDE))
    with pytest.raises(InputError, match="no training images"):
        tokenizer.fit([])
    with pytest.raises(InputError, match="not been fitted"):
        tokenizer.code_facts()


@pytest.mark.parametrize(
    ("fields", "shape", "field"),
    [
        ({}, (3, 20, 20), "block"),
        ({"block": 2, "coefficients": 5}, (3, 16, 16), "coefficients"),
        ({"chroma": "half"}, (3, 24, 24), "chroma"),
        ({"chroma_coefficients": 3}, (1, 16, 16), "chroma_coefficients"),
        ({"chroma_coefficients": 3, "chroma": "none"}, (3, 16, 16), "chroma_coefficients"),
    ],
)
def test_fields_that_do_not_go_with_the_image_are_refused(
    fields: dict[str, object], shape: tuple[int, int, int], field: str
) -> None:
    with pytest.raises(InputError, match=f"tokenizer.{field}: "):
        build(Dct.model_validate({"kind": "dct", **fields}), shape)
