"""What every source of images promises, checked for each of them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.data.idx import write_mnist
from tests.data.pictures import split_tree, zipped
from tokexp.data.base import ImageSource
from tokexp.data.listing import fingerprint
from tokexp.registry import implementation
from tokexp.spec.data import DataSpec, DigitsData, ImageFolderData, TorchvisionData


def _digits(_: Path) -> DataSpec:
    return DigitsData(kind="digits", select_fraction=0.25)


def _folder(root: Path) -> DataSpec:
    split_tree(root / "tree")
    return ImageFolderData(kind="image_folder", root=str(root / "tree"), image_size=8, select_fraction=0.25)


def _zip(root: Path) -> DataSpec:
    zipped(split_tree(root / "tree"), root / "x.zip")
    return ImageFolderData(
        kind="image_folder", root=str(root / "x.zip"), image_size=12, channels=1, select_fraction=0.25
    )


def _torchvision(root: Path) -> DataSpec:
    write_mnist(root, "KMNIST")
    return TorchvisionData(kind="torchvision", name="KMNIST", root=str(root), select_fraction=0.25)


@pytest.fixture(params=[_digits, _folder, _zip, _torchvision])
def spec(request: pytest.FixtureRequest, tmp_path: Path) -> DataSpec:
    make: Callable[[Path], DataSpec] = request.param
    return make(tmp_path)


@pytest.fixture
def source(spec: DataSpec) -> ImageSource:
    built: ImageSource = implementation("data", spec.kind)(spec)
    return built


def test_splits_are_train_test_and_select(source: ImageSource) -> None:
    assert set(source.splits) == {"train", "test", "select"}


def test_without_select_fraction_there_is_no_select_split(spec: DataSpec) -> None:
    plain: ImageSource = implementation("data", spec.kind)(spec.model_copy(update={"select_fraction": 0.0}))
    assert set(plain.splits) == {"train", "test"}


def test_a_split_that_does_not_exist_is_a_key_error(source: ImageSource) -> None:
    with pytest.raises(KeyError):
        source.labels("validation")


def test_labels_are_positions_in_the_classes(source: ImageSource) -> None:
    for split in source.splits:
        labels = source.labels(split)
        assert labels.dtype == np.int64
        assert len(labels) > 0
        assert labels.min() >= 0
        assert labels.max() < len(source.classes)


def test_every_image_has_one_name_of_its_own_over_all_splits(source: ImageSource) -> None:
    names = [name for split in source.splits for name in source.sample_ids(split)]
    assert len(set(names)) == len(names) == sum(len(source.labels(split)) for split in source.splits)


def test_images_have_the_specs_shape_and_lie_in_0_1(spec: DataSpec, source: ImageSource) -> None:
    images = source.read("train", range(len(source.labels("train"))))
    assert images.dtype == torch.float32
    assert images.shape[1:] == spec.image_shape()  # type: ignore[union-attr]
    assert images.min() >= 0
    assert 0.5 < images.max() <= 1


def test_reading_follows_the_positions_asked_for(source: ImageSource) -> None:
    together = source.read("test", [3, 0, 3])
    assert torch.equal(together[0], together[2])
    assert torch.equal(together[1:2], source.read("test", [0]))
    assert not torch.equal(together[0], together[1])
    assert len(source.read("test", [])) == 0


def test_a_second_source_of_the_same_spec_is_the_same(spec: DataSpec, source: ImageSource) -> None:
    again: ImageSource = implementation("data", spec.kind)(spec)
    for split in source.splits:
        assert again.sample_ids(split) == source.sample_ids(split)
        assert np.array_equal(again.labels(split), source.labels(split))
        assert torch.equal(again.read(split, [0, 1]), source.read(split, [0, 1]))


def test_the_split_seed_decides_the_select_split_and_not_the_given_test_split(
    spec: DataSpec, source: ImageSource
) -> None:
    other: ImageSource = implementation("data", spec.kind)(spec.model_copy(update={"split_seed": 9}))
    assert other.sample_ids("select") != source.sample_ids("select")
    if spec.kind != "digits":
        assert other.sample_ids("test") == source.sample_ids("test")


def test_the_data_has_a_fingerprint(spec: DataSpec) -> None:
    assert len(fingerprint(spec)) == 32
