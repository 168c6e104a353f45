"""Encoding a data set block by block: in memory there is one block, on disk every block that is done.

Blocks are runs of BLOCK images, the same whoever encodes them, and each is saved under its own name as soon as it is
there. So a job that was killed goes on at its last block, several processes share the open blocks, each a run of
neighbours, and the tokens do not depend on either.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import blake2b
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor

from tokexp.data.base import ImageSource
from tokexp.durable import write_atomic
from tokexp.engine import processes
from tokexp.engine.reporting import Stopped
from tokexp.errors import DamagedError, StageError, TokexpError
from tokexp.stages.base import StageContext
from tokexp.tokenizers.base import Tokenizer

BLOCK = 2048
"""Images that are encoded and saved at a time."""

_AT_ONCE: Final = 256
_NUMBERS: Final = 1 << 26
"""Most numbers of pixels in one call of the tokenizer, where the images are large."""

_DIGEST: Final = 20
_SIGHT_SECONDS: Final = 90.0
"""How long a block that another machine has saved may take to be seen on a shared disk."""


@dataclass(frozen=True)
class Block:
    """Neighbours among the images that are wanted of a split: from `start` to before `stop`."""

    split: str
    start: int
    stop: int

    def __len__(self) -> int:
        """Return the number of images."""
        return self.stop - self.start


class Encoding:
    """The tokens of some images of each split, saved block by block in the stage's scratch folder."""

    def __init__(
        self, tokenizer: Tokenizer, source: ImageSource, wanted: Mapping[str, np.ndarray], context: StageContext
    ) -> None:
        """Take the images that are wanted: positions (n,) by split."""
        self._tokenizer, self._source, self._wanted, self._context = tokenizer, source, wanted, context
        self._blocks = [
            Block(split, start, min(start + BLOCK, len(positions)))
            for split, positions in wanted.items()
            for start in range(0, len(positions), BLOCK)
        ]

    def run(self) -> None:
        """Encode what is not saved yet, beside the other processes of the stage.

        Raises Stopped between two blocks if that was asked for, and what kept any of the processes from going on.
        """
        context = self._context
        shares = self._shares()
        total, left = (sum(map(len, blocks)) for blocks in (self._blocks, [b for share in shares for b in share]))
        if left < total:
            context.report.resumed(total - left)
        context.report.progress(total - left, total, "images")
        failures = _Failures(context.scratch)
        own = shares[processes.rank()]
        for number in range(max(map(len, shares))):
            error = self._try(own[number]) if number < len(own) else None
            failures.note(error)
            stopping = processes.rank() == 0 and context.stop()
            marks = torch.tensor([float(stopping), float(error is not None)], device=context.device)
            stopping, failed = processes.largest(marks).bool().tolist()
            if failed:
                raise failures.found(error)
            done = [share[number] for share in shares if number < len(share)]
            left -= sum(map(len, done))
            context.report.checkpoint(total - left, _name(done[-1]))
            context.report.progress(total - left, total, "images")
            if stopping and left:
                raise Stopped(f"encoding was asked to stop at {total - left} of {total} images")

    def tokens(self, split: str) -> np.ndarray:
        """Return indices (n, rows, columns) uint16 of the wanted images of a split, as a file mapped into memory.

        For the first process alone, after `run`. Raises StageError if a block of another one cannot be seen.
        """
        shape = (len(self._wanted[split]), *self._tokenizer.info.grid)
        file = self._context.scratch / f"{split}.indices"
        with file.open("wb") as joined:
            for block in self._blocks:
                if block.split == split:
                    joined.write(self._seen(block).tobytes())
        return np.memmap(file, "<u2", "r", shape=shape) if prod(shape) else np.empty(shape, np.uint16)

    def _shares(self) -> list[list[Block]]:
        """Return the open blocks that each process takes; the first one says which are open."""
        saved = [processes.rank() == 0 and self._saved(block) is not None for block in self._blocks]
        saved = processes.from_first(torch.tensor(saved, dtype=torch.uint8, device=self._context.device)).tolist()
        open_blocks = [block for block, there in zip(self._blocks, saved, strict=True) if not there]
        bounds = np.linspace(0, len(open_blocks), processes.world_size() + 1).round().astype(int).tolist()
        return [open_blocks[start:stop] for start, stop in pairwise(bounds)]

    def _try(self, block: Block) -> Exception | None:
        try:
            self._save(block, self._encoded(block))
        except Exception as error:
            return error
        return None

    def _encoded(self, block: Block) -> np.ndarray:
        positions = self._wanted[block.split][block.start : block.stop]
        at_once = max(1, min(_AT_ONCE, _NUMBERS // prod(self._tokenizer.info.image_shape)))
        cuts = [positions[start : start + at_once].tolist() for start in range(0, len(positions), at_once)]
        parts = []
        with torch.inference_mode():
            for images in self._read_ahead(block.split, cuts):
                tokens = self._tokenizer.encode(images.to(self._context.device))
                parts.append(tokens.cpu().numpy().astype(np.uint16))
        return np.concatenate(parts)

    def _read_ahead(self, split: str, cuts: Sequence[list[int]]) -> Iterator[Tensor]:
        """Yield the images of every cut; the next one is read meanwhile."""
        with ThreadPoolExecutor(1) as reader:
            coming = reader.submit(self._source.read, split, cuts[0])
            for cut in [*cuts[1:], None]:
                images = coming.result()
                if cut is not None:
                    coming = reader.submit(self._source.read, split, cut)
                yield images

    def _file(self, block: Block) -> Path:
        return self._context.scratch / _name(block)

    def _save(self, block: Block, tokens: np.ndarray) -> None:
        """Write a digest and the tokens, visible only when complete."""
        content = tokens.astype("<u2").tobytes()
        write_atomic(self._file(block), blake2b(content, digest_size=_DIGEST).digest() + content)

    def _saved(self, block: Block) -> np.ndarray | None:
        """Return the tokens of a block, or None if they are not there or not what was written."""
        shape = (len(block), *self._tokenizer.info.grid)
        try:
            content = self._file(block).read_bytes()
        except OSError:
            return None
        digest, tokens = content[:_DIGEST], content[_DIGEST:]
        if len(tokens) != 2 * prod(shape) or blake2b(tokens, digest_size=_DIGEST).digest() != digest:
            return None
        return np.frombuffer(tokens, dtype="<u2").reshape(shape)

    def _seen(self, block: Block) -> np.ndarray:
        until = time.monotonic() + (_SIGHT_SECONDS if processes.world_size() > 1 else 0.0)
        while (tokens := self._saved(block)) is None:
            if time.monotonic() >= until:
                raise StageError(
                    f"{self._file(block)} is not as it was saved: check this disk, and start the run again"
                )
            time.sleep(1.0)
        return tokens


def _name(block: Block) -> str:
    return f"{block.split}-{block.start:09d}.block"


class _Failures:
    """What kept processes from going on, in a file for each: the first process tells it for all."""

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch
        self._file(processes.rank()).unlink(missing_ok=True)

    def _file(self, rank: int) -> Path:
        return self._scratch / f"failed-{rank}.txt"

    def note(self, error: Exception | None) -> None:
        """Leave this process's error where the first one finds it."""
        if error is not None and processes.rank() > 0:
            known = isinstance(error, TokexpError) and not isinstance(error, DamagedError)
            self._file(processes.rank()).write_text(str(error) if known else f"{type(error).__name__}: {error}")

    def found(self, own: Exception | None) -> Exception:
        """Return this process's error, else that of another one."""
        if own is not None:
            return own
        for rank in range(processes.world_size()):
            if self._file(rank).exists():
                return StageError(f"process {rank}: {self._file(rank).read_text()}")
        return StageError("another process of this stage could not go on; its log says why")
