"""The command line of token stores: `tokexp store VERB`. No logic; bodies are in `tokexp.verbs.stores`."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from tokexp.cli_options import AsJson, WorkspacePath


class FormName(StrEnum):
    """The forms that token sets are exchanged in."""

    seit = "seit"
    numpy = "numpy"
    huggingface = "huggingface"
    webdataset = "webdataset"


class MetricName(StrEnum):
    """How a vector finds its nearest code."""

    euclidean = "euclidean"
    cosine = "cosine"


store = typer.Typer(help="Look at token stores, cut, join and exchange them.", no_args_is_help=True)

Stored = Annotated[str, typer.Argument(metavar="STORE", help="A .tokens file, a folder of them, a run or a stage key.")]
Target = Annotated[Path, typer.Argument(metavar="OUTPUT", help="What to write.", show_default=False)]
Split = Annotated[str | None, typer.Option("--split", metavar="SPLIT", help="train, test or select; all if not given.")]
OneSplit = Annotated[str, typer.Option("--split", metavar="SPLIT", help="train, test or select.")]
Force = Annotated[bool, typer.Option("--force", help="Replace an older output.")]
Codec = Annotated[
    str | None,
    typer.Option("--codec", metavar="KIND[:LEVEL]", help="How indices become bytes, such as rans_context:best."),
]


@store.command("info")
def info(stored: Stored, split: Split = None, workspace: WorkspacePath = None, json: AsJson = False) -> int:
    """Print what stores of tokens or images hold and what their bytes go to."""
    from tokexp.verbs import stores

    return stores.info(stored, split, workspace, json)


@store.command("verify")
def verify(stored: Stored, split: Split = None, workspace: WorkspacePath = None, json: AsJson = False) -> int:
    """Check every byte of stores of tokens or images; name what is damaged."""
    from tokexp.verbs import stores

    return stores.verify(stored, split, workspace, json)


@store.command("export")
def export(
    stored: Stored, output: Target,
    to: Annotated[FormName, typer.Option("--to", help="The form to write.", show_default=False)],
    split: Split = None, force: Force = False, workspace: WorkspacePath = None, json: AsJson = False,
) -> int:  # fmt: skip
    """Write token stores in a form that others read."""
    from tokexp.verbs import stores

    return stores.export(stored, output, to.value, split, force, workspace, json)


@store.command("import")
def import_(
    source: Annotated[Path, typer.Argument(metavar="SOURCE", help="A file or folder of that form.")],
    output: Target,
    form: Annotated[FormName, typer.Option("--from", help="The form to read.", show_default=False)],
    split: Annotated[
        str | None, typer.Option("--split", metavar="SPLIT", help="What the only split is: train, test, select.")
    ] = None,
    grid: Annotated[str | None, typer.Option("--grid", metavar="RxC", help="Rows and columns of tokens.")] = None,
    codebook: Annotated[Path | None, typer.Option("--codebook", metavar="FILE", help="A file with the codes.")] = None,
    metric: Annotated[MetricName | None, typer.Option("--metric", help="How the nearest code is found.")] = None,
    fields: Annotated[
        str | None, typer.Option("--fields", metavar="TOKENS,LABEL", help="Their names in a record.")
    ] = None,
    codec: Codec = None, force: Force = False, json: AsJson = False,
) -> int:  # fmt: skip
    """Write token stores from the tokens of others."""
    from tokexp.verbs import stores

    said = stores.Said(split, grid, codebook, None if metric is None else metric.value, fields)
    return stores.bring_in(source, output, form.value, said, codec, force, json)


@store.command("slice")
def slice_(
    stored: Stored, output: Target, split: OneSplit = "train",
    images: Annotated[str | None, typer.Option("--range", metavar="A:B", help="Images A to before B.")] = None,
    classes: Annotated[str | None, typer.Option("--classes", metavar="0,3,5-9", help="These classes alone.")] = None,
    per_class: Annotated[
        int | None, typer.Option("--per-class", metavar="N", min=1, help="At most so many of each class.")
    ] = None,
    codec: Codec = None, force: Force = False, workspace: WorkspacePath = None, json: AsJson = False,
) -> int:  # fmt: skip
    """Write a part of a token store, with all of its codes."""
    from tokexp.verbs import stores

    part = stores.Part(images, classes, per_class)
    return stores.cut(stored, output, part, split, codec, force, workspace, json)


@store.command("merge")
def merge(
    stored: Annotated[list[str], typer.Argument(metavar="STORE", help="Two or more, of one tokenizer.")],
    output: Annotated[
        Path, typer.Option("--output", metavar="FILE", help="The .tokens file to write.", show_default=False)
    ],
    split: OneSplit = "train", codec: Codec = None, force: Force = False, workspace: WorkspacePath = None,
    json: AsJson = False,
) -> int:  # fmt: skip
    """Write several token stores as one."""
    from tokexp.verbs import stores

    return stores.join(stored, output, split, codec, force, workspace, json)
