import numpy as np
import pytest

from tokexp.storage.codecs.packed import Packed


@pytest.mark.parametrize(
    ("num_codes", "tokens", "size"), [(64, 16, 12), (391, 1024, 1152), (8192, 1024, 1664), (2, 16, 2), (1, 16, 0)]
)
def test_an_image_takes_its_tokens_times_the_width(num_codes: int, tokens: int, size: int) -> None:
    indices = np.random.default_rng(0).integers(0, num_codes, (10, tokens))
    assert len(Packed(num_codes, tokens).encode(indices)) == 10 * size


@pytest.mark.parametrize("tokens", [1, 3, 16, 49])
def test_any_image_is_read_by_itself(tokens: int) -> None:
    indices = np.random.default_rng(0).integers(0, 391, (20, tokens))
    codec = Packed(391, tokens)
    data = np.frombuffer(codec.encode(indices), np.uint8)
    for position in range(20):
        assert codec.decode_image(data, 20, position).tolist() == indices[position].tolist()


def test_reading_an_image_touches_only_its_bytes() -> None:
    indices = np.random.default_rng(0).integers(0, 391, (20, 16))
    codec = Packed(391, 16)
    data = np.frombuffer(codec.encode(indices), np.uint8).copy()
    own = [slice(7 * 16, 8 * 16), slice(20 * 16 + 7 * 2, 20 * 16 + 8 * 2)]
    erased = np.zeros_like(data)
    for part in own:
        erased[part] = data[part]
    assert codec.decode_image(erased, 20, 7).tolist() == indices[7].tolist()
