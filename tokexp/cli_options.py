"""The options that several verbs of the command line share, and the words that some of them take.

Options have a metavar: without one, typer shows the type that Python knows them by.
"""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class LauncherName(StrEnum):
    """How stages get to run on this machine."""

    local = "local"
    inline = "inline"


class DriverName(StrEnum):
    """What drives a sweep on a cluster after the command has ended."""

    slurm = "slurm"


class LanguagePart(StrEnum):
    """What a file of the language can be."""

    experiment = "experiment"
    sweep = "sweep"
    cluster = "cluster"


File = Annotated[
    Path, typer.Argument(metavar="FILE", help="A YAML file of an experiment or a sweep.", show_default=False)
]
ExperimentFile = Annotated[
    Path, typer.Argument(metavar="FILE", help="A YAML file of an experiment.", show_default=False)
]
SweepFile = Annotated[Path, typer.Argument(metavar="FILE", help="A YAML file of a sweep.", show_default=False)]
Ref = Annotated[
    str,
    typer.Argument(metavar="REF", help="A run or sweep: its reference or the start of it, its spec file, its name."),
]
Refs = Annotated[list[str], typer.Argument(metavar="REF", help="Runs and sweeps.", show_default=False)]
ReportFile = Annotated[
    Path | None,
    typer.Option("--output", metavar="FILE", help="File: .html, .csv, .md; .png, .svg: plot.", show_default="REF.html"),
]
PublishedName = Annotated[
    str | None,
    typer.Option("--published", metavar="PAPER/TABLE", help="Points of a paper on the plot of storage policies."),
]
MaybeRef = Annotated[
    str | None, typer.Argument(metavar="REF", help="A run or sweep, its spec file or its name; all if not given.")
]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="A.B=C", help="Override a field; may be given again.")
]
WorkspacePath = Annotated[
    Path | None,
    typer.Option(metavar="FOLDER", envvar="TOKEXP_WORKSPACE", help="The folder of outputs.", show_default="workspace"),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Cluster = Annotated[
    Path | None, typer.Option("--on", metavar="PROFILE", help="Run on a SLURM cluster: its profile, a YAML file.")
]
Metric = Annotated[
    str | None,
    typer.Option(metavar="STAGE/METRIC", help="A metric, such as finetune/top1.", show_default=False),
]
Table = Annotated[
    Path | None,
    typer.Option("--output", metavar="FILE", help="Write the table too: .csv or .md.", show_default=False),
]
Part = Annotated[LanguagePart, typer.Option("--of", help="Which kind of file the schema is for.")]
Launch = Annotated[LauncherName, typer.Option(help="local: a process per stage; inline: in this process.")]
Jobs = Annotated[
    int | None, typer.Option(metavar="N", min=1, max=1024, help="Most stages at once.", show_default=False)
]
Detach = Annotated[bool, typer.Option("--detach", help="Start it and return.")]
Watch = Annotated[bool, typer.Option("--watch", help="With --on: stay until the end.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="With --on: print the batch scripts alone.")]
Driver = Annotated[
    DriverName | None,
    typer.Option(help="With --on: a small job of the cluster goes on with it.", show_default=False),
]
Files = Annotated[
    list[Path],
    typer.Argument(metavar="FILE", help="YAML files of experiments, sweeps or cluster profiles.", show_default=False),
]
MaybeSweep = Annotated[str | None, typer.Argument(metavar="SWEEP", help="One sweep; all on a cluster if not given.")]
Top = Annotated[int, typer.Option(metavar="N", min=1, help="Most lines.")]
Sources = Annotated[bool, typer.Option("--sources", help="Say where each value comes from.")]
Follow = Annotated[bool, typer.Option("--follow", "-f", help="Keep printing until the run ends.")]
Model = Annotated[bool, typer.Option("--model", help="Print the model's size instead: parameters and GFLOPs.")]
BenchData = Annotated[
    Path | None,
    typer.Option("--data", metavar="FOLDER", help="codec: a folder of photographs.", show_default=False),
]
MaybeBench = Annotated[str | None, typer.Argument(metavar="NAME", help="One benchmark; all if not given.")]
MaybeBlock = Annotated[str | None, typer.Argument(metavar="BLOCK", help="One block, such as objective.")]
SchemaFile = Annotated[
    Path | None, typer.Option("--output", metavar="FILE", help="File to write; stdout if not given.")
]
