"""What holds for every form: what was written comes back, damage is found, and equal tokens are equal files."""

import importlib.util
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.storage.interchange.conftest import PACKED, everything, same
from tokexp.errors import DamagedError, DataError, InputError
from tokexp.stages.interchange import FORMS, reader, writer
from tokexp.storage.interchange.reading import Given
from tokexp.storage.interchange.table import table_of, write_table
from tokexp.storage.store import TokenStore

Maker = Callable[..., TokenStore]


@pytest.fixture(params=FORMS)
def form(request: pytest.FixtureRequest) -> str:
    """Every form in turn."""
    if request.param == "huggingface" and importlib.util.find_spec("datasets") is None:
        pytest.skip("needs the extra huggingface")
    return str(request.param)


def exported(form: str, folder: Path, **stores: TokenStore) -> Path:
    folder.mkdir()
    writer(form)({name: table_of(store) for name, store in stores.items()}, folder)
    return folder


def test_splits_come_back_as_they_were(form: str, store_at: Maker, tmp_path: Path) -> None:
    stores = {"train": store_at("train"), "test": store_at("test", images=5), "select": store_at("select", images=1)}
    same(reader(form)(exported(form, tmp_path / "out", **stores), Given()), stores)


def test_an_empty_store_comes_back_empty(form: str, store_at: Maker, tmp_path: Path) -> None:
    stores = {"train": store_at("train", images=0)}
    same(reader(form)(exported(form, tmp_path / "out", **stores), Given()), stores)


def test_what_was_read_becomes_the_same_store(form: str, store_at: Maker, tmp_path: Path) -> None:
    store = store_at("train")
    table = reader(form)(exported(form, tmp_path / "out", train=store), Given())["train"]
    write_table(tmp_path / "again.tokens", table, PACKED)
    assert (tmp_path / "again.tokens").read_bytes() == store.path.read_bytes()
    assert [path for path in tmp_path.iterdir() if "gathered" in path.name] == []


def test_a_flipped_bit_of_any_file_is_found_before_a_token_is_read(form: str, store_at: Maker, tmp_path: Path) -> None:
    folder = exported(form, tmp_path / "out", train=store_at("train"))
    for path in [path for path in folder.rglob("*") if path.is_file() and path.name != "tokens.json"]:
        whole = path.read_bytes()
        for place in {0, len(whole) // 2, len(whole) - 1}:
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 16]) + whole[place + 1 :])
            with pytest.raises((DamagedError, DataError)):
                reader(form)(folder, Given())
        path.unlink()
        with pytest.raises((DamagedError, DataError)):
            reader(form)(folder, Given())
        path.write_bytes(whole)


def test_equal_tokens_are_equal_files(form: str, store_at: Maker, tmp_path: Path) -> None:
    if form == "huggingface":
        pytest.skip("datasets writes a random fingerprint")
    store = store_at("train")
    one, two = (exported(form, tmp_path / name, train=store) for name in ("one", "two"))
    for path in one.iterdir():
        assert path.read_bytes() == (two / path.name).read_bytes(), path.name


def test_splits_of_two_codebooks_are_refused(form: str, store_at: Maker, tmp_path: Path) -> None:
    other = store_at("test", codes=np.zeros((300, 3), np.float32))
    with pytest.raises(InputError, match="another codebook"):
        exported(form, tmp_path / "out", train=store_at("train"), test=other)


def test_a_folder_of_something_else_is_refused(form: str, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(DataError):
        reader(form)(tmp_path, Given())


def test_an_unknown_form_is_refused() -> None:
    with pytest.raises(InputError, match="there are seit"):
        writer("parquet")


def test_tokens_are_handed_on_block_by_block(form: str, store_at: Maker, tmp_path: Path) -> None:
    store = store_at("train")
    read: list[int] = []
    block = store.block
    store.block = lambda number: (read.append(number), block(number))[1]  # type: ignore[method-assign, assignment]
    table = table_of(store)
    first = next(iter(table.blocks()))
    assert read == [0]
    assert len(first[0]) == 4
    exported(form, tmp_path / "out", train=store)
    assert read == [0, 0, 1, 2]
    assert everything(table)[0].shape == (11, 4, 4)


@pytest.mark.parametrize("announced", [10, 12])
def test_a_source_with_another_number_of_images_leaves_no_store(
    store_at: Maker, tmp_path: Path, announced: int
) -> None:
    table = table_of(store_at("train"))
    wrong = table.with_blocks(announced, table.blocks)
    with pytest.raises(DataError, match="announces"):
        write_table(tmp_path / "wrong.tokens", wrong, PACKED)
    assert [path.name for path in tmp_path.iterdir()] == ["train.tokens"]
