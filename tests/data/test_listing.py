import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.data.pictures import picture, split_tree, tree, zipped
from tests.data.releases import write_codebook, write_split
from tokexp.data.digits import build as digits
from tokexp.data.image_folder import build as image_folder
from tokexp.data.listing import fingerprint, image_counts
from tokexp.errors import DataError
from tokexp.spec.data import DigitsData, ImageFolderData, SeitReleaseData, TorchvisionData


def folder(root: Path, **fields: object) -> ImageFolderData:
    return ImageFolderData(**{"kind": "image_folder", "root": str(root), "image_size": 8} | fields)


def test_listing_loads_no_numpy_torch_or_pillow() -> None:
    code = (
        "import sys; from tokexp.data.listing import fingerprint, image_counts;"
        "from tokexp.spec.data import DigitsData;"
        "spec = DigitsData(kind='digits'); fingerprint(spec); image_counts(spec);"
        "sys.exit(any(name in sys.modules for name in ('numpy', 'torch', 'PIL', 'sklearn')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("fields", [{}, {"select_fraction": 0.1}, {"test_fraction": 0.77, "select_fraction": 0.5}])
def test_counts_of_digits_are_those_of_the_source(fields: dict[str, float]) -> None:
    spec = DigitsData(kind="digits", **fields)
    source = digits(spec)
    assert image_counts(spec) == {split: len(source.labels(split)) for split in source.splits}


@pytest.mark.parametrize("with_test", [True, False])
@pytest.mark.parametrize("select", [0.0, 0.2])
def test_counts_of_a_folder_are_those_of_the_source(tmp_path: Path, with_test: bool, select: float) -> None:
    spec = folder(
        split_tree(tmp_path) if with_test else tree(tmp_path, {"a": 7, "b": 4, "c": 1}), select_fraction=select
    )
    source = image_folder(spec)
    assert image_counts(spec) == {split: len(source.labels(split)) for split in source.splits}


@pytest.mark.parametrize("mode", ["listing", "content"])
def test_where_a_folder_lies_is_no_part_of_its_fingerprint(tmp_path: Path, mode: str) -> None:
    first, second = split_tree(tmp_path / "one"), split_tree(tmp_path / "two" / "deeper")
    assert fingerprint(folder(first, fingerprint=mode)) == fingerprint(folder(second, fingerprint=mode))


def test_by_content_a_zip_is_its_tree(tmp_path: Path) -> None:
    root = split_tree(tmp_path / "tree")
    archive = zipped(root, tmp_path / "x.zip", "wrap/")
    assert fingerprint(folder(root, fingerprint="content")) == fingerprint(folder(archive, fingerprint="content"))


@pytest.mark.parametrize("mode", ["listing", "content"])
@pytest.mark.parametrize("change", ["more", "renamed", "longer"])
def test_a_changed_folder_has_another_fingerprint(tmp_path: Path, mode: str, change: str) -> None:
    root = split_tree(tmp_path)
    before = fingerprint(folder(root, fingerprint=mode))
    file = root / "train" / "ant" / "000.png"
    if change == "more":
        picture(99).save(root / "train" / "ant" / "new.png")
    elif change == "renamed":
        file.rename(file.with_name("new.png"))
    else:
        file.write_bytes(file.read_bytes() + b"x")
    assert fingerprint(folder(root, fingerprint=mode)) != before


def test_equal_sizes_are_told_apart_by_content_and_by_a_zips_checksums(tmp_path: Path) -> None:
    root = split_tree(tmp_path / "tree")
    for number, image in enumerate(sorted(root.rglob("*.png"))):
        image.write_bytes(image.read_bytes() + bytes(number))  # sizes that tell files apart
    specs = [folder(root, fingerprint="content"), folder(tmp_path / "x.zip"), folder(root)]
    zipped(root, tmp_path / "x.zip")
    before = [fingerprint(spec) for spec in specs]
    file = root / "train" / "ant" / "000.png"
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    zipped(root, tmp_path / "x.zip")
    assert [fingerprint(spec) != old for spec, old in zip(specs, before, strict=True)] == [True, True, False]


def test_folders_of_uncompressed_images_are_told_apart_though_all_sizes_are_equal(tmp_path: Path) -> None:
    for name, shade in (("one", 0), ("other", 1)):
        for kind in "ab":
            (tmp_path / name / kind).mkdir(parents=True)
            for number in range(40):
                picture(100 * shade + number, (8, 8)).save(tmp_path / name / kind / f"{number:02d}.bmp")
    one, other = (folder(tmp_path / name) for name in ("one", "other"))
    assert fingerprint(one) == fingerprint(one)
    assert fingerprint(one) != fingerprint(other)


def test_files_that_are_not_read_do_not_count(tmp_path: Path) -> None:
    root = split_tree(tmp_path)
    before = fingerprint(folder(root))
    (root / "train" / "notes.txt").write_text("x")
    tree(root, {"val/ant": 1})
    assert fingerprint(folder(root)) == before


def test_missing_data_is_an_error_or_absent(tmp_path: Path) -> None:
    for spec in (
        folder(tmp_path / "no"),
        TorchvisionData(kind="torchvision", name="CIFAR10", root=str(tmp_path)),
        SeitReleaseData(kind="seit_release", root=str(tmp_path)),
    ):
        with pytest.raises(DataError):
            fingerprint(spec)
        assert fingerprint(spec, strict=False) == "absent"
    assert image_counts(folder(tmp_path / "no"), strict=False) == {}
    with pytest.raises(DataError):
        image_counts(folder(tmp_path / "no"))


def test_a_torchvision_set_is_the_same_before_and_after_its_download(tmp_path: Path) -> None:
    fetch = TorchvisionData(kind="torchvision", name="CIFAR10", root=str(tmp_path), download=True)
    before = fingerprint(fetch)
    (tmp_path / "cifar-10-batches-py").mkdir()
    assert fingerprint(fetch.model_copy(update={"download": False})) == before
    assert fingerprint(fetch.model_copy(update={"name": "MNIST"})) != before


def test_published_sizes_of_torchvision_sets_are_known() -> None:
    assert image_counts(TorchvisionData(kind="torchvision", name="CIFAR10")) == {"train": 50_000, "test": 10_000}
    with_select = TorchvisionData(kind="torchvision", name="EuroSAT", select_fraction=0.1)
    assert image_counts(with_select) == {"train": 19_440, "test": 5_400, "select": 2_160}


def test_a_release_is_known_by_names_and_sizes(tmp_path: Path) -> None:
    for number, stem in enumerate(("a", "b")):
        write_split(tmp_path, stem, np.zeros((3 + number, 2, 2), dtype=int), [0] * (3 + number))
    write_codebook(tmp_path / "codes.ckpt", 4, 2)
    spec = SeitReleaseData(kind="seit_release", root=str(tmp_path), train="a", test="b", codebook="codes.ckpt")
    assert image_counts(spec) == {"train": 3, "test": 4}
    before = fingerprint(spec)
    write_split(tmp_path, "a", np.arange(20).reshape(5, 2, 2), [0] * 5)
    assert fingerprint(spec) != before
