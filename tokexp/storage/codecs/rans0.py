"""Order-0 rANS: each code in as many bits as its share of the stored tokens asks for, whatever stands beside it.

The file holds one correction (`tokexp.storage.refining`) per code; shares are made from them in whole numbers alone.
Source: Duda 2013, "Asymmetric numeral systems"; see `tokexp.storage.rans`.
"""

import numpy as np

from tokexp.spec.storage import Rans0Codec
from tokexp.storage.levels import frequencies_of
from tokexp.storage.rans import Tables, bits_for
from tokexp.storage.refining import TO_LEVELS, order0
from tokexp.storage.renumber import count_codes
from tokexp.storage.streams import MOST_STREAM_IMAGES
from tokexp.storage.table_bytes import pack_tables, unpack_tables, whole_number
from tokexp.storage.traits import FittedCodec
from tokexp.storage.word_streams import RansCodec


class Rans0(RansCodec, FittedCodec):
    """One table for all places."""

    def __init__(self, num_codes: int, tokens_per_image: int, together: int | None = None) -> None:
        """Start with equal shares; see `RansCodec`."""
        super().__init__(num_codes, tokens_per_image, together)
        self._groups = np.zeros(max(1, num_codes) + 1, np.int32)
        self._take(np.zeros(max(1, num_codes), np.int8))

    def _take(self, base: np.ndarray) -> None:
        self._base = base
        bits = bits_for(len(base))
        self._tables = Tables.of(frequencies_of(-TO_LEVELS * base[None].astype(np.int32), bits), bits)

    def fit(self, indices: np.ndarray) -> None:
        """Count the tokens (N, rows, columns)."""
        self.check(indices)
        self._take(order0(count_codes(indices, len(self._base))))

    def tables(self) -> bytes:
        """Return a correction per code."""
        return pack_tables([self._base])

    def load(self, tables: bytes) -> None:
        """Take stored corrections. Raises DamagedError."""
        self._take(unpack_tables(tables, [(np.dtype(np.int8), (len(self._base),))])[0])

    def header(self) -> dict[str, object]:
        """Return the kind and the images of a stream."""
        return {"kind": "rans0", "together": self.together}

    def model(self) -> tuple[Tables, np.ndarray, int]:
        """Return the one table; all codes are of one group."""
        return self._tables, self._groups, self.tokens_per_image


def build(spec: Rans0Codec | None, header: dict[str, object] | None, num_codes: int, tokens_per_image: int) -> Rans0:
    """Return the codec for writing (spec) or for reading what a header describes."""
    del spec
    together = None if header is None else whole_number(header, "together", 1, MOST_STREAM_IMAGES)
    return Rans0(num_codes, tokens_per_image, together)
