"""The verbs of `tokexp codec`: what codecs make of the tokens of a store."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tokexp.durable import write_atomic, written_whole
from tokexp.errors import InputError
from tokexp.report.sheets import Sheet, csv_text, markdown, render
from tokexp.verbs.printing import console, print_json, say
from tokexp.verbs.stores import find_stores

if TYPE_CHECKING:
    from tokexp.storage.codec_comparison import Bounds, CodecFigures
    from tokexp.storage.store import TokenStore

_HEAD = (
    "codec", "bytes/image", "of packed", "tokens", "index", "tables", "labels", "codebook", "header", "bits/token",
    "encode/s", "decode/s",
)  # fmt: skip


@dataclass(frozen=True)
class Stored:
    """A store by what was typed: its name, its split, the workspace."""

    name: str
    split: str
    workspace: Path | None

    def open(self) -> TokenStore:
        """Return the one store that this names. Raises InputError and DamagedError."""
        from tokexp.storage.store import TokenStore

        (path,) = find_stores(self.name, self.split, self.workspace).values()
        return TokenStore.open(path)


def compare(stored: Stored, output: str | Path | None, json: bool) -> int:
    """Print every codec's figures on a store, and the one to take. Returns 0."""
    from tokexp.storage.codec_comparison import NAMES, bounds_of, pick

    writing = None if output is None else _table_writer(Path(output))
    store = stored.open()
    found, refused = _measured(store, NAMES)
    bounds, chosen = bounds_of(store), pick(found)
    sheet = _sheet(store, found, refused, bounds, chosen)
    saved = {} if output is None or writing is None else _save(writing(sheet), Path(output))
    if json:
        rows = [figures.as_dict() for figures in found]
        print_json({
            "store": str(store.path), "rows": rows, "refused": refused, "bounds": asdict(bounds),
            "picked": chosen.codec, **saved,
        })  # fmt: skip
    else:
        console().print(render(sheet))
    return 0


def fit(stored: Stored, codec: str | None, output: Path | None, json: bool) -> int:
    """Fit one codec to a store, or the one that comparison picks, and write the store with it. Returns 0.

    Raises InputError for an unknown codec, one that cannot hold the tokens, and an output that exists.
    """
    from tokexp.storage.codec_comparison import NAMES, bounds_of, codec_spec, pick, recode

    store = stored.open()
    if output is not None:
        _check_output(output)
    if codec is not None:
        codec_spec(codec)
    found, refused = _measured(store, NAMES if codec is None else ("packed", codec) if codec != "packed" else (codec,))
    if codec in refused:
        raise InputError(refused[codec])
    chosen = pick(found) if codec is None else next(figures for figures in found if figures.codec == codec)
    if output is not None:
        with written_whole(output) as beside:
            recode(store, codec_spec(chosen.codec), beside)
    written = {} if output is None else {"file": str(output.absolute())}
    bounds = bounds_of(store)
    if json:
        rows = [figures.as_dict() for figures in found]
        print_json({"store": str(store.path), "codec": chosen.codec, "rows": rows, "bounds": asdict(bounds), **written})
        return 0
    console().print(render(_sheet(store, found, refused, bounds, chosen, picked=codec is None)))
    say("nothing is written without --output" if output is None else f"written to {output}")
    return 0


def _measured(store: TokenStore, names: tuple[str, ...]) -> tuple[list[CodecFigures], dict[str, str]]:
    from tokexp.storage.codec_comparison import CodecFigures, compare_codecs

    found: list[CodecFigures] = []
    refused: dict[str, str] = {}
    for name, figures in compare_codecs(store, names):
        say(f"{name}: {figures}" if isinstance(figures, str) else f"{name}: {figures.accounting.total:,} bytes")
        if isinstance(figures, CodecFigures):
            found.append(figures)
        else:
            refused[name] = figures
    return found, refused


def _sheet(
    store: TokenStore, found: list[CodecFigures], refused: dict[str, str], bounds: Bounds, chosen: CodecFigures,
    *, picked: bool = True,
) -> Sheet:  # fmt: skip
    plain = next((figures.accounting.total for figures in found if figures.codec == "packed"), 0)
    rows = []
    for figures in found:
        parts, images = figures.accounting, max(1, store.num_images)
        each = (parts.indices, parts.index, parts.tables, parts.labels, parts.codebook, parts.header)
        rows.append((
            figures.codec, f"{parts.bytes_per_image:,.2f}", f"{parts.total / plain:.3f}" if plain else "",
            *(f"{part / images:,.2f}" for part in each), f"{figures.bits_per_token:.3f}",
            f"{figures.encode_rate:,.0f}", f"{figures.decode_rate:,.0f}",
        ))  # fmt: skip
    notes = (
        f"bits per token: uniform {bounds.uniform:.3f}, order 0 {bounds.order0:.3f} (without tables)",
        "all columns up to header: bytes per image; encode and decode: images per second of one core",
        *(f"{name}: {why}" for name, why in refused.items()),
        f"picked: {chosen.codec} (the fewest bytes; within 1 % of them, the fastest to decode)"
        if picked
        else f"taken: {chosen.codec}, as asked",
    )
    marks = tuple("best" if figures is chosen else "" for figures in found)
    size = f"{store.num_images:,} images of {store.grid[0]} x {store.grid[1]} tokens"
    records = tuple(figures.as_dict() for figures in found)
    title = f"{store.path}: {size}, {store.num_codes} codes"
    return Sheet(title, _HEAD, tuple(rows), records, marks=marks, notes=notes)


def _table_writer(target: Path) -> Callable[[Sheet], str]:
    """Return what makes the text of a file out of a table. Raises InputError for an ending that is none of a table."""
    writers: dict[str, Callable[[Sheet], str]] = {".csv": lambda sheet: csv_text(sheet.records), ".md": markdown}
    if target.suffix.lower() not in writers:
        raise InputError(f"a table is written as .csv or .md, not as {target.suffix or 'a file without an ending'}")
    return writers[target.suffix.lower()]


def _save(text: str, target: Path) -> dict[str, str]:
    write_atomic(target, text.encode())
    say(f"written to {target}")
    return {"file": str(target.absolute())}


def _check_output(output: Path) -> None:
    if output.suffix != ".tokens":
        raise InputError(f"{output} must end in .tokens, as token stores do")
    if output.exists():
        raise InputError(f"{output} exists already; name a new file")
