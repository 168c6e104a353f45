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
from tokexp.storage.traits import FittedCodec, ImageCodec

KINDS = [member.model_fields["kind"].annotation.__args__[0] for member in get_args(get_args(CodecSpec)[0])]
KINDS += ["rans_context:best"]
MOST_CODES = {**dict.fromkeys(KINDS, 65_536), "seit": 510}


def codec_for(kind: str, num_codes: int, tokens: int) -> Codec:
    name, _, level = kind.partition(":")
    spec = TypeAdapter(CodecSpec).validate_python({"kind": name, **({"level": level} if level else {})})
    return implementation("codecs", name)(spec, None, num_codes, tokens)


def reader_of(codec: Codec, kind: str, num_codes: int, tokens: int) -> Codec:
    name = kind.partition(":")[0]
    return implementation("codecs", name)(None, {"kind": name, **codec.header()}, num_codes, tokens)


def read(codec: Codec, kind: str, num_codes: int, tokens: int, data: bytes, count: int) -> np.ndarray:
    """Decode by another codec, made of what a file says of the first."""
    reader = reader_of(codec, kind, num_codes, tokens)
    if isinstance(codec, FittedCodec):
        assert isinstance(reader, FittedCodec)
        reader.load(codec.tables())
    return reader.decode(data, count)


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
    decoded = read(codec, kind, num_codes, indices.shape[1], codec.encode(indices), len(indices))
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


GRIDS = [(1, 1), (1, 9), (9, 1), (5, 7), (32, 32)]


def tokens_of(style: str, num_codes: int, shape: tuple[int, ...]) -> np.ndarray:
    """random: all equally likely; constant; rare: one code nearly always; walk: neighbours are alike."""
    generator = np.random.default_rng(3)
    if style == "constant":
        return np.full(shape, num_codes - 1, np.uint16)
    if style == "rare":
        return np.where(generator.random(shape) < 0.02, generator.integers(0, num_codes, shape), 0).astype(np.uint16)
    if style == "walk":
        steps = generator.integers(-1, 2, shape).cumsum(-1).cumsum(-2)
        return (steps % num_codes).astype(np.uint16)
    return generator.integers(0, num_codes, shape).astype(np.uint16)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("style", ["random", "constant", "rare", "walk"])
@pytest.mark.parametrize("num_codes", [1, 2, 300])
def test_fitted_to_its_tokens_every_image_comes_back(kind: str, style: str, num_codes: int) -> None:
    for rows, columns in GRIDS:
        indices = tokens_of(style, num_codes, (21, rows, columns))
        flat = indices.reshape(21, -1)
        codec = codec_for(kind, num_codes, rows * columns)
        if isinstance(codec, FittedCodec):
            codec.fit(indices)
        data = codec.encode(flat)
        assert np.array_equal(read(codec, kind, num_codes, rows * columns, data, 21), flat)
        if isinstance(codec, ImageCodec):
            for place in (0, 20):
                found = codec.decode_image(np.frombuffer(data, np.uint8), 21, place)
                assert np.array_equal(found, flat[place])


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "seit"])
@pytest.mark.parametrize("num_codes", [1025, 65_536])
def test_many_codes_come_back_after_fitting(kind: str, num_codes: int) -> None:
    indices = np.concatenate([tokens_of(style, num_codes, (6, 8, 8)) for style in ("random", "walk", "rare")])
    indices[0, 0, :2] = 0, num_codes - 1
    codec = codec_for(kind, num_codes, 64)
    if isinstance(codec, FittedCodec):
        codec.fit(indices)
    data = codec.encode(indices.reshape(-1, 64))
    assert np.array_equal(read(codec, kind, num_codes, 64, data, 18), indices.reshape(-1, 64))


@pytest.mark.parametrize("kind", KINDS)
def test_tokens_that_were_not_fitted_on_are_coded_too(kind: str) -> None:
    codec = codec_for(kind, 300, 64)
    if isinstance(codec, FittedCodec):
        codec.fit(tokens_of("rare", 20, (50, 8, 8)))
    indices = tokens_of("random", 300, (7, 64))
    assert np.array_equal(read(codec, kind, 300, 64, codec.encode(indices), 7), indices)


@pytest.mark.parametrize("kind", KINDS)
def test_fitting_on_no_image_leaves_a_working_codec(kind: str) -> None:
    codec = codec_for(kind, 7, 6)
    if isinstance(codec, FittedCodec):
        codec.fit(np.empty((0, 2, 3), np.uint16))
    assert read(codec, kind, 7, 6, codec.encode(np.empty((0, 6), np.uint16)), 0).shape == (0, 6)


@pytest.mark.parametrize("kind", KINDS)
def test_tables_of_other_bytes_are_damaged_or_work(kind: str) -> None:
    codec = codec_for(kind, 30, 16)
    if not isinstance(codec, FittedCodec):
        pytest.skip("has no tables")
    indices = tokens_of("walk", 30, (400, 4, 4))
    codec.fit(indices)
    tables, data = codec.tables(), codec.encode(indices.reshape(400, 16))
    generator = np.random.default_rng(0)
    for foreign in [tables[:-1], tables + b"\0", b"", *(generator.bytes(len(tables)) for _ in range(20))]:
        reader = reader_of(codec, kind, 30, 16)
        assert isinstance(reader, FittedCodec)
        try:
            reader.load(foreign)
            decoded = reader.decode(data, 400)
        except DamagedError:
            continue
        assert decoded.shape == (400, 16)
        assert decoded.max() < 30
