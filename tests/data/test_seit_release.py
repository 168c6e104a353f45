import gzip
import io
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tests.data.releases import encode, write_bytes, write_codebook, write_split
from tokexp.data.base import GivenCodes
from tokexp.data.seit_release import SeitRelease, build, read_codebook
from tokexp.errors import DataError
from tokexp.spec.data import SeitReleaseData

LIMITS = [0, 1, 254, 255, 256, 390, 508, 509]


def spec(root: Path, **fields: object) -> SeitReleaseData:
    given = {"kind": "seit_release", "root": str(root), "train": "tr", "test": "te", "codebook": "codes.ckpt",
             "grid": 2, "codebook_size": 510, "code_dim": 3}  # fmt: skip
    return SeitReleaseData(**given | fields)


def release(root: Path, train: np.ndarray, **fields: object) -> SeitRelease:
    write_split(root, "tr", train, [number % 3 for number in range(len(train))])
    write_split(root, "te", train[:1], [4])
    write_codebook(root / "codes.ckpt", 510, 3)
    return build(spec(root, **fields))


def tokens_of(source: SeitRelease) -> np.ndarray:
    return np.concatenate(list(source.blocks("train")))


def broken(root: Path, records: list[bytes], **fields: object) -> SeitRelease:
    release(root, np.zeros((1, 2, 2), dtype=int))
    write_bytes(root, "tr", records, [0] * len(records))
    return build(spec(root, **fields))


def test_ids_at_the_limits_of_the_code_come_back(tmp_path: Path) -> None:
    tokens = np.array(LIMITS).reshape(2, 2, 2)
    source = release(tmp_path, tokens)
    assert np.array_equal(tokens_of(source), tokens)
    assert tokens_of(source).dtype == np.uint16


def test_random_tokens_come_back_over_several_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tokexp.data.seit_release._BLOCK", 3)
    tokens = np.random.default_rng(0).integers(0, 510, (11, 4, 4))
    assert np.array_equal(tokens_of(release(tmp_path, tokens, grid=4)), tokens)


def test_labels_ids_codes_and_classes_are_those_of_the_files(tmp_path: Path) -> None:
    source = release(tmp_path, np.zeros((4, 2, 2), dtype=int))
    assert source.labels("train").tolist() == [0, 1, 2, 0]
    assert source.labels("test").tolist() == [4]
    assert len(source.classes) == 5
    assert source.sample_ids("train")[3] == "tr/0000003"
    assert source.grid == (2, 2)
    assert np.array_equal(source.codebook.vectors, torch.load(tmp_path / "codes.ckpt", weights_only=True).numpy())


@pytest.mark.parametrize("suffix", [".npy", ".safetensors"])
def test_a_codebook_may_be_npy_or_safetensors(tmp_path: Path, suffix: str) -> None:
    release(tmp_path, np.zeros((1, 2, 2), dtype=int))
    codes = torch.arange(1530.0).view(510, 3)
    file = tmp_path / f"codes{suffix}"
    if suffix == ".npy":
        np.save(file, codes.numpy())
    else:
        save_file({"codes": codes}, file)
    assert np.array_equal(build(spec(tmp_path, codebook=file.name)).codebook.vectors, codes.numpy())


def test_labels_beside_are_found_by_the_word_label(tmp_path: Path) -> None:
    release(tmp_path, np.zeros((1, 2, 2), dtype=int))
    for split in ("tr", "te"):
        for kind in ("data.bin", "index.npy"):
            (tmp_path / f"{split}.{kind}.gz").rename(tmp_path / f"{split}-token.{kind}.gz")
        (tmp_path / f"{split}.label.txt").rename(tmp_path / f"{split}-label.txt")
    assert build(spec(tmp_path, train="tr-token", test="te-token")).labels("test").tolist() == [4]


GOOD = encode(np.zeros(4, dtype=int))


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (b"\xff\xff\x00\x00\x00", "two bytes 255"),
        (b"\x00\x00\x00\x00\xff", "ends within a two-byte id"),
        (b"\x00\x00\x00", "has 3 tokens"),
        (b"\x00\x00\x00\x00\x00", "has 5 tokens"),
        (b"", "has 0 tokens"),
    ],
)
@pytest.mark.parametrize("last", [True, False])
def test_a_damaged_image_is_named(tmp_path: Path, record: bytes, reason: str, last: bool) -> None:
    source = broken(tmp_path, [GOOD, GOOD, record] + ([] if last else [GOOD]))
    with pytest.raises(DataError, match=rf"tr\.data\.bin\.gz.*image 2 .*{reason}"):
        tokens_of(source)


def test_an_id_above_the_codebook_is_named(tmp_path: Path) -> None:
    source = release(tmp_path, np.array([[[0, 1], [2, 3]], [[0, 391], [0, 0]]]))
    source.codebook = GivenCodes(source.codebook.vectors[:391])
    with pytest.raises(DataError, match="image 1 holds an id above 390"):
        tokens_of(source)


def test_a_stream_of_another_length_than_its_index_is_refused(tmp_path: Path) -> None:
    source = release(tmp_path, np.zeros((2, 2, 2), dtype=int))
    for content, word in ((GOOD, "shorter"), (GOOD * 3, "longer")):
        (tmp_path / "tr.data.bin.gz").write_bytes(gzip.compress(content))
        with pytest.raises(DataError, match=word):
            tokens_of(source)


def test_a_truncated_gzip_file_is_refused(tmp_path: Path) -> None:
    source = release(tmp_path, np.random.default_rng(0).integers(0, 510, (50, 2, 2)))
    path = tmp_path / "tr.data.bin.gz"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match="cannot be unpacked"):
        tokens_of(source)


@pytest.mark.parametrize("offsets", [np.array([1, 4]), np.array([0, 8, 4]), np.array([0.0, 4.0]), np.array([0])])
def test_an_impossible_index_is_refused(tmp_path: Path, offsets: np.ndarray) -> None:
    release(tmp_path, np.zeros((1, 2, 2), dtype=int))
    buffer = io.BytesIO()
    np.save(buffer, offsets)
    (tmp_path / "tr.index.npy.gz").write_bytes(gzip.compress(buffer.getvalue()))
    with pytest.raises(DataError, match=r"tr\.index\.npy\.gz"):
        build(spec(tmp_path))


@pytest.mark.parametrize(
    ("text", "reason"), [("0\n1\n", "2 labels.*1 images"), ("zero\n", "line 1: 'zero'"), ("", "0 labels")]
)
def test_impossible_labels_are_refused(tmp_path: Path, text: str, reason: str) -> None:
    release(tmp_path, np.zeros((1, 2, 2), dtype=int))
    (tmp_path / "tr.label.txt").write_text(text)
    with pytest.raises(DataError, match=reason):
        build(spec(tmp_path))


def test_two_label_files_are_ambiguous(tmp_path: Path) -> None:
    release(tmp_path, np.zeros((1, 2, 2), dtype=int))
    (tmp_path / "tr-other.txt").write_text("0\n")
    with pytest.raises(DataError, match=r"exactly one text file.*tr-other\.txt, tr\.label\.txt"):
        build(spec(tmp_path))


def test_a_codebook_of_another_shape_is_refused(tmp_path: Path) -> None:
    release(tmp_path, np.zeros((1, 2, 2), dtype=int))
    with pytest.raises(DataError, match=r"\(510, 3\), the spec says \(391, 3\)"):
        build(spec(tmp_path, codebook_size=391))


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>", b"\x80\x02R."])
def test_a_codebook_that_is_no_torch_file_is_one_message(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "codes.ckpt").write_bytes(content)
    with pytest.raises(DataError, match="cannot be read as a codebook") as caught:
        read_codebook(tmp_path / "codes.ckpt")
    assert "weights_only" not in str(caught.value)


def test_a_codebook_that_would_run_code_is_refused(tmp_path: Path) -> None:
    release(tmp_path, np.zeros((1, 2, 2), dtype=int))
    torch.save({"codes": print}, tmp_path / "codes.ckpt")
    with pytest.raises(DataError, match="cannot be read as a codebook"):
        build(spec(tmp_path))
    torch.save({"codes": torch.zeros(510, 3)}, tmp_path / "codes.ckpt")
    with pytest.raises(DataError, match="not one bare tensor"):
        build(spec(tmp_path))


@pytest.mark.parametrize("name", ["tr.data.bin.gz", "te.index.npy.gz", "codes.ckpt", "te.label.txt"])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    release(tmp_path, np.zeros((1, 2, 2), dtype=int))
    (tmp_path / name).unlink()
    with pytest.raises(DataError, match=name.split(".")[0]):
        build(spec(tmp_path))
