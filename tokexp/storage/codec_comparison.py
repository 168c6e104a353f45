"""What each codec makes of the tokens of a store: every byte of the file, bits per token, speed; and which to take."""

import math
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter, ValidationError

from tokexp.errors import InputError
from tokexp.spec.storage import CodecSpec
from tokexp.storage.accounting import Accounting
from tokexp.storage.describing import entropy
from tokexp.storage.renumber import count_codes
from tokexp.storage.store import TokenStore, write_store

NAMES = ("packed", "seit", "zstd", "rans0", "rans_context:fast", "rans_context:best")
"""The codecs that are compared."""

NEARLY = 1.01
"""Files up to this much larger than the smallest are taken for as small; the one that decodes fastest is picked."""

_TIMED_TOKENS = 1 << 20


@dataclass(frozen=True)
class CodecFigures:
    """One codec on one store. Rates are images per second on one core; total and bytes_per_image count every byte.

    bits_per_token counts what the codec decides: coded tokens, where they begin, and its tables.
    """

    codec: str
    accounting: Accounting
    bits_per_token: float
    fit_seconds: float
    encode_rate: float
    decode_rate: float

    def as_dict(self) -> dict[str, Any]:
        """Return the figures JSON-ready, the file's parts among them."""
        own = {name: value for name, value in asdict(self).items() if name != "accounting"}
        return {**own, "tables": self.accounting.tables, **self.accounting.as_dict()}


@dataclass(frozen=True)
class Bounds:
    """Bits per token of a code without statistics, and of the best one that knows how frequent codes are."""

    uniform: float
    order0: float


def codec_spec(name: str) -> CodecSpec:
    """Return the spec of `KIND` or `KIND:LEVEL`. Raises InputError for another name."""
    kind, _, level = name.partition(":")
    given: dict[str, Any] = {"kind": kind}
    if level:
        given["level"] = int(level) if level.isdecimal() else level
    try:
        spec: CodecSpec = TypeAdapter(CodecSpec).validate_python(given)
    except ValidationError as error:
        raise InputError(f"no codec {name!r}; there are {', '.join(NAMES)}") from error
    return spec


def recode(store: TokenStore, spec: CodecSpec, path: Path) -> Accounting:
    """Write the same tokens, labels, codes and facts with another codec to a new file."""
    return write_store(
        path, store.indices(), store.labels, store.codes, spec, metric=store.metric, num_classes=store.num_classes,
        implicit_codebook=store.implicit_codebook, facts=store.facts,
    )  # fmt: skip


def compare_codecs(store: TokenStore, names: tuple[str, ...] = NAMES) -> Iterator[tuple[str, CodecFigures | str]]:
    """Yield each name with its figures, or with why it cannot hold these tokens. Raises DamagedError."""
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            path = Path(folder) / "store.tokens"
            try:
                begin = time.process_time()
                accounting = recode(store, codec_spec(name), path)
                yield name, _figures(name, path, accounting, time.process_time() - begin)
            except InputError as error:
                yield name, str(error)
            path.unlink(missing_ok=True)


def bounds_of(store: TokenStore) -> Bounds:
    """Return the bounds on bits per token without context. Reads all tokens."""
    counts = np.zeros(max(1, store.num_codes), np.int64)
    for number in range(store.num_blocks):
        counts += count_codes(store.block(number), len(counts))
    return Bounds(math.log2(max(1, store.num_codes)), entropy(counts))


def pick(found: list[CodecFigures]) -> CodecFigures:
    """Return the codec to take: of the smallest files, within 1 %, the one that decodes fastest."""
    fewest = min(figures.accounting.total for figures in found)
    small = [figures for figures in found if figures.accounting.total <= NEARLY * fewest]
    return max(small, key=lambda figures: figures.decode_rate)


def _figures(name: str, path: Path, accounting: Accounting, taken: float) -> CodecFigures:
    written = TokenStore.open(path)
    tokens = written.num_images * math.prod(written.grid)
    bits = 8 * (accounting.indices + accounting.index + accounting.tables) / tokens if tokens else 0.0
    if not tokens:
        return CodecFigures(name, accounting, bits, taken, 0.0, 0.0)
    count = min(written.block_sizes()[0], max(1, _TIMED_TOKENS // math.prod(written.grid)))
    some = written.block(0)[:count].reshape(count, -1)
    data = written.coder.encode(some)
    written.coder.decode(data, count)  # Compiles what is compiled on first use.
    encoding = _cpu_seconds(lambda: written.coder.encode(some))
    decoding = _cpu_seconds(lambda: written.coder.decode(data, count))
    fitting = max(0.0, taken - encoding * written.num_images / count)
    return CodecFigures(name, accounting, bits, fitting, count / encoding, count / decoding)


def _cpu_seconds(work: Any) -> float:
    best = math.inf
    for _ in range(3):
        begin = time.thread_time()
        work()
        best = min(best, max(time.thread_time() - begin, 1e-6))
    return best
