from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.data.pictures import CLASSES, picture, split_tree, tree, zipped
from tokexp.data.image_folder import ImageFolder, build
from tokexp.errors import DataError
from tokexp.spec.data import ImageFolderData


def source(root: Path, **fields: object) -> ImageFolder:
    return build(ImageFolderData(**{"kind": "image_folder", "root": str(root), "image_size": 8} | fields))


def everything(images: ImageFolder, split: str) -> torch.Tensor:
    return images.read(split, range(len(images.labels(split))))


def test_pixels_are_those_of_the_file(tmp_path: Path) -> None:
    tree(tmp_path, {"ant": 4, "bee": 4})
    images = source(tmp_path, image_size=8)
    place = images.sample_ids("train").index("bee/001.png")
    expected = np.asarray(picture(5).resize((8, 8), Image.Resampling.BICUBIC)) / np.float32(255)
    assert torch.equal(images.read("train", [place])[0], torch.from_numpy(expected).permute(2, 0, 1))


@pytest.mark.parametrize("top", ["", "wrap/"])
@pytest.mark.parametrize("fields", [{}, {"select_fraction": 0.25}, {"channels": 1, "resize": "crop"}])
def test_a_zip_reads_as_its_tree(tmp_path: Path, top: str, fields: dict[str, object]) -> None:
    root = split_tree(tmp_path / "tree")
    one, other = source(root, **fields), source(zipped(root, tmp_path / "x.zip", top), **fields)
    assert one.splits == other.splits
    for split in one.splits:
        assert one.sample_ids(split) == other.sample_ids(split)
        assert np.array_equal(one.labels(split), other.labels(split))
        assert torch.equal(everything(one, split), everything(other, split))


def test_without_test_folder_the_fraction_is_held_out_by_class(tmp_path: Path) -> None:
    images = source(tree(tmp_path, dict.fromkeys(CLASSES, 10)), test_fraction=0.3)
    assert np.bincount(images.labels("test")).tolist() == [3, 3, 3]
    assert not set(images.sample_ids("test")) & set(images.sample_ids("train"))


def test_many_images_are_read_in_order_by_threads(tmp_path: Path) -> None:
    images = source(tree(tmp_path, {"ant": 60, "bee": 60}), test_fraction=0.05)
    images._threads = 4
    one_by_one = torch.cat([images.read("train", [place]) for place in range(len(images.labels("train")))])
    assert len(one_by_one) >= 64
    assert torch.equal(everything(images, "train"), one_by_one)


@pytest.mark.parametrize("zip_it", [False, True])
@pytest.mark.parametrize("content", [b"", b"not a picture"])
def test_a_corrupt_image_is_an_error_that_names_it(tmp_path: Path, content: bytes, zip_it: bool) -> None:
    root = split_tree(tmp_path / "tree")
    (root / "train" / "bee" / "002.png").write_bytes(content)
    images = source(zipped(root, tmp_path / "x.zip") if zip_it else root)
    with pytest.raises(DataError, match=r"train/bee/002\.png.*corrupt: skip"):
        everything(images, "train")


def test_corrupt_images_can_be_left_out_and_are_listed(tmp_path: Path) -> None:
    root = split_tree(tmp_path)
    whole = source(root, select_fraction=0.25)
    bad = ["train/bee/002.png", "test/ant/000.png"]
    for name in bad:
        (root / name).write_bytes(b"")
    images = source(root, corrupt="skip", select_fraction=0.25)
    assert sorted(images.skipped) == sorted(bad)
    for split in whole.splits:
        assert images.sample_ids(split) == [name for name in whole.sample_ids(split) if name not in bad]
        assert len(everything(images, split)) == len(images.sample_ids(split)) == len(images.labels(split))


def test_nothing_is_skipped_where_all_is_well(tmp_path: Path) -> None:
    assert source(split_tree(tmp_path), corrupt="skip").skipped == {}


def test_a_set_of_corrupt_images_only_is_an_error(tmp_path: Path) -> None:
    tree(tmp_path, {"ant": 2, "bee": 2})
    for path in tmp_path.rglob("*.png"):
        path.write_bytes(b"x")
    with pytest.raises(DataError, match="no training image that can be read"):
        source(tmp_path, corrupt="skip")


def test_a_zip_with_a_wrong_checksum_is_an_error(tmp_path: Path) -> None:
    root = split_tree(tmp_path / "tree")
    archive = zipped(root, tmp_path / "x.zip")
    content = archive.read_bytes()
    inside = (root / "train" / "ant" / "000.png").read_bytes()
    place = content.index(inside) + len(inside) // 2
    archive.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
    with pytest.raises(DataError, match=r"train/ant/000\.png.*CRC"):
        everything(source(archive), "train")


def test_a_file_that_vanished_is_an_error_that_names_it(tmp_path: Path) -> None:
    images = source(split_tree(tmp_path))
    (tmp_path / "train" / "ant" / "000.png").unlink()
    with pytest.raises(DataError, match=r"train/ant/000\.png"):
        everything(images, "train")
