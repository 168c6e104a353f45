"""The verb `tokexp tokenize`: its arguments."""

from pathlib import Path
from typing import Annotated

import typer

from tokexp.cli_options import AsJson, Cluster, Overrides, WorkspacePath

Folder = Annotated[
    Path, typer.Argument(metavar="FOLDER", help="A folder of images, or a zip of one.", show_default=False)
]
How = Annotated[
    str,
    typer.Option("--tokenizer", metavar="KIND|SPEC", help="A kind, or an experiment's YAML file.", show_default=False),
]
Store = Annotated[Path, typer.Option("--output", metavar="STORE", help="File to write (.tokens).", show_default=False)]
Workers = Annotated[
    int | None, typer.Option(metavar="N", min=1, max=256, help="Processes that encode.", show_default="1")
]


def tokenize(
    folder: Folder, tokenizer: How, output: Store, workers: Workers = None, on: Cluster = None,
    overrides: Overrides = None, workspace: WorkspacePath = None, json: AsJson = False,
) -> int:  # fmt: skip
    """Encode a folder of images into one token store."""
    from tokexp.verbs import tokenizing

    asked = tokenizing.Asked(folder, tokenizer, output, workers, tuple(overrides or ()))
    return tokenizing.tokenize(asked, on, workspace, json)
