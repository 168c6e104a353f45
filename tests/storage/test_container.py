"""The file format: damage anywhere is found; its first version never changes."""

import hashlib
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tokexp.errors import DamagedError, InputError, TokexpError
from tokexp.sections import VERSION
from tokexp.spec.storage import PackedCodec
from tokexp.storage.container import read_container, write_container
from tokexp.storage.store import TokenStore, write_store

Maker = Callable[..., tuple[Path, dict[str, Any]]]
KINDS = ["packed", "seit", "zstd", "rans0", "rans_context", "rans_context:best"]


def read_everything(path: Path) -> None:
    TokenStore.open(path).verify()


@pytest.mark.parametrize("kind", KINDS)
def test_every_flipped_bit_is_found(make_store: Maker, kind: str) -> None:
    path, _ = make_store(images=3, kind=kind)
    data = path.read_bytes()
    read_everything(path)
    # Every bit of one kind, and of the others, whose digests are the same code, at least one of every byte.
    for place in range(0, 8 * len(data), 1 if kind == "packed" else 7):
        flipped = bytearray(data)
        flipped[place // 8] ^= 1 << place % 8
        path.write_bytes(flipped)
        with pytest.raises(InputError if place < 64 else DamagedError):
            read_everything(path)


@pytest.mark.parametrize("kind", KINDS)
def test_every_truncation_and_every_addition_is_found(make_store: Maker, kind: str) -> None:
    path, _ = make_store(images=3, kind=kind)
    data = path.read_bytes()
    for length in range(len(data)):
        path.write_bytes(data[:length])
        with pytest.raises(TokexpError):
            TokenStore.open(path)
    path.write_bytes(data + b"\0")
    with pytest.raises(DamagedError, match="length"):
        TokenStore.open(path)


def test_two_exchanged_blocks_are_found(tmp_path: Path) -> None:
    write_container(tmp_path / "a", b"{}", [b"one", b"two"], 2)
    data = (tmp_path / "a").read_bytes()
    (tmp_path / "a").write_bytes(data[:-6] + b"twoone")
    container = read_container(tmp_path / "a")
    with pytest.raises(DamagedError):
        container.read(0)


def test_the_layout_is_the_documented_one(make_store: Maker) -> None:
    path, content = make_store(images=3)
    data = path.read_bytes()
    magic, version, header_length, index_length = struct.unpack_from("<8sIIQ", data)
    assert (magic, version, index_length) == (b"\x89TOKEXP\n", 1, 3 * 24)
    header, index = data[40 : 40 + header_length], data[40 + header_length :][:index_length]
    assert data[24:40] == hashlib.blake2b(data[:24] + header + index, digest_size=16).digest()
    assert json.loads(header) == {
        "grid": [2, 3], "images": 3, "codes": 11, "width": 2, "classes": 3, "block": 4096,
        "codec": {"kind": "packed"}, "metric": "cosine", "facts": {"note": "a"},
    }  # fmt: skip
    place = 40 + header_length + index_length
    sections = []
    for length, digest in struct.iter_unpack("<Q16s", index):
        sections.append(data[place : place + length])
        assert digest == hashlib.blake2b(sections[-1], digest_size=16).digest()
        place += length
    assert place == len(data)
    assert sections[1] == content["codes"].astype("<f4").tobytes()


def test_a_file_of_the_first_version_reads_for_ever(tmp_path: Path) -> None:
    golden = bytes.fromhex(GOLDEN)
    (tmp_path / "old").write_bytes(golden)
    store = TokenStore.open(tmp_path / "old")
    assert store.indices().tolist() == [[[0, 1, 2]], [[2, 2, 0]]]
    assert store.labels.tolist() == [4, 1]
    assert store.codes.tolist() == [[0.0], [0.5], [-2.0]]
    write_store(
        tmp_path / "new", np.array([[[0, 1, 2]], [[2, 2, 0]]]), np.array([4, 1]),
        np.array([[0.0], [0.5], [-2.0]], np.float32), PackedCodec(kind="packed"), metric="euclidean", num_classes=5,
    )  # fmt: skip
    assert (tmp_path / "new").read_bytes() == golden


def test_a_newer_version_asks_for_an_update(make_store: Maker) -> None:
    path, _ = make_store()
    data = bytearray(path.read_bytes())
    data[8] = VERSION + 1
    header_length, index_length = struct.unpack_from("<IQ", data, 12)
    described = bytes(data[:24] + data[40 : 40 + header_length + index_length])
    data[24:40] = hashlib.blake2b(described, digest_size=16).digest()
    path.write_bytes(data)
    with pytest.raises(InputError, match=rf"version {VERSION + 1}.*update tokexp"):
        TokenStore.open(path)


@pytest.mark.parametrize("header", [b"", b"[]", b"{}", b'{"grid":[0,3]}', b"\xff"])
def test_a_header_that_makes_no_sense_is_damage_even_with_right_digests(tmp_path: Path, header: bytes) -> None:
    write_container(tmp_path / "a", header, [b"", b""], 2)
    with pytest.raises(DamagedError, match="header"):
        TokenStore.open(tmp_path / "a")


def test_a_failing_source_of_sections_leaves_no_file(tmp_path: Path) -> None:
    def sections() -> Any:
        yield b"one"
        raise InputError("no more")

    with pytest.raises(InputError):
        write_container(tmp_path / "a", b"{}", sections(), 2)
    assert not (tmp_path / "a").exists()


GOLDEN = (
    "89544f4b4558500a01000000600000004800000000000000542d9f62844431e77819e16ebd1fbf5b7b2267726964223a5b312c335d2c2269"
    "6d61676573223a322c22636f646573223a332c227769647468223a312c22636c6173736573223a352c22626c6f636b223a343039362c2263"
    "6f646563223a7b226b696e64223a227061636b6564227d7d0200000000000000e0a92a6b59af95c6822ecf6ea46af0980c00000000000000"
    "abc84ccacd91815ad696ca4caad0a74602000000000000008863e2abfa836ff07ad7ffcb3b31a4400401000000000000003f000000c0a402"
)


CONSISTENT = {
    "grid": [1, 2],
    "images": 1,
    "codes": 2,
    "width": 1,
    "classes": 3,
    "block": 9,
    "codec": {"kind": "packed"},
}
SECTIONS = [b"\2", bytes(8), b"\1"]


@pytest.mark.parametrize(
    ("header", "sections"),
    [
        ({"grid": [0, 2]}, [b"\2", bytes(8), b""]),
        ({"images": 10}, [bytes(3), bytes(8), bytes(3)]),
        ({}, [*SECTIONS, b""]),
        ({}, [b"\3", *SECTIONS[1:]]),
        ({"width": 2}, SECTIONS),
        ({"implicit": True, "facts": {"fsq_levels": [3]}}, [b"\2", b"\7", b"\1"]),
        ({"implicit": True, "facts": {"fsq_levels": [3]}}, [b"\2", b"\7\0", b"\1"]),
    ],
)
def test_parts_that_do_not_fit_together_are_damage_even_with_right_digests(
    tmp_path: Path, header: dict[str, Any], sections: list[bytes]
) -> None:
    write_container(tmp_path / "good", json.dumps(CONSISTENT).encode(), SECTIONS, 3)
    assert TokenStore.open(tmp_path / "good").indices().tolist() == [[[1, 0]]]
    write_container(tmp_path / "a", json.dumps({**CONSISTENT, **header}).encode(), sections, len(sections))
    with pytest.raises(DamagedError):
        TokenStore.open(tmp_path / "a")


def test_an_index_of_broken_entries_is_damage_even_with_a_right_digest(tmp_path: Path) -> None:
    fixed = struct.pack("<8sIIQ", b"\x89TOKEXP\n", 1, 0, 5)
    digest = hashlib.blake2b(fixed + b"index", digest_size=16).digest()
    (tmp_path / "a").write_bytes(fixed + digest + b"index")
    with pytest.raises(DamagedError):
        TokenStore.open(tmp_path / "a")
