import gzip
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tokexp.errors import DataError, InputError
from tokexp.registry import implementation
from tokexp.spec.data import SeitReleaseData
from tokexp.stages.interchange import read_seit
from tokexp.storage.interchange.reading import Given
from tokexp.storage.interchange.seit import file_names, write_folder
from tokexp.storage.interchange.table import table_of
from tokexp.storage.store import TokenStore

Maker = Callable[..., TokenStore]


def exported(folder: Path, **stores: TokenStore) -> Path:
    folder.mkdir()
    write_folder({name: table_of(store) for name, store in stores.items()}, folder)
    return folder


def test_the_files_read_by_the_released_rules(store_at: Maker, tmp_path: Path) -> None:
    store = store_at(images=9, codes=np.random.default_rng(0).normal(size=(400, 2)).astype(np.float32))
    folder = exported(tmp_path / "out", train=store)
    stream = gzip.decompress((folder / "train-token.data.bin.gz").read_bytes())
    offsets = np.load(io.BytesIO(gzip.decompress((folder / "train-token.index.npy.gz").read_bytes())))
    for image, tokens in enumerate(store.indices().reshape(9, -1)):
        values, carry = [], 0
        for byte in stream[offsets[image] : offsets[image + 1]]:
            values += [] if byte == 255 else [byte + carry]
            carry = 255 if byte == 255 else 0
        assert values == tokens.tolist()
    assert [int(line) for line in (folder / "train-label.txt").read_text().splitlines()] == store.labels.tolist()
    assert torch.equal(torch.load(folder / "codebook.ckpt", weights_only=True), torch.from_numpy(store.codes))


@pytest.mark.parametrize(
    ("change", "words"), [({"codes": np.zeros((511, 2), np.float32)}, "510 codes"), ({"grid": (2, 3)}, "square")]
)
def test_what_the_released_form_cannot_hold_is_refused(
    store_at: Maker, tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        exported(tmp_path / "out", train=store_at(**change))


def test_labels_are_named_like_the_releases() -> None:
    assert file_names("imagenet1k-train-token")[2] == "imagenet1k-train-label.txt"
    assert file_names("mine")[2] == "mine-label.txt"


def test_the_data_kind_seit_release_reads_the_folder(store_at: Maker, tmp_path: Path) -> None:
    train, test = store_at("train"), store_at("test", images=3)
    folder = exported(tmp_path / "out", train=train, test=test)
    spec = SeitReleaseData(
        kind="seit_release", root=str(folder), train="train-token", test="test-token", grid=4, codebook_size=300,
        code_dim=3,
    )  # fmt: skip
    source = implementation("data", "seit_release")(spec)
    assert np.array_equal(np.concatenate(list(source.blocks("train"))), train.indices())
    assert np.array_equal(source.labels("test"), test.labels)
    assert np.array_equal(source.codebook.vectors, train.codes)


def test_a_release_without_a_manifest_is_read_by_its_names(store_at: Maker, tmp_path: Path) -> None:
    store = store_at()
    folder = exported(tmp_path / "out", train=store)
    (folder / "tokens.json").unlink()
    for path in list(folder.glob("train-*")):
        path.rename(folder / path.name.replace("train-", "imagenet1k-val-"))
    (table,) = read_seit(folder).values()
    assert list(read_seit(folder)) == ["test"]
    assert (table.grid, table.metric, table.num_classes) == ((4, 4), "cosine", int(store.labels.max()) + 1)
    assert np.array_equal(np.concatenate([block for block, _ in table.blocks()]), store.indices())


def test_a_grid_that_does_not_fit_is_refused(store_at: Maker, tmp_path: Path) -> None:
    folder = exported(tmp_path / "out", train=store_at())
    (folder / "tokens.json").unlink()
    with pytest.raises(DataError, match="16 tokens"):
        read_seit(folder, Given(grid=(3, 3)))
    assert read_seit(folder, Given(grid=(2, 8)))["train"].grid == (2, 8)
