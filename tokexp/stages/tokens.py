"""The tokens stage: encode the data, keep what the budget allows, and write a token store for each split.

Only codes that occur in the kept training tokens are stored; a test token of another code becomes the nearest stored
one. Encoding is saved in parts, so that an interrupted attempt goes on where it was.
"""

import json
from hashlib import blake2b
from pathlib import Path

import numpy as np
import torch

from tokexp.data.base import ImageSource
from tokexp.durable import write_atomic
from tokexp.engine.reporting import Stopped
from tokexp.errors import DataError
from tokexp.registry import implementation
from tokexp.spec.data import SeitReleaseData
from tokexp.spec.stages import TokensStage
from tokexp.spec.tokenizers import FsqQuantizer, VqVae
from tokexp.stages.assembly import image_source, load_tokenizer
from tokexp.stages.base import Stage, StageContext, StageResult
from tokexp.storage.accounting import Accounting
from tokexp.storage.budget import fit_budget, keep_order
from tokexp.storage.renumber import apply_table, renumber
from tokexp.storage.store import write_store
from tokexp.tokenizers.base import Tokenizer

PART = 2048
"""Images that are encoded and saved at a time."""

_AT_ONCE = 256


class Tokenise(Stage):
    """Encodes images with the tokenizer, or takes released tokens as they are."""

    def __init__(self, payload: TokensStage) -> None:
        """Take the data, the tokenizer and what to keep."""
        self.payload = payload

    def run(self, context: StageContext) -> StageResult:
        """Write train.tokens, test.tokens (select.tokens), table.npy and kept.json; metrics: the accounting."""
        if isinstance(self.payload.data, SeitReleaseData):
            return self._take_released(context)
        data, spec = self.payload.data, self.payload.tokenizer
        if spec is None:
            raise DataError("these images need a tokenizer block to become tokens")
        source = image_source(data)
        tokenizer = load_tokenizer(spec, data, context.input("tokenizer"), context.device)
        order = keep_order(source.labels("train"), self.payload.storage.seed)
        if self.payload.storage.fraction is not None:
            order = order[: max(1, round(self.payload.storage.fraction * len(order)))]
        encoded = self._encode(tokenizer, source, "train", order, context)
        labels = source.labels("train")[order]
        writer = _Writer(self.payload, tokenizer, len(source.classes), context)
        kept = fit_budget(
            self.payload.storage,
            len(source.labels("train")),
            lambda n: writer.size(*_in_order(order, encoded, labels, n)),
        )
        kept = min(kept, len(order))
        accounting = writer.write("train", *_in_order(order, encoded, labels, kept))
        for split in source.splits:
            if split != "train":
                everything = np.arange(len(source.labels(split)))
                writer.write(split, self._encode(tokenizer, source, split, everything, context), source.labels(split))
        positions = np.sort(order[:kept]).tolist()
        _note_kept(context.output, positions)
        raw = int(np.prod(data.image_shape()))
        return _result(accounting, writer, len(source.labels("train")), raw)

    def _encode(
        self, tokenizer: Tokenizer, source: ImageSource, split: str, positions: np.ndarray, context: StageContext
    ) -> np.ndarray:
        """Return indices (n, rows, columns) of the images at positions, saving each part of them as it is done."""
        rows, columns = tokenizer.info.grid
        result = np.empty((len(positions), rows, columns), dtype=np.uint16)
        for start in range(0, len(positions), PART):
            chosen = positions[start : start + PART]
            file = context.scratch / f"{split}-{start:09d}.part"
            part = _saved_part(file, (len(chosen), rows, columns))
            if part is None:
                part = _encode_part(tokenizer, source, split, chosen, context.device)
                _save_part(file, part)
            result[start : start + PART] = part
            context.report.progress(start + len(chosen), len(positions), f"{split} images")
            if context.stop():
                raise Stopped(f"encoding was asked to stop at {start + len(chosen)} of {len(positions)} images")
        return result

    def _take_released(self, context: StageContext) -> StageResult:
        source = implementation("data", "seit_release")(self.payload.data)
        labels = source.labels("train")
        order = keep_order(labels, self.payload.storage.seed)
        indices = source.indices("train")
        writer = _Writer(self.payload, None, int(max(source.labels(s).max() for s in source.splits)) + 1, context)
        writer.codes, writer.metric = source.codes, "cosine"

        def measure(count: int) -> int:
            places = np.sort(order[:count])
            return writer.size(indices[places], labels[places])

        positions = np.sort(order[: fit_budget(self.payload.storage, len(labels), measure)])
        accounting = writer.write("train", indices[positions], labels[positions])
        for split in source.splits:
            if split != "train":
                writer.write(split, source.indices(split), source.labels(split))
        _note_kept(context.output, positions.tolist())
        return _result(accounting, writer, len(labels), None)


def _in_order(order: np.ndarray, encoded: np.ndarray, labels: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return tokens and labels of the first `count` kept images in the source's own order.

    So a file does not depend on how images were chosen, and a codec over all images sees what it will be given.
    """
    places = np.argsort(order[:count])
    return encoded[:count][places], labels[:count][places]


class _Writer:
    """Writes stores with the codes in use; the first written split (train) decides which those are."""

    def __init__(
        self, payload: TokensStage, tokenizer: Tokenizer | None, num_classes: int, context: StageContext
    ) -> None:
        self.payload, self.num_classes, self.context = payload, num_classes, context
        self.codes = np.empty((0, 0), np.float32) if tokenizer is None else tokenizer.codebook().cpu().numpy()
        self.metric = "euclidean" if tokenizer is None else tokenizer.info.metric
        self.implicit = tokenizer is not None and tokenizer.info.implicit_codebook
        self.table: np.ndarray | None = None
        self.used = self.codes

    def size(self, indices: np.ndarray, labels: np.ndarray) -> int:
        """Return the bytes that a store of these tokens takes."""
        file = self.context.scratch / "measured.tokens"
        renumbered, used, _ = renumber(indices, self.codes, self.metric)
        accounting = self._store(file, renumbered, labels, used)
        file.unlink()
        return accounting.total

    def write(self, split: str, indices: np.ndarray, labels: np.ndarray) -> Accounting:
        """Write the store of a split; the first call must be the training split's."""
        if self.table is None:
            renumbered, self.used, self.table = renumber(indices, self.codes, self.metric)
            np.save(self.context.output / "table.npy", self.table, allow_pickle=False)
        else:
            renumbered = apply_table(indices, self.table)
        return self._store(self.context.output / f"{split}.tokens", renumbered, labels, self.used)

    def _store(self, file: Path, indices: np.ndarray, labels: np.ndarray, used: np.ndarray) -> Accounting:
        facts: dict[str, object] = {"asked_codes": len(self.codes)}
        spec = self.payload.tokenizer
        if self.implicit and isinstance(spec, VqVae) and isinstance(spec.quantizer, FsqQuantizer):
            facts["fsq_levels"] = list(spec.quantizer.levels)
        return write_store(
            file, indices, labels, used, self.payload.storage.codec, metric=self.metric,
            num_classes=self.num_classes, implicit_codebook=self.implicit, facts=facts,
        )  # fmt: skip


def _encode_part(
    tokenizer: Tokenizer, source: ImageSource, split: str, positions: np.ndarray, device: torch.device
) -> np.ndarray:
    parts = []
    with torch.inference_mode():
        for start in range(0, len(positions), _AT_ONCE):
            images = source.read(split, positions[start : start + _AT_ONCE].tolist()).to(device)
            parts.append(tokenizer.encode(images).cpu().numpy().astype(np.uint16))
    return np.concatenate(parts)


def _saved_part(file: Path, shape: tuple[int, ...]) -> np.ndarray | None:
    """Return a part that was saved before, or None if it is not there or not what was written."""
    try:
        content = file.read_bytes()
    except OSError:
        return None
    digest, tokens = content[:20], content[20:]
    if len(tokens) != 2 * int(np.prod(shape)) or blake2b(tokens, digest_size=20).digest() != digest:
        return None
    return np.frombuffer(tokens, dtype="<u2").reshape(shape)


def _save_part(file: Path, part: np.ndarray) -> None:
    """Write a digest and the tokens, visible only when complete."""
    tokens = part.astype("<u2").tobytes()
    write_atomic(file, blake2b(tokens, digest_size=20).digest() + tokens)


def _note_kept(folder: Path, positions: list[int]) -> None:
    (folder / "kept.json").write_text(json.dumps({"train": positions}))


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
