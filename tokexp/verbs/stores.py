"""The verbs of token stores: info, verify, export, import, slice, merge.

A store is named by its file, by a folder of stores (a stage's output, what an import wrote), by a run or by the key
of a tokens stage.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokexp.errors import InputError
from tokexp.ledger.runs import load_run
from tokexp.ledger.workspace import Workspace, resolve_workspace
from tokexp.verbs.printing import console, print_json, say

if TYPE_CHECKING:
    from tokexp.spec.storage import CodecSpec
    from tokexp.storage.interchange.choosing import Choice
    from tokexp.storage.interchange.table import TokenTable
    from tokexp.storage.store import TokenStore

_SPLITS = ("train", "test", "select")
_ENDING = ".tokens"
_ANY = (_ENDING, ".images")
"""Endings of the stores that are looked at and checked; the other verbs are for tokens alone."""


@dataclass(frozen=True)
class Said:
    """What was typed about tokens that are imported; None where the source is asked."""

    split: str | None = None
    grid: str | None = None
    codebook: Path | None = None
    metric: str | None = None
    fields: str | None = None


@dataclass(frozen=True)
class Part:
    """What was typed about the images of a slice."""

    images: str | None = None
    classes: str | None = None
    per_class: int | None = None


def info(stored: str, split: str | None, workspace: str | Path | None, json: bool) -> int:
    """Show what stores hold and what each part of them costs. Returns 0."""
    from tokexp.storage.describing import described

    files = find_stores(stored, split, workspace, _ANY)
    found = [{"split": name, **described(path)} for name, path in files.items()]
    if json:
        print_json({"stores": found})
    else:
        for facts in found:
            _show_facts(facts)
    return 0


def verify(stored: str, split: str | None, workspace: str | Path | None, json: bool) -> int:
    """Read every byte of stores and check it. Returns 0 if all are sound, else 1."""
    from tokexp.storage.describing import problems_of

    found = {str(path): problems_of(path) for path in find_stores(stored, split, workspace, _ANY).values()}
    sound = not any(found.values())
    if json:
        print_json({"sound": sound, "problems": found})
        return int(not sound)
    for path, problems in found.items():
        for text in problems or [f"{path}: sound"]:
            console().print(text, markup=False)
    return int(not sound)


def export(
    stored: str, output: Path, form: str, split: str | None, force: bool, workspace: str | Path | None, json: bool
) -> int:
    """Write stores in a form of others: a folder with all splits, or one .npz file. Returns 0.

    Raises InputError for an output that exists, unless `force`, and for tokens that the form cannot hold.
    """
    from tokexp.durable import written_whole
    from tokexp.stages.interchange import writer
    from tokexp.storage.interchange.manifest import NAME
    from tokexp.storage.interchange.numpy_files import write_file
    from tokexp.storage.interchange.placing import free_file, whole_folder

    tables = {name: _table(path) for name, path in find_stores(stored, split, workspace).items()}
    if form == "numpy" and output.suffix == ".npz":
        if len(tables) > 1:
            raise InputError(
                f"one file holds one split, there are {', '.join(tables)}: choose by --split, or name a folder"
            )
        with written_whole(free_file(output, force)) as beside:
            write_file(next(iter(tables.values())), beside)
    else:
        with whole_folder(output, NAME, force) as folder:
            writer(form)(tables, folder)
    _say_written(output, tables, json, form=form)
    return 0


def bring_in(
    source: Path, output: Path, form: str, said: Said, codec: str | None, force: bool, json: bool
) -> int:  # fmt: skip
    """Write stores from tokens of another form: one .tokens file, or a folder with one per split. Returns 0.

    Raises InputError for a source that is not there or not of this form, and for an output that exists.
    """
    from tokexp.stages.interchange import reader
    from tokexp.storage.interchange.manifest import NAME, describe, write_manifest
    from tokexp.storage.interchange.placing import free_file, whole_folder
    from tokexp.storage.interchange.table import write_table

    if not source.exists():
        raise InputError(f"{source} does not exist; name the file or folder to import")
    how = _codec(codec or "packed")
    tables = reader(form)(source, _given(said))
    if output.suffix == _ENDING:
        if len(tables) > 1:
            raise InputError(f"{source} holds {', '.join(tables)}; name a folder for them, not one {_ENDING} file")
        write_table(free_file(output, force), next(iter(tables.values())), how)
    else:
        with whole_folder(output, NAME, force) as folder:
            for name, table in tables.items():
                write_table(folder / f"{name}{_ENDING}", table, how)
            write_manifest(folder, describe("tokens", tables))
    _say_written(output, tables, json, form=form)
    files = {name: output if output.suffix == _ENDING else output / f"{name}{_ENDING}" for name in tables}
    if not json and "train" in files:
        test = f", test: {files['test']}" if "test" in files else ""
        say(f"train on it: data: {{kind: token_store, train: {files['train']}{test}}}")
    return 0


def cut(
    stored: str, output: Path, part: Part, split: str | None, codec: str | None, force: bool,
    workspace: str | Path | None, json: bool,
) -> int:  # fmt: skip
    """Write a part of a store as a store. Returns 0. Raises InputError for a part that the store does not have."""
    from tokexp.storage.interchange.choosing import slice_store
    from tokexp.storage.interchange.placing import free_file
    from tokexp.storage.interchange.table import write_table

    store = _open(_one(stored, split, workspace))
    table = slice_store(store, _choice(part))
    write_table(free_file(_store_file(output), force), table, _codec(codec or _codec_of(store)))
    _say_written(output, {output.stem: table}, json)
    return 0


def join(
    stored: Sequence[str], output: Path, split: str | None, codec: str | None, force: bool,
    workspace: str | Path | None, json: bool,
) -> int:  # fmt: skip
    """Write several stores as one. Returns 0. Raises InputError unless they have one grid and one codebook."""
    from tokexp.storage.interchange.merging import merge_stores
    from tokexp.storage.interchange.placing import free_file
    from tokexp.storage.interchange.table import write_table

    if len(stored) < 2:
        raise InputError("one store cannot be merged with nothing; name two or more")
    found = [_open(_one(each, split, workspace)) for each in stored]
    table = merge_stores(found)
    write_table(free_file(_store_file(output), force), table, _codec(codec or _codec_of(found[0])))
    _say_written(output, {output.stem: table}, json)
    return 0


def find_stores(
    stored: str, split: str | None, workspace: str | Path | None, endings: Sequence[str] = (_ENDING,)
) -> dict[str, Path]:
    """Return the stores that a file, a folder, a run or a stage key names, by split.

    Raises InputError if there are none with one of the endings, or not the split that is asked for.
    """
    path = Path(stored).expanduser()
    if path.is_file() and path.suffix not in (".yaml", ".yml"):
        if split not in (None, *_SPLITS):
            raise InputError(f"--split {split}: allowed are {', '.join(_SPLITS)}")
        return {split or _split_of(path): path}
    here = path.is_dir() and any(_ending_in(path, endings))
    folder = path if here else _output(resolve_workspace(workspace), stored, endings)
    found = {each.stem: each for each in sorted(_ending_in(folder, endings), key=_rank)}
    if not found:
        raise InputError(f"{folder} holds no {_stores(endings)}; name a file, a folder, a run or a stage key")
    if split is None:
        return found
    if split not in found:
        raise InputError(f"{folder} holds {', '.join(found)}, no split {split!r}")
    return {split: found[split]}


def _ending_in(folder: Path, endings: Sequence[str]) -> list[Path]:
    return [path for ending in endings for path in folder.glob(f"*{ending}")]


def _stores(endings: Sequence[str]) -> str:
    return "token store (*.tokens)" + (" and no store of images (*.images)" if len(endings) > 1 else "")


def _split_of(path: Path) -> str:
    return path.stem if path.stem in _SPLITS else "train"


def _rank(path: Path) -> tuple[bool, bool, str]:
    return path.stem != "train", path.stem != "test", path.stem


def _output(workspace: Workspace, stored: str, endings: Sequence[str]) -> Path:
    try:
        record = load_run(workspace, stored)
    except InputError as no_run:
        try:
            found = workspace.find_output(workspace.find_key(stored))
        except InputError:
            raise InputError(f"there is no token store {stored}: no such file, and {no_run}") from no_run
        if found is None:
            raise InputError(f"the stage {stored} has no output yet; `tokexp run` makes it") from no_run
        return found
    kinds = [kind for kind in ("tokens", "images") if f".{kind}" in endings]
    nodes = [
        (node.kind, node.key) for kind in kinds for node in record.nodes if node.kind == kind and "/" not in node.name
    ]
    folders = [folder for kind, key in nodes if (folder := workspace.output(kind, key)).is_dir()]
    if not folders:
        raise InputError(
            f"the run {record.ref} has no finished {' or '.join(kinds)} stage; `tokexp run` makes its stores"
        )
    return folders[0]


def _one(stored: str, split: str | None, workspace: str | Path | None) -> Path:
    is_file = Path(stored).expanduser().is_file()
    return next(iter(find_stores(stored, None if is_file else split or "train", workspace).values()))


def _open(path: Path) -> Any:
    from tokexp.storage.store import TokenStore

    return TokenStore.open(path)


def _table(path: Path) -> TokenTable:
    from tokexp.storage.interchange.table import table_of

    return table_of(_open(path))


def _store_file(path: Path) -> Path:
    if path.suffix != _ENDING:
        raise InputError(f"{path} must end in {_ENDING}, the form that is written")
    return path


def _codec(name: str) -> CodecSpec:
    from tokexp.storage.codec_comparison import codec_spec

    return codec_spec(name)


def _codec_of(store: TokenStore) -> str:
    """Return the name of a store's codec, with the level where it was written at one."""
    level = store.codec.get("level")
    return str(store.codec["kind"]) if level is None else f"{store.codec['kind']}:{level}"


def _given(said: Said) -> Any:
    from tokexp.stages.interchange import given_codes
    from tokexp.storage.interchange.reading import Given

    grid = None if said.grid is None else _numbers(said.grid, "x", "--grid", "ROWSxCOLUMNS, such as 16x16")
    fields = None if said.fields is None else tuple(said.fields.split(","))
    if fields is not None and (len(fields) != 2 or not all(fields)):
        raise InputError(f"--fields: {said.fields!r} given; two names are needed, such as tokens,label")
    if grid is not None and (len(grid) != 2 or min(grid) < 1):
        raise InputError(f"--grid: {said.grid!r} given; ROWSxCOLUMNS is needed, such as 16x16")
    return Given(grid, given_codes(said.codebook), said.metric, fields, said.split)


def _choice(part: Part) -> Choice:
    from tokexp.storage.interchange.choosing import Choice

    start, stop = None, None
    if part.images is not None:
        first, colon, last = part.images.partition(":")
        if not colon or not all(text.isdigit() or not text for text in (first, last)):
            raise InputError(f"--range: {part.images!r} given; A:B is needed, such as 0:1000 or 1000:")
        start, stop = (int(text) if text else None for text in (first, last))
    classes = None if part.classes is None else frozenset(_class_numbers(part.classes))
    return Choice(start, stop, classes, part.per_class)


def _class_numbers(text: str) -> list[int]:
    found: list[int] = []
    for piece in text.split(","):
        ends = _numbers(piece, "-", "--classes", "numbers and ranges, such as 0,3,5-9")
        if not ends[0] <= ends[-1] < 1 << 16:
            raise InputError(f"--classes: {piece!r} given; a range goes up, and classes are below 65,536")
        found += range(ends[0], ends[-1] + 1)
    return found


def _numbers(text: str, between: str, option: str, needed: str) -> tuple[int, ...]:
    pieces = text.strip().split(between)
    if len(pieces) > 2 or not all(piece.isdigit() for piece in pieces):
        raise InputError(f"{option}: {text!r} given; {needed} is needed")
    return tuple(int(piece) for piece in pieces)


def _say_written(output: Path, tables: Mapping[str, TokenTable], json: bool, form: str | None = None) -> None:
    from tokexp.durable import folder_bytes

    size = folder_bytes(output)
    splits = {name: table.images for name, table in tables.items()}
    first = next(iter(tables.values()))
    if json:
        asked = {} if form is None else {"form": form}
        print_json({
            "output": str(output), "bytes": size, "images": splits, "grid": list(first.grid), "codes": len(first.codes),
            "classes": max(table.num_classes for table in tables.values()), **asked,
        })  # fmt: skip
        return
    said = ", ".join(f"{count} images ({name})" for name, count in splits.items())
    console().print(
        f"{output}: {said}, {first.grid[0]} x {first.grid[1]} tokens of {len(first.codes)} codes", markup=False
    )
    if form == "seit" and (output / "codebook.ckpt").is_file():
        say(
            f"train on it: data: {{kind: seit_release, root: {output}, train: train-token, test: test-token, "
            f"grid: {first.grid[0]}, codebook_size: {len(first.codes)}, code_dim: {first.codes.shape[1]}}}"
        )


def _show_facts(facts: Mapping[str, Any], indent: str = "") -> None:
    for name, value in facts.items():
        if isinstance(value, Mapping):
            console().print(f"{indent}{name}", markup=False)
            _show_facts(value, indent + "  ")
        else:
            text = f"{value:.4g}" if isinstance(value, float) else str(value)
            console().print(f"{indent}{name:24} {text}", markup=False)
