"""What a codec may offer beyond coding blocks; the store asks for it by type."""

from abc import abstractmethod

import numpy as np

from tokexp.storage.base import Codec


class WholeCodec(Codec):
    """A codec whose bytes span all images of a store: the store holds one block."""

    @abstractmethod
    def index_bytes(self, data: bytes) -> int:
        """Return how many of an encoded block's bytes only say where images begin."""


class ImageCodec(Codec):
    """A codec that reads one image out of a block without decoding the others."""

    @abstractmethod
    def decode_image(self, data: np.ndarray, count: int, position: int) -> np.ndarray:
        """Return uint16 indices (tokens,) of one image of a block (bytes as uint8) of `count` images."""
