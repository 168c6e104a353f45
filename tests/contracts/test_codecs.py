"""What every codec holds: lossless for any count of codes and any size, deterministic, and refusing foreign bytes."""

from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from tokexp.errors import DamagedError, InputError
from tokexp.registry import implementation
from tokexp.spec.storage import CodecSpec
from tokexp.storage.base import Codec

KINDS = [member.model_fields["kind"].annotation.__args__[0] for member in get_args(get_args(CodecSpec)[0])]
MOST_CODES = {"packed": 65_536, "seit": 510}


def codec_for(kind: str, num_codes: int, tokens: int) -> Codec:
    spec = TypeAdapter(CodecSpec).validate_python({"kind": kind})
    return implementation("codecs", kind)(spec, None, num_codes, tokens)


def reader_of(codec: Codec, kind: str, num_codes: int, tokens: int) -> Codec:
    return implementation("codecs", kind)(None, {"kind": kind, **codec.header()}, num_codes, tokens)


@st.composite
def blocks(draw: st.DrawFn, most_codes: int) -> tuple[int, np.ndarray]:
    num_codes = draw(st.sampled_from([1, 2, 3, 16, 17, 255, 256, 257, 391, most_codes]) | st.integers(1, most_codes))
    count, tokens = draw(st.integers(0, 9)), draw(st.integers(1, 70))
    style = draw(st.sampled_from(["random", "constant", "highest", "around the escape"]))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    if style == "random":
        indices = generator.integers(0, num_codes, (count, tokens))
    elif style == "constant":
        indices = np.full((count, tokens), generator.integers(0, num_codes))
    elif style == "highest":
        indices = np.full((count, tokens), num_codes - 1)
    else:
        indices = np.minimum(generator.integers(253, 258, (count, tokens)), num_codes - 1)
    return num_codes, indices.astype(np.uint16)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_every_block_comes_back_as_it_was(kind: str, data: st.DataObject) -> None:
    num_codes, indices = data.draw(blocks(MOST_CODES[kind]))
    codec = codec_for(kind, num_codes, indices.shape[1])
    reader = reader_of(codec, kind, num_codes, indices.shape[1])
    decoded = reader.decode(codec.encode(indices), len(indices))
    assert decoded.dtype == np.uint16
    assert decoded.shape == indices.shape
    assert np.array_equal(decoded, indices)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64])
def test_the_integer_type_of_the_indices_does_not_matter(kind: str, dtype: type) -> None:
    indices = np.arange(48).reshape(3, 16)
    codec = codec_for(kind, 48, 16)
    assert codec.encode(indices.astype(dtype)) == codec.encode(indices.astype(np.uint16))


@pytest.mark.parametrize("kind", KINDS)
def test_equal_indices_give_equal_bytes_by_any_instance(kind: str) -> None:
    indices = np.random.default_rng(1).integers(0, 300, (20, 49)).astype(np.uint16)
    assert codec_for(kind, 300, 49).encode(indices) == codec_for(kind, 300, 49).encode(indices.copy())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("wrong", [10, -1])
def test_an_index_outside_the_codebook_is_refused(kind: str, wrong: int) -> None:
    indices = np.zeros((2, 4), np.int64)
    indices[1, 2] = wrong
    with pytest.raises(InputError, match="0 to 9"):
        codec_for(kind, 10, 4).encode(indices)


@pytest.mark.parametrize("kind", KINDS)
def test_more_codes_than_it_can_hold_are_refused(kind: str) -> None:
    codec_for(kind, MOST_CODES[kind], 4)
    with pytest.raises(InputError, match=str(MOST_CODES[kind] + 1)):
        codec_for(kind, MOST_CODES[kind] + 1, 4)


@pytest.mark.parametrize("kind", KINDS)
def test_bytes_of_another_length_are_damaged(kind: str) -> None:
    codec = codec_for(kind, 300, 10)
    data = codec.encode(np.random.default_rng(0).integers(0, 300, (5, 10)).astype(np.uint16))
    for length in range(len(data)):
        with pytest.raises(DamagedError):
            codec.decode(data[:length], 5)
    with pytest.raises(DamagedError):
        codec.decode(data + b"\0", 5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [0, 4, 6])
def test_another_number_of_images_is_damaged(kind: str, count: int) -> None:
    codec = codec_for(kind, 300, 10)
    data = codec.encode(np.random.default_rng(0).integers(0, 300, (5, 10)).astype(np.uint16))
    with pytest.raises(DamagedError):
        codec.decode(data, count)


@pytest.mark.parametrize("kind", KINDS)
def test_a_stored_index_beyond_the_codebook_is_damaged(kind: str) -> None:
    data = codec_for(kind, 16, 10).encode(np.full((2, 10), 15, np.uint16))
    with pytest.raises(DamagedError):
        codec_for(kind, 15, 10).decode(data, 2)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=150, deadline=None)
@given(data=st.binary(max_size=80), count=st.integers(0, 6))
def test_foreign_bytes_give_valid_indices_or_are_damaged(kind: str, data: bytes, count: int) -> None:
    codec = codec_for(kind, 100, 8)
    try:
        decoded = codec.decode(data, count)
    except DamagedError:
        return
    assert decoded.shape == (count, 8)
    assert codec.decode(codec.encode(decoded), count).tolist() == decoded.tolist()
