"""The command line of codecs: `tokexp codec VERB`. No logic; bodies are in `tokexp.verbs.codecs`."""

from pathlib import Path
from typing import Annotated

import typer

from tokexp.cli_options import AsJson, Table, WorkspacePath

codec = typer.Typer(help="What codecs make of stored tokens.", no_args_is_help=True)

Stored = Annotated[str, typer.Argument(metavar="STORE", help="A .tokens file, a folder of them, a run or a stage key.")]
Split = Annotated[str, typer.Option("--split", metavar="SPLIT", help="train, test or select.")]


@codec.command("fit")
def fit(
    stored: Stored,
    kind: Annotated[
        str | None,
        typer.Option("--codec", metavar="KIND[:LEVEL]", help="Such as rans_context:best; the best one if not given."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", metavar="FILE", help="The .tokens file to write.", show_default="none is written"),
    ] = None,
    split: Split = "train", workspace: WorkspacePath = None, json: AsJson = False,
) -> int:  # fmt: skip
    """Fit a codec to stored tokens, say what it saves, and write them with it."""
    from tokexp.verbs import codecs

    return codecs.fit(codecs.Stored(stored, split, workspace), kind, output, json)


@codec.command("compare")
def compare(
    stored: Stored, split: Split = "train", output: Table = None, workspace: WorkspacePath = None, json: AsJson = False,
) -> int:  # fmt: skip
    """Print bytes, bits and speed of every codec on stored tokens, and pick one."""
    from tokexp.verbs import codecs

    return codecs.compare(codecs.Stored(stored, split, workspace), output, json)
