"""Fixed-width packing: each index in the bits that the number of codes needs; any image is readable by itself.

The bits are laid out as `tokexp.storage.bits` says, over all tokens of a block: 16 tokens of 64 codes take 12 bytes per
image, and 1,024 tokens of 391 codes 1,152. A block ends on a whole byte per plane, at most 4 bytes more than the bits.
Own layout.
"""

import numpy as np

from tokexp.errors import DamagedError, InputError
from tokexp.spec.storage import PackedCodec
from tokexp.storage.bits import pack, unpack, unpack_range, width_of
from tokexp.storage.traits import ImageCodec

MOST_CODES = 65_536
"""An index is a uint16 in memory."""


class Packed(ImageCodec):
    """Indices below `num_codes` in ceil(log2(num_codes)) bits each; a single code takes none."""

    def __init__(self, num_codes: int, tokens_per_image: int) -> None:
        """Take the number of codes, at most 65,536, and the tokens of an image."""
        if num_codes > MOST_CODES:
            raise InputError(f"{num_codes} codes are more than the {MOST_CODES} that a token store can hold")
        self.num_codes = num_codes
        self.tokens_per_image = tokens_per_image
        self.width = width_of(num_codes)

    def header(self) -> dict[str, object]:
        """Return the kind: the width follows from the number of codes."""
        return {"kind": "packed"}

    def encode(self, indices: np.ndarray) -> bytes:
        """Return the packed bytes of indices (n, tokens). Raises InputError for an index outside the codebook."""
        flat = indices.reshape(-1)
        if len(flat) and (int(flat.max()) >= self.num_codes or int(flat.min()) < 0):
            raise InputError(f"indices from 0 to {self.num_codes - 1} are needed, given up to {int(flat.max())}")
        return pack(flat, self.width)

    def decode(self, data: bytes, count: int) -> np.ndarray:
        """Return uint16 indices (count, tokens). Raises DamagedError for bytes that no encoder wrote."""
        flat = unpack(data, count * self.tokens_per_image, self.width)
        return self._checked(flat).reshape(count, self.tokens_per_image)

    def decode_image(self, data: np.ndarray, count: int, position: int) -> np.ndarray:
        """Return uint16 indices (tokens,) of the image at `position`, reading only its bytes."""
        tokens = self.tokens_per_image
        start = position * tokens
        return self._checked(unpack_range(data, count * tokens, self.width, start, start + tokens))

    def _checked(self, flat: np.ndarray) -> np.ndarray:
        if len(flat) and int(flat.max()) >= self.num_codes:
            raise DamagedError(f"a stored index is not below the {self.num_codes} codes; restore the file")
        return flat


def build(spec: PackedCodec | None, header: dict[str, object] | None, num_codes: int, tokens_per_image: int) -> Packed:
    """Return the codec; neither the spec nor the header has anything to say."""
    del spec, header
    return Packed(num_codes, tokens_per_image)
