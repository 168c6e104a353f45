import gzip
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tokexp.errors import InputError
from tokexp.registry import implementation
from tokexp.spec.data import SeitReleaseData
from tokexp.storage.seit_files import seit_file_names, write_seit_files
from tokexp.storage.store import TokenStore

Maker = Callable[..., tuple[Path, dict[str, Any]]]


def test_the_four_files_read_by_the_released_rules(make_store: Maker, tmp_path: Path) -> None:
    path, content = make_store(images=9, grid=(4, 4), num_codes=400)
    files = write_seit_files(TokenStore.open(path), tmp_path / "out", "train-token")
    assert [file.name for file in files] == [
        "train-token.data.bin.gz", "train-token.index.npy.gz", "train-label.txt", "codebook.ckpt"
    ]  # fmt: skip
    stream = gzip.decompress(files[0].read_bytes())
    offsets = np.load(io.BytesIO(gzip.decompress(files[1].read_bytes())))
    for image, tokens in enumerate(content["indices"].reshape(9, -1)):
        values, carry = [], 0
        for byte in stream[offsets[image] : offsets[image + 1]]:
            values += [] if byte == 255 else [byte + carry]
            carry = 255 if byte == 255 else 0
        assert values == tokens.tolist()
    assert [int(line) for line in files[2].read_text().splitlines()] == content["labels"].tolist()
    assert torch.equal(torch.load(files[3], weights_only=True), torch.from_numpy(content["codes"]))


@pytest.mark.parametrize(("change", "words"), [({"num_codes": 511}, "510 codes"), ({"grid": (2, 3)}, "square")])
def test_what_the_released_form_cannot_hold_is_refused(
    make_store: Maker, tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    path, _ = make_store(**{"grid": (2, 2), **change})
    with pytest.raises(InputError, match=words):
        write_seit_files(TokenStore.open(path), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_labels_are_named_like_the_releases() -> None:
    assert seit_file_names("imagenet1k-train-token")[2] == "imagenet1k-train-label.txt"
    assert seit_file_names("mine")[2] == "mine-label.txt"


def test_the_reader_of_releases_reads_the_export(make_store: Maker, tmp_path: Path) -> None:
    path, content = make_store(images=9, grid=(4, 4), num_codes=400)
    write_seit_files(TokenStore.open(path), tmp_path / "out", "train-token")
    (tmp_path / "out" / "codebook.ckpt").unlink()
    write_seit_files(TokenStore.open(path), tmp_path / "out", "test-token")
    spec = SeitReleaseData(
        kind="seit_release", root=str(tmp_path / "out"), train="train-token", test="test-token",
        grid=4, codebook_size=400, code_dim=2,
    )  # fmt: skip
    source = implementation("data", "seit_release")(spec)
    assert np.array_equal(source.indices("train"), content["indices"])
    assert np.array_equal(source.labels("test"), content["labels"])
    assert np.array_equal(source.codes, content["codes"])
