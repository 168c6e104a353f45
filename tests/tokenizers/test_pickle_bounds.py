"""Files of a few bytes that ask for gigabytes or years: refused before anything is built of them."""

import pickle
import struct
import zipfile
from pathlib import Path

import pytest
import torch

from tokexp.errors import DataError
from tokexp.tokenizers.checkpoints import read_tensors
from tokexp.tokenizers.pickled import read_pickled

START = b"\x80\x04"
MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001


def text(word: str) -> bytes:
    return b"\x8c" + bytes([len(word)]) + word.encode()


def named(module: str, name: str) -> bytes:
    return b"c" + module.encode() + b"\n" + name.encode() + b"\n"


def doubled(times: int) -> bytes:
    """A tuple that holds itself twice, so often: 2**times values behind a few bytes each."""
    return b"N\x94" + b"".join(b"h" + bytes([n]) + b"h" + bytes([n]) + b"\x86\x94" for n in range(times))


REBUILD = named("torch._utils", "_rebuild_parameter")
ATTACKS = {
    "a place in the memo beyond all others": (b"Nr\xff\xff\xff\x7f.", "asks for far more memory"),
    "a key that is nested deep": (b"})" + b"\x85" * 100_000 + b"Ns.", "a tuple of more parts"),
    "a key that is long to hash": (b"}" + doubled(60) + b"Ns.", "a tuple of more parts"),
    "an element of a set that is long to hash": (b"\x8f(" + doubled(60) + b"\x90.", "a tuple of more parts"),
    "a key that a function returned": (b"}" + REBUILD + doubled(60) + b"\x85RNs.", "a tuple of more parts"),
    "a registered extension": (b"\x82\x01.", "operation EXT1"),
    "an instance in the old way": (b'(S"true"\nios\nsystem\n.', "operation"),
    "an object in the old way": (b"(" + named("os", "system") + b"o.", "operation OBJ"),
    "a persistent id as text": (b"P1\n.", "operation PERSID"),
    "a buffer": (b"\x96" + struct.pack("<Q", 1 << 40) + b".", "cannot be read|operation"),
    "a function that is changed": (REBUILD + b"N}" + text("__defaults__") + b")s\x86b.", "it changes what reads it"),
    "nothing on the stack": (b"R.", "cannot be read as a torch file"),
    "no mark": (b"t.", "cannot be read as a torch file"),
    "an end alone": (b".", "cannot be read as a torch file"),
}


def archive(file: Path, content: bytes, storage: bytes = b"", compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(file, "w", compression) as made:
        made.writestr("archive/data.pkl", content)
        made.writestr("archive/byteorder", "little")
        made.writestr("archive/data/0", storage)
    return file


def stream(file: Path, content: bytes) -> Path:
    parts = [pickle.dumps(MAGIC, 2), pickle.dumps(PROTOCOL, 2), pickle.dumps({}, 2), content, pickle.dumps([], 2)]
    file.write_bytes(b"".join(parts))
    return file


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("write", [archive, stream])
@pytest.mark.parametrize("attack", ATTACKS)
def test_a_pickle_that_torch_never_writes_is_refused(attack: str, write: object, tmp_path: Path) -> None:
    content, words = ATTACKS[attack]
    file = write(tmp_path / "a.pt", START + content)  # type: ignore[operator]
    with pytest.raises(DataError, match=words):
        read_pickled(file)
    with pytest.raises(DataError):
        read_tensors(file)


def test_an_archive_that_is_compressed_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    file = archive(tmp_path / "a.pt", START + b"}.", bytes(1 << 22), zipfile.ZIP_DEFLATED)
    assert file.stat().st_size < 1 << 16
    with pytest.raises(DataError, match="an archive that is compressed"):
        read_tensors(file)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("zipped", [True, False])
def test_what_torch_writes_by_any_protocol_is_read(protocol: int, zipped: bool, tmp_path: Path) -> None:
    content = {
        "state_dict": {"w": torch.arange(6.0).reshape(2, 3), "half": torch.ones(3, dtype=torch.float16)},
        "optimizer": {(1, "a"): [0.1, {2, 3}, None, True, b"b", 2**70, frozenset((1,))]}, "lr": 1e-3,
    }  # fmt: skip
    torch.save(content, tmp_path / "a.pt", pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)
    found = read_tensors(tmp_path / "a.pt")
    assert torch.equal(found["w"], content["state_dict"]["w"])  # type: ignore[index]
    assert found["half"].dtype == torch.float16
