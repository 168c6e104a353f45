import io

import numpy as np
import pytest
from PIL import Image

from tests.data.pictures import picture
from tokexp.data.decoding import decode, fit
from tokexp.errors import DataError


def stored(image: Image.Image, form: str, **options: object) -> io.BytesIO:
    file = io.BytesIO()
    image.save(file, form, **options)
    file.seek(0)
    return file


def read(image: Image.Image, form: str = "PNG", channels: int = 3, **options: object) -> np.ndarray:
    return decode(stored(image, form, **options), "x", channels, 8, "squash")


def test_pixels_of_the_right_size_are_untouched() -> None:
    image = picture(0, (8, 8))
    assert np.array_equal(read(image), np.asarray(image).transpose(2, 0, 1))


@pytest.mark.parametrize("form", ["PNG", "BMP", "TIFF", "PPM", "WEBP"])
def test_lossless_formats_give_the_same_pixels(form: str) -> None:
    image = picture(1, (8, 8))
    options = {"lossless": True} if form == "WEBP" else {}
    assert np.array_equal(read(image, form, **options), np.asarray(image).transpose(2, 0, 1))


@pytest.mark.parametrize("size", [(1, 5001), (5001, 1)])
def test_a_line_of_pixels_takes_no_memory_when_it_is_cropped(
    size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes, resize = list[tuple[int, int]](), Image.Image.resize

    def noted(image: Image.Image, size: tuple[int, int], *options: object) -> Image.Image:
        sizes.append(size)
        return resize(image, size, *options)  # type: ignore[arg-type]

    monkeypatch.setattr(Image.Image, "resize", noted)
    line = np.zeros((size[1], size[0]), np.uint8)
    line[line.shape[0] // 2, line.shape[1] // 2] = 255
    pixels = fit(Image.fromarray(line), 32, "crop")
    assert pixels.shape == (1, 32, 32)
    assert pixels[0, 14:18, 14:18].min() > 200
    assert max(map(max, sizes)) <= 64 * 32


def test_rotation_by_exif_is_applied() -> None:
    image = picture(2, (8, 8))
    exif = Image.Exif()
    exif[0x0112] = 6  # shown after a quarter turn clockwise
    turned = np.rot90(np.asarray(image), k=-1).transpose(2, 0, 1)
    assert np.array_equal(read(image, exif=exif), turned)


def test_a_palette_becomes_its_colours() -> None:
    image = Image.new("P", (8, 8), 1)
    image.putpalette([0, 0, 0, 250, 120, 10])
    assert read(image)[:, 3, 3].tolist() == [250, 120, 10]


def test_a_palette_with_transparency_becomes_its_colours() -> None:
    image = Image.new("P", (8, 8), 1)
    image.putpalette([0, 0, 0, 250, 120, 10])
    assert read(image, transparency=b"\xff\x80")[:, 3, 3].tolist() == [250, 120, 10]


def test_alpha_is_left_out() -> None:
    assert read(Image.new("RGBA", (8, 8), (9, 8, 7, 0)))[:, 0, 0].tolist() == [9, 8, 7]
    assert read(Image.new("LA", (8, 8), (9, 0)))[:, 0, 0].tolist() == [9, 9, 9]


def test_cmyk_becomes_rgb() -> None:
    # No ink is white; full cyan takes all of the red.
    assert read(Image.new("CMYK", (8, 8), (0, 0, 0, 0)), "TIFF")[:, 0, 0].tolist() == [255, 255, 255]
    assert read(Image.new("CMYK", (8, 8), (255, 0, 0, 0)), "TIFF")[:, 0, 0].tolist() == [0, 255, 255]


@pytest.mark.parametrize(("form", "channels"), [("PNG", 1), ("PNG", 3), ("TIFF", 1), ("PPM", 1)])
def test_sixteen_bit_grey_is_scaled_and_not_clipped(form: str, channels: int) -> None:
    levels = np.full((8, 8), 257 * 100, dtype=np.uint16)
    assert (read(Image.fromarray(levels), form, channels) == 100).all()


def test_one_bit_images_are_black_and_white() -> None:
    assert set(read(Image.new("1", (8, 8), 1), channels=1).flatten().tolist()) == {255}


def test_grey_weighs_the_colours() -> None:
    # ITU-R 601: 0.299 R + 0.587 G + 0.114 B.
    assert read(Image.new("RGB", (8, 8), (200, 100, 50)), channels=1)[0, 0, 0] == round(0.299 * 200 + 58.7 + 5.7)


def test_of_an_animation_the_first_frame_counts() -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ((255, 0, 0), (0, 0, 255))]
    assert read(frames[0], "GIF", save_all=True, append_images=frames[1:])[:, 0, 0].tolist() == [255, 0, 0]


def test_squash_forces_both_sides_and_crop_keeps_the_ratio() -> None:
    left_black = Image.new("L", (16, 8), 255)
    left_black.paste(0, (0, 0, 4, 8))
    # The outer quarters lie outside of the centre square.
    assert (fit(left_black, 8, "crop") == 255).all()
    assert fit(left_black, 8, "squash")[0, 0, 0] == 0


def test_crop_scales_the_shorter_side() -> None:
    image = picture(3, (40, 24))
    expected = np.asarray(image.resize((20, 12), Image.Resampling.BICUBIC))[:, 4:16].transpose(2, 0, 1)
    assert np.array_equal(fit(image, 12, "crop"), expected)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b"no image at all", "identify"),
        (stored(picture(4, (64, 64)), "JPEG").getvalue()[:900], "trunc"),
    ],
)
def test_an_unreadable_image_is_named_with_what_to_do(content: bytes, reason: str) -> None:
    with pytest.raises(DataError, match=rf"a/b\.jpg.*{reason}.*corrupt: skip"):
        decode(io.BytesIO(content), "a/b.jpg", 3, 8, "squash")


def test_floating_point_pixels_are_refused() -> None:
    with pytest.raises(DataError, match="floating point"):
        read(Image.fromarray(np.zeros((8, 8), dtype=np.float32)), "TIFF")
