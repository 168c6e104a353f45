from pathlib import Path

import numpy as np
import pytest
import torch

from tests.data.idx import write_mnist
from tests.data.pictures import tree
from tokexp.data.torchvision import build
from tokexp.data.torchvision_sets import SETS, found_in
from tokexp.errors import DataError
from tokexp.spec.data import TorchvisionData
from tokexp.torchvision_ops import ensure_torchvision


def spec(root: Path, name: str = "FashionMNIST", **fields: object) -> TorchvisionData:
    return TorchvisionData(kind="torchvision", name=name, root=str(root), **fields)


def test_images_and_labels_are_those_of_the_files(tmp_path: Path) -> None:
    written = write_mnist(tmp_path, "FashionMNIST")
    source = build(spec(tmp_path))
    for split, (images, labels) in written.items():
        expected = torch.from_numpy(images / np.float32(255)).float().unsqueeze(1)
        assert torch.equal(source.read(split, range(len(labels))), expected)
        assert source.labels(split).tolist() == labels.tolist()
    assert source.classes[0] == "T-shirt/top"
    assert source.sample_ids("train")[7] == "FashionMNIST/train/00007"
    assert source.sample_ids("test")[7] == "FashionMNIST/test/00007"


def test_images_can_be_brought_to_another_size(tmp_path: Path) -> None:
    write_mnist(tmp_path, "MNIST")
    source = build(spec(tmp_path, "MNIST", image_size=16, select_fraction=0.2))
    assert source.read("select", [0, 1]).shape == (2, 1, 16, 16)


def test_a_set_without_test_split_is_cut(tmp_path: Path) -> None:
    tree(tmp_path / "eurosat" / "2750", {"Forest": 10, "River": 10})
    source = build(spec(tmp_path, "EuroSAT"))
    assert np.bincount(source.labels("test")).tolist() == [2, 2]
    assert source.classes == ("Forest", "River")
    ids = source.sample_ids("train") + source.sample_ids("test")
    assert sorted(ids) == [f"EuroSAT/train/{place:05d}" for place in range(20)]


def test_a_validation_part_is_trained_on(tmp_path: Path) -> None:
    images = tree(tmp_path / "dtd" / "dtd" / "images", {"banded": 3, "dotted": 3})
    labels = images.parent / "labels"
    labels.mkdir()
    for number, part in enumerate(("train", "val", "test")):
        (labels / f"{part}1.txt").write_text("".join(f"{name}/{number:03d}.png\n" for name in ("banded", "dotted")))
    source = build(spec(tmp_path, "DTD", image_size=8))
    assert source.labels("train").tolist() == [0, 1, 0, 1]
    assert source.labels("test").tolist() == [0, 1]
    assert source.sample_ids("train")[-1] == "DTD/train/00003"


@pytest.mark.parametrize("name", sorted(SETS))
def test_every_set_that_is_missing_says_what_to_do(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match=rf"{name}.*{SETS[name].files[0]}.*data\.download: true"):
        build(spec(tmp_path, name, image_size=32))


def test_a_set_is_recognised_by_its_files(tmp_path: Path) -> None:
    assert not found_in(tmp_path, "MNIST")
    write_mnist(tmp_path, "MNIST")
    assert found_in(tmp_path, "MNIST")


def test_a_corrupt_image_is_named(tmp_path: Path) -> None:
    root = tree(tmp_path / "eurosat" / "2750", {"Forest": 5, "River": 5})
    (root / "Forest" / "000.png").write_bytes(b"")
    source = build(spec(tmp_path, "EuroSAT"))
    split = "train" if "EuroSAT/train/00000" in source.sample_ids("train") else "test"
    with pytest.raises(DataError, match="EuroSAT/train/00000"):
        source.read(split, range(len(source.labels(split))))


def test_torchvision_and_timm_can_be_imported_afterwards() -> None:
    ensure_torchvision()
    ensure_torchvision()
    import timm
    import torchvision

    assert torchvision.datasets.FakeData(size=1)[0][1] is not None
    assert timm.__version__
