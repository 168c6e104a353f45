"""zstd with a dictionary trained on the stored tokens: the general-purpose compressor to compare with.

A stream is one frame over a byte per token, 255 for codes from 255 on, and then for each of those the code less 255:
one byte, or two where there are more than 511 codes, low bytes first. Source: Collet and Kucherawy 2021, RFC 8878.
Level and dictionary as in the spec; a dictionary that cannot be trained, or that costs
more than it saves, is left out.
"""

from functools import cached_property

import numpy as np
import zstandard

from tokexp.errors import DamagedError
from tokexp.spec.storage import ZstdCodec
from tokexp.storage.streams import MOST_STREAM_IMAGES, StreamCodec
from tokexp.storage.table_bytes import whole_number
from tokexp.storage.traits import FittedCodec

_SAMPLES = 4096
"""Streams, at most, that the dictionary is trained on, evenly spread."""

_LEAST_SAMPLES = 8
_TRIED = 64
_LEAST_DICTIONARY = 256
_ESCAPE = 255


class Zstd(StreamCodec, FittedCodec):
    """Frames without their magic number, content size or checksum: the store has its own."""

    def __init__(
        self, num_codes: int, tokens_per_image: int, level: int, dictionary_size: int, together: int | None = None
    ) -> None:
        """Take the effort (1 to 22) and the most bytes of the dictionary (0: none); see `StreamCodec`."""
        super().__init__(num_codes, tokens_per_image, together)
        self.level = level
        self.dictionary_size = dictionary_size
        self._dictionary = b""

    def fit(self, indices: np.ndarray) -> None:
        """Train the dictionary on tokens (N, rows, columns), and keep it if it saves more than it takes."""
        self.check(indices)
        self._take(b"")
        flat = indices.reshape(len(indices), self.tokens_per_image).astype(np.uint16, copy=False)
        starts = range(0, len(flat), self.together)
        chosen = starts[:: max(1, len(starts) // _SAMPLES)]
        samples: list[bytes | bytearray | memoryview] = [self._bytes_of(flat[at : at + self.together]) for at in chosen]
        if self.dictionary_size < _LEAST_DICTIONARY or len(samples) < _LEAST_SAMPLES:
            return
        trained_on, tried = samples[::2], samples[1::2][:_TRIED]
        try:
            trained = zstandard.train_dictionary(self.dictionary_size, trained_on, level=self.level).as_bytes()
        except zstandard.ZstdError:
            return
        before = sum(len(self._compressor.compress(sample)) for sample in tried)
        self._take(trained)
        after = sum(len(self._compressor.compress(sample)) for sample in tried)
        if (before - after) * len(starts) <= len(trained) * len(tried):
            self._take(b"")

    def _take(self, dictionary: bytes) -> None:
        self._dictionary = dictionary
        self.__dict__.pop("_compressor", None)

    @cached_property
    def _compressor(self) -> zstandard.ZstdCompressor:
        settings = zstandard.ZstdCompressionParameters.from_level(
            self.level, write_content_size=0, write_checksum=0, write_dict_id=0, format=zstandard.FORMAT_ZSTD1_MAGICLESS
        )
        return zstandard.ZstdCompressor(dict_data=self._dict(), compression_params=settings)

    def _dict(self) -> zstandard.ZstdCompressionDict | None:
        return zstandard.ZstdCompressionDict(self._dictionary) if self._dictionary else None

    def tables(self) -> bytes:
        """Return the dictionary."""
        return self._dictionary

    def load(self, tables: bytes) -> None:
        """Take a stored dictionary. Raises DamagedError for what zstd does not take as one."""
        self._take(tables)
        try:
            self._decompressor()
        except zstandard.ZstdError as error:
            raise DamagedError("the dictionary of the codec cannot be used; restore the file") from error

    def header(self) -> dict[str, object]:
        """Return the kind, the images of a stream, and the effort, which decoding does not need."""
        return {"kind": "zstd", "together": self.together, "level": self.level}

    def encode_stream(self, indices: np.ndarray) -> bytes:
        """Return the frame of indices (n, tokens)."""
        return bytes(self._compressor.compress(self._bytes_of(indices)))

    def decode_stream(self, data: np.ndarray, count: int) -> np.ndarray:
        """Return uint16 indices (count, tokens). Raises DamagedError."""
        tokens = count * self.tokens_per_image
        wide = self._wide
        try:
            raw = self._decompressor().decompress(
                data.tobytes(), max_output_size=tokens * (1 + wide), allow_extra_data=False
            )
        except zstandard.ZstdError as error:
            raise DamagedError("a stream of tokens cannot be decompressed; restore the file") from error
        found = np.frombuffer(raw, np.uint8, min(tokens, len(raw))).astype(np.uint16)
        escaped = np.flatnonzero(found == _ESCAPE) if wide else np.empty(0, np.int64)
        if len(raw) != tokens + wide * len(escaped):
            raise DamagedError("a stream of tokens does not have the length that it should; restore the file")
        codes = found.astype(np.int64)
        for place in range(wide):
            part = np.frombuffer(raw, np.uint8, len(escaped), tokens + place * len(escaped)).astype(np.int64)
            codes[escaped] += part << 8 * place
        if tokens and int(codes.max()) >= max(1, self.num_codes):
            raise DamagedError(f"a stored index is not below the {self.num_codes} codes; restore the file")
        return codes.astype(np.uint16).reshape(count, self.tokens_per_image)

    @property
    def _wide(self) -> int:
        """Return the bytes behind an escape."""
        return 0 if self.num_codes <= _ESCAPE + 1 else 1 if self.num_codes <= 2 * _ESCAPE + 1 else 2

    def _decompressor(self) -> zstandard.ZstdDecompressor:
        # Made anew: they cannot be shared by threads.
        return zstandard.ZstdDecompressor(dict_data=self._dict(), format=zstandard.FORMAT_ZSTD1_MAGICLESS)

    def _bytes_of(self, indices: np.ndarray) -> bytes:
        flat = indices.reshape(-1)
        first: bytes = np.minimum(flat, _ESCAPE).astype(np.uint8).tobytes()
        if not self._wide:
            return first
        more = flat[flat >= _ESCAPE] - np.uint16(_ESCAPE)
        return first + b"".join((more >> 8 * place).astype(np.uint8).tobytes() for place in range(self._wide))


def build(spec: ZstdCodec | None, header: dict[str, object] | None, num_codes: int, tokens_per_image: int) -> Zstd:
    """Return the codec for writing (spec) or for reading what a header describes."""
    if spec is not None:
        return Zstd(num_codes, tokens_per_image, spec.level, spec.dictionary)
    described = header or {}
    together = whole_number(described, "together", 1, MOST_STREAM_IMAGES)
    return Zstd(num_codes, tokens_per_image, whole_number(described, "level", 1, 22), 0, together)
