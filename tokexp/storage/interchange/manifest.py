"""The file `tokens.json` of an exported folder: what its tokens are, and the digest of every other file.

Forms of others have no place for the metric, the number of classes or a check; this file lies beside theirs, which
programs of others do not look at.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tokexp.durable import file_digest
from tokexp.errors import DamagedError, DataError, InputError
from tokexp.storage.interchange.table import TokenTable

NAME = "tokens.json"


class Manifest(BaseModel):
    """What `tokens.json` holds, version 1."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: int = Field(1, description="Of this form.")
    form: str = Field(description="seit, numpy, huggingface or webdataset.")
    grid: tuple[int, int] = Field(description="Rows and columns of tokens.")
    codes: int = Field(ge=0, description="Number of codes.")
    classes: int = Field(ge=0, description="Number of classes.")
    metric: Literal["euclidean", "cosine"] = Field(description="How a vector finds its nearest code.")
    implicit: bool = Field(False, description="The codes follow from the facts.")
    images: dict[str, int] = Field(description="Images by split.")
    facts: dict[str, Any] = Field({}, description="What the writer of the tokens noted.")
    files: dict[str, str] = Field({}, description="Digest (blake2b, 64 hex digits) of every other file.")


def describe(form: str, tables: Mapping[str, TokenTable]) -> Manifest:
    """Return the manifest of splits that share their codes, without files. Raises InputError if they do not."""
    first = next(iter(tables.values()))
    for name, table in tables.items():
        same = table.codes.shape == first.codes.shape and bool((table.codes == first.codes).all())
        if not same or (table.grid, table.metric) != (first.grid, first.metric):
            raise InputError(
                f"the split {name!r} has another codebook or grid than {next(iter(tables))!r}; export it alone"
            )
        if table.facts.get("weights") != first.facts.get("weights"):
            raise InputError(
                f"the split {name!r} is of another training of the tokenizer than {next(iter(tables))!r}; export it "
                "alone"
            )
    return Manifest(
        form=form, grid=first.grid, codes=len(first.codes), metric=_metric(first.metric), implicit=first.implicit,
        classes=max(table.num_classes for table in tables.values()), facts=first.facts,
        images={name: table.images for name, table in tables.items()},
    )  # fmt: skip


def _metric(name: str) -> Literal["euclidean", "cosine"]:
    return "cosine" if name == "cosine" else "euclidean"


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write `tokens.json` with the digests of all files that lie in the folder by now."""
    files = {path.relative_to(folder).as_posix(): file_digest(path) for path in _files(folder)}
    text = manifest.model_copy(update={"files": files}).model_dump_json(indent=1, exclude_defaults=True)
    (folder / NAME).write_text(text + "\n", encoding="utf-8")


def read_manifest(folder: Path) -> Manifest | None:
    """Return what lies in a folder, after checking every file that it names; None without a manifest.

    Raises DamagedError for a file that is not as written or is missing, InputError for a manifest of a newer version.
    """
    path = folder / NAME
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(content, dict) and int(content.get("version", 1)) > 1:
            raise InputError(f"{path} has version {content['version']}, this tokexp reads up to 1; update tokexp")
        manifest = Manifest.model_validate(content)
    except (ValueError, TypeError, ValidationError) as error:
        raise DataError(
            f"{path} is not what tokexp writes ({str(error).splitlines()[0]}); export the tokens again"
        ) from error
    wrong = [name for name, digest in manifest.files.items() if not _is_as_written(folder / name, digest)]
    if wrong:
        raise DamagedError(f"{folder} is damaged ({', '.join(wrong[:8])}): copy it again, or export the tokens again")
    return manifest


def _is_as_written(path: Path, digest: str) -> bool:
    return path.is_file() and file_digest(path) == digest


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.name != NAME)
