"""rANS by the codes that stand beside a token: `fast` by left and up, `best` by four neighbours.

Whole numbers decide every share, so that a file decodes alike on every CPU; floating point only fits the tables. The
models are `tokexp.storage.context_fast` and `context_best`, the coders `tokexp.storage.rans` and `mixing`. Sources:
Duda 2013, "Asymmetric numeral systems"; Hinton 2002, "Training products of experts".
"""

from abc import abstractmethod
from functools import cached_property

import numpy as np

from tokexp.errors import DamagedError
from tokexp.spec.storage import RansContextCodec
from tokexp.storage import context_best, context_fast
from tokexp.storage.mixing import MOST_SYMBOLS, NEIGHBOURS, Members, decode_mixed, encode_mixed
from tokexp.storage.rans import Tables
from tokexp.storage.streams import MOST_STREAM_IMAGES, StreamCodec
from tokexp.storage.table_bytes import unpack_tables, whole_number
from tokexp.storage.traits import FittedCodec
from tokexp.storage.word_streams import RansCodec, as_words, require_end

_MOST_WEIGHT = 64


class RansContext(StreamCodec, FittedCodec):
    """What both levels share: the columns of the grid."""

    level: str

    def __init__(self, num_codes: int, tokens_per_image: int, together: int | None, columns: int | None) -> None:
        """Take the columns of the grid (None: `fit` will say); see `StreamCodec`."""
        super().__init__(num_codes, tokens_per_image, together)
        self.columns = tokens_per_image if columns is None else columns
        self.known_codes = max(1, num_codes)

    @abstractmethod
    def fit_tokens(self, tokens: np.ndarray) -> None:
        """Fit on tokens (N, rows * columns), uint16."""

    def fit(self, indices: np.ndarray) -> None:
        """Fit on tokens (N, rows, columns); they decide what a neighbour is."""
        self.check(indices)
        self.columns = indices.shape[2]
        self.fit_tokens(np.ascontiguousarray(indices.reshape(len(indices), self.tokens_per_image), dtype=np.uint16))

    def header(self) -> dict[str, object]:
        """Return what both levels need."""
        return {"kind": "rans_context", "level": self.level, "together": self.together, "columns": self.columns}


class FastContext(RansContext, RansCodec):
    """Tables by group(left) and group(up)."""

    level = "fast"

    def __init__(
        self, num_codes: int, tokens_per_image: int, together: int | None = None, columns: int | None = None,
        width: int = 1, weight: int = 16,
    ) -> None:  # fmt: skip
        """Start with equal shares; width and weight are those of the tables that `load` will take."""
        super().__init__(num_codes, tokens_per_image, together, columns)
        self._width, self._weight = width, weight
        self._stored = context_fast.plain_tables(self.known_codes)

    @cached_property
    def _tables(self) -> Tables:
        return self._stored.expanded()

    @cached_property
    def _groups(self) -> np.ndarray:
        return self._stored.group_of()

    def _take(self, stored: context_fast.FastTables) -> None:
        self._stored = stored
        for name in ("_tables", "_groups"):
            self.__dict__.pop(name, None)

    def fit_tokens(self, tokens: np.ndarray) -> None:
        """Fit on tokens (N, rows * columns)."""
        self._take(context_fast.fit_fast(tokens, self.columns, self.known_codes))

    def tables(self) -> bytes:
        """Return the corrections and groups."""
        return self._stored.to_bytes()

    def load(self, tables: bytes) -> None:
        """Take stored corrections and groups. Raises DamagedError."""
        parts = unpack_tables(tables, context_fast.stored_shapes(self.known_codes, self._width))
        if int(parts[1].max()) >= self._width:
            raise DamagedError("the codec's tables name groups that there are not; restore the file")
        self._take(context_fast.FastTables(parts[0], parts[1], parts[2], parts[3], parts[4], self._weight))

    def header(self) -> dict[str, object]:
        """Return also how many groups there are, and the weight of their product."""
        return {**super().header(), "groups": self._stored.width, "weight": self._stored.weight}

    def model(self) -> tuple[Tables, np.ndarray, int]:
        """Return the tables by groups of left and up."""
        return self._tables, self._groups, self.columns


class BestContext(RansContext):
    """Products over four neighbours."""

    level = "best"

    def __init__(
        self, num_codes: int, tokens_per_image: int, together: int | None = None, columns: int | None = None,
        described: tuple[int, int, bool, tuple[int, ...]] | None = None,
    ) -> None:  # fmt: skip
        """Start with equal shares. described: symbols, groups, single, weights of the tables that `load` will take."""
        super().__init__(num_codes, tokens_per_image, together, columns)
        self._stored = context_best.plain_tables(self.known_codes)
        self._described = described

    @cached_property
    def _model(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return self._stored.levels(), self._stored.full(), np.array(self._stored.weights, np.int32)

    @cached_property
    def _members(self) -> Members:
        return self._stored.split()

    def _take(self, stored: context_best.BestTables) -> None:
        self._stored = stored
        for name in ("_model", "_members"):
            self.__dict__.pop(name, None)

    def fit_tokens(self, tokens: np.ndarray) -> None:
        """Fit on tokens (N, rows * columns)."""
        self._take(context_best.fit_best(tokens, self.columns, self.known_codes))

    def tables(self) -> bytes:
        """Return the corrections, groups and symbols."""
        return self._stored.to_bytes()

    def load(self, tables: bytes) -> None:
        """Take stored corrections, groups and symbols. Raises DamagedError."""
        assert self._described is not None, "tables are loaded by what a header describes"
        symbols, width, single, weights = self._described
        shapes = context_best.stored_shapes(self.known_codes, symbols, width, single)
        base, groups, by_group, own, symbol_of, members = unpack_tables(tables, shapes)
        if int(groups.max()) >= width or (len(symbol_of) and int(symbol_of.max()) >= symbols):
            raise DamagedError("the codec's tables name groups that there are not; restore the file")
        if len(symbol_of) and int(np.bincount(symbol_of, minlength=symbols).min()) == 0:
            raise DamagedError("the codec's tables have a group without codes; restore the file")
        self._take(context_best.BestTables(base, groups, by_group, own, symbol_of, members, weights))

    def header(self) -> dict[str, object]:
        """Return also the sizes of the tables, and the weights of their product."""
        stored = self._stored
        return {
            **super().header(), "symbols": len(stored.base), "groups": stored.by_group.shape[1],
            "single": bool(stored.single.shape[1]), "weights": list(stored.weights),
        }  # fmt: skip

    def encode_stream(self, indices: np.ndarray) -> bytes:
        """Return the words of indices (n, tokens)."""
        members, words = self._members, np.empty(2 + 2 * indices.size, np.uint32)
        used = encode_mixed(
            indices, self.columns, *self._model, members.symbol_of, members.start, members.low, members.share, words
        )
        return words[len(words) - used :].astype("<u4").tobytes()

    def decode_stream(self, data: np.ndarray, count: int) -> np.ndarray:
        """Return uint16 indices (count, tokens). Raises DamagedError."""
        members = self._members
        found = np.empty((count, self.tokens_per_image), np.uint16)
        sound = decode_mixed(
            as_words(data), self.columns, *self._model, members.symbol_of, members.codes, members.start, members.low,
            members.share, found,
        )  # fmt: skip
        require_end(sound)
        return found


def build(
    spec: RansContextCodec | None, header: dict[str, object] | None, num_codes: int, tokens_per_image: int
) -> RansContext:
    """Return the codec for writing (spec) or for reading what a header describes. Raises DamagedError."""
    if spec is not None:
        return (FastContext if spec.level == "fast" else BestContext)(num_codes, tokens_per_image)
    described = header or {}
    together = whole_number(described, "together", 1, MOST_STREAM_IMAGES)
    columns = whole_number(described, "columns", 1, tokens_per_image)
    if described.get("level") == "fast":
        width = whole_number(described, "groups", 1, context_fast.MOST_GROUPS + 1)
        weight = whole_number(described, "weight", 0, _MOST_WEIGHT)
        return FastContext(num_codes, tokens_per_image, together, columns, width, weight)
    return BestContext(num_codes, tokens_per_image, together, columns, _best_shape(described, max(1, num_codes)))


def _best_shape(described: dict[str, object], codes: int) -> tuple[int, int, bool, tuple[int, ...]]:
    symbols = whole_number(described, "symbols", 1, min(codes, MOST_SYMBOLS))
    width = whole_number(described, "groups", 1, context_fast.MOST_GROUPS + 1)
    weights = described.get("weights")
    if not isinstance(weights, list) or len(weights) != NEIGHBOURS:
        raise DamagedError("the codec's header lacks the weights of neighbours; restore the file")
    if not all(type(weight) is int and 0 <= weight <= _MOST_WEIGHT for weight in weights):
        raise DamagedError("the codec's header has weights that no writer gives; restore the file")
    return symbols, width, bool(described.get("single")), tuple(weights)
