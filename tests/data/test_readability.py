"""The search for images that cannot be read, and what a folder of odd images comes to."""

import json
import re
import struct
import time
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.data.pictures import picture
from tokexp.data import readability
from tokexp.data.decoding import LARGE, decode
from tokexp.data.image_folder import build
from tokexp.data.readability import UnreadableError, further, unreadable
from tokexp.errors import DataError
from tokexp.spec.data import ImageFolderData


class Looker:
    """Says that every tenth image cannot be read, and remembers what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def __call__(self, positions: Sequence[int]) -> Iterator[str | None]:
        self.asked += positions
        return iter(["bad" if place % 10 == 0 else None for place in positions])


@pytest.fixture(autouse=True)
def _small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readability, "AT_ONCE", 16)


def test_a_search_that_was_stopped_goes_on_from_its_note(tmp_path: Path) -> None:
    note, first, second = tmp_path / "deep" / "note.json", Looker(), Looker()

    def stop(looked: int, total: int) -> None:
        if looked == 32:
            raise RuntimeError

    with pytest.raises(RuntimeError):
        unreadable(50, first, note, stop)
    assert unreadable(50, second, note) == dict.fromkeys([0, 10, 20, 30, 40], "bad")
    assert first.asked + second.asked == list(range(50))
    assert unreadable(50, third := Looker(), note) == dict.fromkeys([0, 10, 20, 30, 40], "bad")
    assert third.asked == []


@pytest.mark.parametrize("content", ["", "[]", '{"count": 49, "looked": 49, "unreadable": {}}', '{"count": 50}'])
def test_a_note_of_something_else_is_not_believed(tmp_path: Path, content: str) -> None:
    note = tmp_path / "note.json"
    note.write_text(content)
    assert len(unreadable(50, Looker(), note)) == 5
    assert json.loads(note.read_text())["looked"] == 50


def test_the_error_counts_all_and_names_the_first_few() -> None:
    names = [f"{place}.png" for place in range(100)]
    said = str(further(UnreadableError("30.png", "bad"), names, Looker()))
    advice = "(repair or remove them, or set data.corrupt: skip)"
    assert said.startswith(f"10 images of 100 cannot be read {advice}: '30.png' (bad), '0.png' (bad)")
    assert said.endswith("and 5 more")


def test_a_long_search_ends_and_says_how_far_it_came(monkeypatch: pytest.MonkeyPatch) -> None:
    def slowly(positions: Sequence[int]) -> Iterator[str | None]:
        time.sleep(0.03)
        return Looker()(positions)

    monkeypatch.setattr(readability, "LOOK_SECONDS", 0.1)
    names = [f"{place}.png" for place in range(100)]
    said = str(further(UnreadableError("90.png", "bad"), names, slowly))
    assert re.match(r"2 images of the first [1-9] of 100 cannot be read \(.*\): '90\.png'", said)


def bomb(side: int) -> bytes:
    """A PNG that says it is `side` x `side` pixels, in a few bytes."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    head = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def odd_folder(root: Path) -> Path:
    """Images of many kinds: the grey or red of each can be told; `bad-*` cannot be read."""
    root.mkdir()
    red = Image.new("RGB", (12, 8), (255, 0, 0))
    red.save(root / "plain.png")
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(root / "cmyk.jpg", quality=100)
    palette = Image.new("P", (8, 8), 1)
    palette.putpalette([0, 0, 0, 255, 0, 0])
    palette.save(root / "palette.png", transparency=b"\xff\x40")
    Image.fromarray(np.full((8, 8), 257 * 60, np.uint16)).save(root / "sixteen.png")
    exif = Image.Exif()
    exif[0x0112] = 8
    halves = Image.new("RGB", (16, 16), (255, 0, 0))
    halves.paste((0, 0, 255), (8, 0, 16, 16))
    halves.save(root / "turned.png", exif=exif)
    for name, lossless in (("moving.gif", {}), ("moving.webp", {"lossless": True})):
        red.save(root / name, save_all=True, append_images=[Image.new("RGB", (12, 8), (0, 0, 255))], **lossless)
    (root / "bad-empty.jpg").write_bytes(b"")
    (root / "bad-bomb.png").write_bytes(bomb(40_000))
    picture(0, (64, 64)).save(root / "whole.jpg")
    (root / "bad-cut.jpg").write_bytes((root / "whole.jpg").read_bytes()[:900])
    (root / "bad-text.webp").write_bytes(b"no image")
    return root


def test_odd_images_are_read_and_broken_ones_are_told_apart(tmp_path: Path) -> None:
    root = odd_folder(tmp_path / "odd")
    fields = {"kind": "image_folder", "root": str(root), "image_size": 8, "labels": "none", "test_fraction": 0.0}
    source = build(ImageFolderData.model_validate({**fields, "corrupt": "skip"}))
    reasons = dict(source.skipped)
    assert sorted(reasons) == ["bad-bomb.png", "bad-cut.jpg", "bad-empty.jpg", "bad-text.webp"]
    assert "exceeds limit of 178956970 pixels" in reasons["bad-bomb.png"]
    assert "truncated" in reasons["bad-cut.jpg"]
    assert reasons["bad-empty.jpg"] == "the file is empty"
    names = source.sample_ids("train")
    pixels = dict(zip(names, source.read("train", range(len(names))), strict=True))
    for name in ("plain.png", "cmyk.jpg", "palette.png", "moving.gif", "moving.webp"):
        assert np.allclose(pixels[name].mean((1, 2)).numpy(), [1, 0, 0], atol=0.02), name
    assert np.allclose(pixels["sixteen.png"].numpy(), 60 / 255)
    # A quarter turn against the clock: what was on the right is now on top.
    assert np.allclose(pixels["turned.png"][:, 0, 3].numpy(), [0, 0, 1], atol=0.02)
    with pytest.raises(DataError, match=r"^4 images of 12 cannot be read"):
        build(ImageFolderData.model_validate(fields)).read("train", range(12))


def test_a_large_image_waits_for_its_turn_and_is_read_like_any_other(tmp_path: Path) -> None:
    side = 4100
    assert side * side > LARGE
    Image.new("L", (side, side), 77).save(tmp_path / "large.png")
    with (tmp_path / "large.png").open("rb") as file:
        assert (decode(file, "large.png", 1, 8, "squash") == 77).all()


def test_labels_none_takes_every_image_below_the_folder(tmp_path: Path) -> None:
    for name in ("train/ant/a.png", "test/b.png", "c.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        picture(1).save(tmp_path / name)
    fields = {"kind": "image_folder", "root": str(tmp_path), "image_size": 8, "labels": "none", "test_fraction": 0.0}
    source = build(ImageFolderData.model_validate(fields))
    assert source.sample_ids("train") == ["c.png", "test/b.png", "train/ant/a.png"]
    assert source.sample_ids("test") == []
    with pytest.raises(ValueError, match="labels: none all images are taken"):
        ImageFolderData.model_validate({**fields, "train": "train"})
