"""The tokens stage: encode the data, keep what the budget allows, and write a token store for each split.

Only codes that occur in the kept training tokens are stored; a test token of another code becomes the nearest stored
one. What grows with the data set is on disk: memory holds a block of images, and labels.
"""

import json
import shutil
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from tokexp.data.base import GivenCodes, ImageSource, TokenSource
from tokexp.data.listing import fingerprint
from tokexp.engine import processes
from tokexp.errors import DataError
from tokexp.registry import implementation
from tokexp.spec.data import DataSpec, GivenTokens, ImageFolderData
from tokexp.spec.stages import TokensStage
from tokexp.stages.assembly import image_source, load_tokenizer
from tokexp.stages.base import Stage, StageContext, StageResult
from tokexp.stages.encoding import BLOCK, Encoding
from tokexp.storage.accounting import Accounting
from tokexp.storage.budget import fit_budget, keep_order
from tokexp.storage.renumber import apply_table, renumber
from tokexp.storage.store import write_store
from tokexp.tokenizers.base import Tokenizer

IN_MEMORY = 1 << 26
"""Bytes of indices up to which a copy is kept in memory."""

_STORES_KEPT = 2
"""Stores that are kept of those written to measure them."""


class Tokenise(Stage):
    """Encodes images with the tokenizer, or takes given tokens as they are."""

    def __init__(self, payload: TokensStage) -> None:
        """Take the data, the tokenizer and what to keep."""
        self.payload = payload

    def source(self, data: DataSpec, context: StageContext) -> ImageSource:
        """Return the images to encode."""
        return image_source(data, context)

    def run(self, context: StageContext) -> StageResult:
        """Write train.tokens, test.tokens (select.tokens), table.npy and kept.json; metrics: the accounting.

        Of image folders also the names of the stored images, and skipped.json with those that cannot be read.
        """
        if isinstance(self.payload.data, GivenTokens):
            return self._take_given(context)
        data, spec = self.payload.data, self.payload.tokenizer
        if spec is None:
            raise DataError("these images need a tokenizer block to become tokens")
        source = self.source(data, context)
        tokenizer = load_tokenizer(spec, data, context.input("tokenizer"), context.device)
        order = keep_order(source.labels("train"), self.payload.storage.seed)
        if self.payload.storage.fraction is not None:
            order = order[: max(1, round(self.payload.storage.fraction * len(order)))]
        wanted = {split: np.arange(len(source.labels(split))) for split in source.splits} | {"train": np.sort(order)}
        encoding = Encoding(tokenizer, source, wanted, context)
        encoding.run()
        if processes.rank() > 0:
            return StageResult()
        codebook = _codebook_of(tokenizer, named=self.payload.names_weights)
        writer = _Writer(self.payload, codebook, len(source.classes), context)
        candidates = _Candidates(encoding.tokens("train"), source.labels("train"), order, context.scratch)
        kept = min(self._fitting(len(source.labels("train")), writer, candidates), len(order))
        accounting = writer.write("train", *candidates.first(kept))
        for split in source.splits:
            if split != "train":
                writer.write(split, encoding.tokens(split), source.labels(split))
        wanted["train"] = np.sort(order[:kept])
        _note_kept(context.output, wanted["train"].tolist())
        result = _result(accounting, writer, len(source.labels("train")), int(np.prod(data.image_shape())))
        if isinstance(data, ImageFolderData):
            result.facts.update(_note_files(context.output, source, wanted))
        return result

    def _take_given(self, context: StageContext) -> StageResult:
        """Store the kept part of tokens that were made elsewhere."""
        source = self._given(context)
        train = _read_all(source, "train", context.scratch)
        order = keep_order(source.labels("train"), self.payload.storage.seed)
        writer = _Writer(self.payload, source.codebook, len(source.classes), context)
        candidates = _Candidates(train, source.labels("train"), order, context.scratch)
        kept = self._fitting(len(order), writer, candidates)
        accounting = writer.write("train", *candidates.first(kept))
        for split in source.splits:
            if split != "train":
                writer.write(split, _read_all(source, split, context.scratch), source.labels(split))
        _note_kept(context.output, np.sort(order[:kept]).tolist())
        return _result(accounting, writer, len(order), None)

    def _fitting(self, images: int, writer: "_Writer", candidates: "_Candidates") -> int:
        """Return how many of the images are kept."""
        closely = self.payload.search == "close"
        return fit_budget(
            self.payload.storage, images, lambda count: writer.size(*candidates.first(count)), closely=closely
        )

    def _given(self, context: StageContext) -> TokenSource:
        """Return the tokens of the payload. Raises DataError if they are no longer those that were planned with."""
        data, planned = self.payload.data, context.job.fingerprint
        if planned is not None and fingerprint(data) != planned:
            raise DataError("data: the files were changed after this was planned; give the command again")
        source: TokenSource = implementation("data", data.kind)(data)
        return source


def _read_all(source: TokenSource, split: str, scratch: Path) -> np.ndarray:
    """Return the tokens (N, rows, columns) of a split, on disk where they are many."""
    tokens = room(scratch / f"{split}.given.indices", (len(source.labels(split)), *source.grid))
    start = 0
    for block in source.blocks(split):
        tokens[start : start + len(block)] = block
        start += len(block)
    return tokens


class _Candidates:
    """The encoded training images that may be kept, in the source's own order: a file does not depend on the choice."""

    def __init__(self, encoded: np.ndarray, labels: np.ndarray, order: np.ndarray, scratch: Path) -> None:
        """Take tokens (n, rows, columns) of the positions `order` (n,) when sorted, all labels, and room on disk."""
        self._encoded, self._labels, self._order, self._scratch = encoded, labels, order, scratch
        self._positions = np.sort(order)

    def first(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Return tokens and labels of the first `count` images of the order in which they are kept."""
        kept = np.sort(self._order[:count])
        if len(kept) == len(self._positions):
            return self._encoded, self._labels[kept]
        places = np.searchsorted(self._positions, kept)
        chosen = room(self._scratch / "chosen.indices", (len(kept), *self._encoded.shape[1:]))
        for start in range(0, len(places), BLOCK):
            chosen[start : start + BLOCK] = self._encoded[places[start : start + BLOCK]]
        return chosen, self._labels[kept]


def room(file: Path, shape: tuple[int, ...]) -> np.ndarray:
    """Return an array of uint16 to be filled: in memory up to IN_MEMORY bytes, else in a file."""
    if 2 * prod(shape) <= IN_MEMORY:
        return np.empty(shape, np.uint16)
    return np.memmap(file, np.uint16, "w+", shape=shape)


class _Writer:
    """Writes stores with the codes in use; the first written split (train) decides which those are."""

    def __init__(self, payload: TokensStage, codebook: GivenCodes, num_classes: int, context: StageContext) -> None:
        self.payload, self.num_classes, self.context = payload, num_classes, context
        self.codebook, self.used = codebook, codebook.vectors
        self.table: np.ndarray | None = None
        self._measured: dict[int, Accounting] = {}

    def size(self, indices: np.ndarray, labels: np.ndarray) -> int:
        """Return the bytes that a store of these tokens takes; the first images of the order, so a count names them.

        The last two stores stay: mostly, one of them is what is written in the end.
        """
        renumbered, used, _ = self._renumbered(indices)
        self._measured.pop(len(indices), None)
        self._measured[len(indices)] = self._store(self._measured_file(len(indices)), renumbered, labels, used)
        while len(self._measured) > _STORES_KEPT:
            oldest = next(iter(self._measured))
            del self._measured[oldest]
            self._measured_file(oldest).unlink()
        return self._measured[len(indices)].total

    def write(self, split: str, indices: np.ndarray, labels: np.ndarray) -> Accounting:
        """Write the store of a split; the first call must be the training split's."""
        if self.table is None:
            renumbered, self.used, self.table = self._renumbered(indices)
            np.save(self.context.output / "table.npy", self.table, allow_pickle=False)
            if len(indices) in self._measured:
                shutil.move(self._measured_file(len(indices)), self.context.output / f"{split}.tokens")
                return self._measured[len(indices)]
        else:
            renumbered = apply_table(indices, self.table, self._room(indices))
        return self._store(self.context.output / f"{split}.tokens", renumbered, labels, self.used)

    def _renumbered(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return renumber(indices, self.codebook.vectors, self.codebook.metric, self._room(indices))

    def _measured_file(self, count: int) -> Path:
        return self.context.scratch / f"measured-{count}.tokens"

    def _room(self, indices: np.ndarray) -> np.ndarray:
        return room(self.context.scratch / "renumbered.indices", indices.shape)

    def _store(self, file: Path, indices: np.ndarray, labels: np.ndarray, used: np.ndarray) -> Accounting:
        return write_store(
            file, indices, labels, used, self.payload.storage.codec, metric=self.codebook.metric,
            num_classes=self.num_classes, implicit_codebook=self.codebook.implicit,
            facts={"asked_codes": len(self.codebook.vectors), **self.codebook.facts},
        )  # fmt: skip


def _codebook_of(tokenizer: Tokenizer, *, named: bool) -> GivenCodes:
    vectors, info, facts = tokenizer.codebook().cpu().numpy(), tokenizer.info, tokenizer.code_facts()
    if named:
        facts = {**facts, "weights": tokenizer.weights_digest()}
    return GivenCodes(vectors, info.metric, info.implicit_codebook, facts)


def _note_kept(folder: Path, positions: list[int]) -> None:
    (folder / "kept.json").write_text(json.dumps({"train": positions}))


def _note_files(folder: Path, source: ImageSource, wanted: dict[str, np.ndarray]) -> dict[str, Any]:
    """Write the names of the stored images, a line for each (escaped as in JSON), and of those that were skipped."""
    for split, positions in wanted.items():
        names = source.sample_ids(split)
        with (folder / f"{split}.names.txt").open("w", encoding="utf-8", errors="surrogateescape") as file:
            file.writelines(json.dumps(names[place], ensure_ascii=False)[1:-1] + "\n" for place in positions.tolist())
    skipped: dict[str, str] = getattr(source, "skipped", {})
    if not skipped:
        return {}
    (folder / "skipped.json").write_text(json.dumps(skipped, indent=1))
    return {"skipped_images": len(skipped)}


def _result(accounting: Accounting, writer: _Writer, source_images: int, raw: int | None) -> StageResult:
    metrics = {"bytes_per_image": accounting.bytes_per_image, "bytes": float(accounting.total)}
    facts = {
        "accounting": accounting.as_dict(), "codes_used": len(writer.used), "source_images": source_images,
        "raw_bytes_per_image": raw, "codec": writer.payload.storage.codec.kind,
    }  # fmt: skip
    return StageResult(metrics, facts)


def build(payload: TokensStage) -> Tokenise:
    """Return the stage for a payload."""
    return Tokenise(payload)
