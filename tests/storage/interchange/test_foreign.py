"""Files that others wrote, and what their own readers make of ours."""

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.storage.interchange.conftest import everything
from tokexp.errors import DataError
from tokexp.storage.interchange import huggingface, numpy_files, webdataset
from tokexp.storage.interchange.reading import Given, splits_named
from tokexp.storage.interchange.table import table_of
from tokexp.storage.store import TokenStore

Maker = Callable[..., TokenStore]
CODES = np.arange(20, dtype=np.float64).reshape(10, 2)
TOKENS = np.random.default_rng(0).integers(0, 10, (6, 9))
LABELS = np.array([0, 1, 2, 0, 1, 2], np.int32)


def test_numpy_reads_the_file_without_tokexp(store_at: Maker, tmp_path: Path) -> None:
    store = store_at()
    numpy_files.write_file(table_of(store), tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz", allow_pickle=False) as arrays:
        assert np.array_equal(arrays["indices"], store.indices())
        assert np.array_equal(arrays["labels"], store.labels)
        assert np.array_equal(arrays["codes"], store.codes)
        assert '"metric": "cosine"' in str(arrays["about"])


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_flat_tokens_of_any_integer_type_are_read(save: Callable[..., None], tmp_path: Path) -> None:
    save(tmp_path / "mine.npz", x=TOKENS.astype(">i4"), y=LABELS, codes=CODES)
    table = numpy_files.read(tmp_path / "mine.npz", Given(fields=("x", "y"), metric="cosine"))["train"]
    assert (table.grid, table.images, table.num_classes, table.metric) == ((3, 3), 6, 3, "cosine")
    assert np.array_equal(everything(table)[0].reshape(6, 9), TOKENS)
    assert np.array_equal(table.codes, CODES.astype(np.float32))


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"indices": TOKENS, "labels": LABELS}, "--codebook"),
        ({"indices": TOKENS, "labels": LABELS[:5], "codes": CODES}, "one label per image"),
        ({"indices": TOKENS, "labels": LABELS - 1, "codes": CODES}, "class numbers"),
        ({"indices": TOKENS[:, :8], "labels": LABELS, "codes": CODES}, "--grid"),
        ({"tokens": TOKENS, "labels": LABELS, "codes": CODES}, "--fields"),
        ({"indices": TOKENS, "labels": LABELS, "codes": CODES * np.nan}, "finite"),
    ],
)
def test_arrays_that_are_no_token_set_are_refused(arrays: dict[str, np.ndarray], words: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "mine.npz", **arrays)
    with pytest.raises(DataError, match=words):
        numpy_files.read(tmp_path / "mine.npz", Given())


def test_pickled_objects_are_never_loaded(tmp_path: Path) -> None:
    np.savez(tmp_path / "mine.npz", indices=np.array([{1: 2}], object), labels=LABELS)
    with pytest.raises(DataError, match="without pickled objects"):
        numpy_files.read(tmp_path / "mine.npz", Given())


def test_the_library_webdataset_reads_the_shards(
    store_at: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = pytest.importorskip("webdataset")
    monkeypatch.setattr(webdataset, "SHARD_IMAGES", 4)
    store = store_at()
    webdataset.write_folder({"train": table_of(store)}, tmp_path)
    shards = sorted(str(path) for path in tmp_path.glob("train-*.tar"))
    assert len(shards) == 3
    samples = list(library.WebDataset(shards, shardshuffle=False).decode())
    assert np.array_equal(np.stack([sample["npy"] for sample in samples]), store.indices())
    assert [sample["cls"] for sample in samples] == store.labels.tolist()


def test_shards_of_others_are_read_by_their_fields(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "birds-val-000.tar", "w") as archive:
        for place, (tokens, label) in enumerate(zip(TOKENS, LABELS, strict=True)):
            content = io.BytesIO()
            np.save(content, tokens)
            for name, data in (("tok.npy", content.getvalue()), ("txt", b"a bird"), ("y", f"{label}\n".encode())):
                member = tarfile.TarInfo(f"./v1.0/{place:03d}.{name}")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    given = Given(codes=CODES.astype(np.float32), fields=("tok.npy", "y"))
    table = webdataset.read(tmp_path, given)["test"]
    indices, labels = everything(table)
    assert np.array_equal(indices.reshape(6, 9), TOKENS)
    assert labels.tolist() == LABELS.tolist()
    with pytest.raises(DataError, match="see --fields"):
        webdataset.read(tmp_path, Given(codes=CODES, fields=("npy", "y")))


def test_a_tar_file_that_ends_early_is_refused(store_at: Maker, tmp_path: Path) -> None:
    webdataset.write_folder({"train": table_of(store_at())}, tmp_path)
    (tmp_path / "tokens.json").unlink()
    shard = tmp_path / "train-000000.tar"
    shard.write_bytes(shard.read_bytes()[:700])
    with pytest.raises(DataError):
        webdataset.read(tmp_path, Given())


def test_the_library_datasets_reads_the_folder(store_at: Maker, tmp_path: Path) -> None:
    library = pytest.importorskip("datasets")
    store = store_at()
    huggingface.write_folder({"train": table_of(store)}, tmp_path)
    found = library.load_from_disk(str(tmp_path))["train"].with_format("numpy")
    assert np.array_equal(found[:]["tokens"], store.indices())
    assert found[:]["label"].tolist() == store.labels.tolist()


def test_a_dataset_of_others_is_read_by_its_columns(tmp_path: Path) -> None:
    library = pytest.importorskip("datasets")
    made = library.Dataset.from_dict({"ids": TOKENS.tolist(), "y": LABELS.tolist()})
    library.DatasetDict({"validation": made}).save_to_disk(str(tmp_path / "out"))
    given = Given(codes=CODES, fields=("ids", "y"), grid=(3, 3))
    table = huggingface.read(tmp_path / "out", given)["test"]
    assert np.array_equal(everything(table)[0].reshape(6, 9), TOKENS)
    with pytest.raises(DataError, match="ids, y"):
        huggingface.read(tmp_path / "out", Given(codes=CODES))


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        (["imagenet1k-train-token", "imagenet1k-val-token"], ["train", "test"]),
        (["train", "validation", "test"], ["train", "select", "test"]),
        (["birds"], ["train"]),
    ],
)
def test_names_tell_the_splits(names: list[str], splits: list[str]) -> None:
    assert list(splits_named(names, Given(), "it").values()) == splits


def test_names_that_mean_the_same_split_are_refused() -> None:
    with pytest.raises(DataError, match="same split"):
        splits_named(["a", "b"], Given(), "it")
    assert splits_named(["a"], Given(split="select"), "it") == {"a": "select"}
