import gzip
import io
import struct

import numpy as np
import pytest

from tokexp.errors import DamagedError
from tokexp.spec.storage import SeitCodec
from tokexp.storage.codecs.seit import Seit, build


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
