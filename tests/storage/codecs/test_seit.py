import gzip
import io
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tokexp.errors import DamagedError
from tokexp.spec.storage import SeitCodec
from tokexp.storage.codecs.seit import Seit, build
from tokexp.storage.store import TokenStore, write_store


def test_a_block_is_the_index_as_released_and_then_one_gzip_stream() -> None:
    indices = np.random.default_rng(0).integers(0, 391, (30, 16))
    codec = Seit(391, 16, 9)
    data = codec.encode(indices)
    (length,) = struct.unpack_from("<I", data)
    offsets = np.load(io.BytesIO(gzip.decompress(data[4 : 4 + length])))
    stream = gzip.decompress(data[4 + length :])
    assert codec.index_bytes(data) == 4 + length
    assert len(offsets) == 31
    assert offsets[-1] == len(stream) == 30 * 16 + (indices >= 255).sum()


def test_the_effort_of_gzip_comes_from_the_spec_or_from_the_header() -> None:
    indices = np.random.default_rng(0).integers(0, 8, (400, 64))
    fast = build(SeitCodec(kind="seit", level=1), None, 8, 64)
    best = build(SeitCodec(kind="seit", level=9), None, 8, 64)
    assert len(best.encode(indices)) < len(fast.encode(indices))
    assert build(None, fast.header(), 8, 64).header() == {"kind": "seit", "level": 1}


@pytest.mark.parametrize("data", [b"", b"\1\0\0", b"\5\0\0\0abc"])
def test_a_block_shorter_than_its_index_is_damage(data: bytes) -> None:
    with pytest.raises(DamagedError, match="too short"):
        Seit(391, 16, 9).decode(data, 1)


def test_memory_of_reading_does_not_grow_with_the_images(tmp_path: Path) -> None:
    def peak(images: int) -> int:
        path = tmp_path / f"{images}.tokens"
        tokens = np.random.default_rng(0).integers(0, 391, (images, 16, 16)).astype(np.uint16)
        codes = np.zeros((391, 1), np.float32)
        write_store(path, tokens, np.zeros(images, int), codes, SeitCodec(kind="seit", level=1), metric="cosine",
                    num_classes=1)  # fmt: skip
        store = TokenStore.open(path)
        tracemalloc.start()
        start = 0
        for part in store.parts():
            assert np.array_equal(part, tokens[start : start + len(part)])
            start += len(part)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert start == images
        return found

    few, many = peak(4_000), peak(24_000)
    assert many < few + 24 * 24_000  # the offsets, as they are in the file and as they are read
    assert many < 24_000 * 256  # half of the tokens


@pytest.mark.parametrize("change", [lambda data: data[:-9], lambda data: data + b"x", lambda data: data[:-4000]])
def test_a_stream_that_is_cut_off_or_goes_on_is_found_while_reading(change: Callable[[bytes], bytes]) -> None:
    tokens = np.random.default_rng(0).integers(0, 391, (2500, 16)).astype(np.uint16)
    codec = Seit(391, 16, 6)
    data = codec.encode(tokens)
    assert np.array_equal(np.concatenate(list(codec.decode_parts(data, 2500))), tokens)
    with pytest.raises(DamagedError, match="restore the file"):
        list(codec.decode_parts(change(data), 2500))
