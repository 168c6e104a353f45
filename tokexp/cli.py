"""The command line: every verb with its arguments, and how an error ends the program. No logic.

A verb's body is a function in `tokexp.verbs` that is imported on use, so that `--help` loads nothing heavy. Exit codes:
0 good, 1 work failed, 2 input wrong, 130 interrupted. With `--json` a verb prints one JSON object on stdout.
"""

import errno
import json as json_text
import os
import sys
from contextlib import suppress
from io import TextIOWrapper
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from tokexp import __version__
from tokexp.cli_codec import codec
from tokexp.cli_options import (
    AsJson,
    BenchData,
    Cluster,
    Detach,
    Driver,
    DryRun,
    ExperimentFile,
    File,
    Files,
    Follow,
    Jobs,
    LanguagePart,
    Launch,
    LauncherName,
    MaybeBench,
    MaybeBlock,
    MaybeRef,
    MaybeSweep,
    Metric,
    Model,
    Overrides,
    Part,
    PublishedName,
    Ref,
    Refs,
    ReportFile,
    SchemaFile,
    Sources,
    SweepFile,
    Table,
    Top,
    Watch,
    WorkspacePath,
)
from tokexp.cli_store import store
from tokexp.cli_tokenize import tokenize
from tokexp.errors import SpecError, TokexpError


class _InterruptedError(Exception):
    """Ctrl-C, under a name that typer does not turn into an exit without a word."""


class _Group(TyperGroup):
    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            raise _InterruptedError from error


app = typer.Typer(
    name="tokexp", help="Experiments in token-based, storage-efficient vision training: write, run, compare.",
    cls=_Group, no_args_is_help=True, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False,
)  # fmt: skip
app.add_typer(store, name="store")
app.add_typer(codec, name="codec")


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """Take the options that stand before a verb."""


@app.command()
def validate(
    files: Files,
    overrides: Overrides = None, json: AsJson = False,
) -> int:  # fmt: skip
    """Check files and report every problem with its place."""
    from tokexp.verbs import specs

    return specs.validate(files, overrides or [], json)


@app.command()
def show(
    file: File, overrides: Overrides = None, sources: Sources = False, model: Model = False, json: AsJson = False,
) -> int:  # fmt: skip
    """Print an experiment or a sweep, everything filled in."""
    if model:
        from tokexp.verbs import model_sizes

        return model_sizes.show_model(file, overrides or [], json)
    from tokexp.verbs import specs

    return specs.show(file, overrides or [], sources, json)


@app.command()
def schema(
    of: Part = LanguagePart.experiment, output: SchemaFile = None, json: AsJson = False
) -> int:  # fmt: skip
    """Write the JSON Schema that editors check experiments by."""
    from tokexp.verbs import specs

    return specs.schema(of.value, output, json)


@app.command("list")
def list_kinds(block: MaybeBlock = None, json: AsJson = False) -> int:
    """List the kinds that each block of an experiment knows."""
    from tokexp.verbs import specs

    return specs.list_kinds(block, json)


@app.command()
def plan(file: File, overrides: Overrides = None, workspace: WorkspacePath = None, json: AsJson = False) -> int:
    """Print the stages that are needed, and what is done."""
    from tokexp.verbs import running

    return running.plan(file, overrides or [], workspace, json)


@app.command()
def run(
    file: ExperimentFile, overrides: Overrides = None, workspace: WorkspacePath = None,
    launcher: Launch = LauncherName.local, jobs: Jobs = None, detach: Detach = False,
    on: Cluster = None, watch: Watch = False, dry_run: DryRun = False, json: AsJson = False,
) -> int:  # fmt: skip
    """Run what is not done yet, and print the results."""
    if on is not None or watch or dry_run:
        from tokexp.verbs import clusters, sweeping

        how = sweeping.How(on, launcher.value, jobs, watch=watch, dry_run=dry_run, detach=detach)
        return clusters.run(file, overrides or [], workspace, how, json)
    from tokexp.verbs import running

    return running.run(file, overrides or [], workspace, launcher.value, jobs, detach, json)


app.command()(tokenize)


@app.command()
def sweep(
    file: SweepFile, overrides: Overrides = None, workspace: WorkspacePath = None, on: Cluster = None,
    launcher: Launch = LauncherName.local, jobs: Jobs = None,
    watch: Watch = False, driver: Driver = None, dry_run: DryRun = False, detach: Detach = False, json: AsJson = False,
) -> int:  # fmt: skip
    """Run the trials of a sweep, and print its table."""
    from tokexp.verbs import sweeping

    how = sweeping.How(on, launcher.value, jobs, watch, driver is not None, dry_run, detach)
    return sweeping.sweep(file, overrides or [], workspace, how, json)


@app.command()
def tick(
    ref: MaybeSweep = None,
    workspace: WorkspacePath = None,
    watch: Annotated[bool, typer.Option("--watch", help="Stay and drive it until the end.")] = False,
    json: AsJson = False,
) -> int:
    """Advance sweeps on a cluster: settle, submit what is next."""
    from tokexp.verbs import sweeping

    return sweeping.tick(ref, workspace, watch, json)


@app.command()
def compare(
    refs: Refs,
    workspace: WorkspacePath = None, metric: Metric = None, output: Table = None, json: AsJson = False,
) -> int:  # fmt: skip
    """Print runs and sweeps side by side, paired by seed."""
    from tokexp.verbs import comparing

    return comparing.compare(refs, workspace, metric, output, json)


@app.command()
def leaderboard(
    workspace: WorkspacePath = None, metric: Metric = None, output: Table = None,
    top: Top = 20, json: AsJson = False,
) -> int:  # fmt: skip
    """Print the best cases of all runs and sweeps."""
    from tokexp.verbs import comparing

    return comparing.leaderboard(workspace, metric, output, top, json)


@app.command()
def status(ref: MaybeRef = None, workspace: WorkspacePath = None, json: AsJson = False) -> int:
    """Print the state of runs and sweeps, or of one of them."""
    from tokexp.verbs import running

    return running.status(ref, workspace, json)


@app.command()
def logs(
    ref: Ref, workspace: WorkspacePath = None, follow: Follow = False, json: AsJson = False,
) -> int:  # fmt: skip
    """Print what the stages of a run say."""
    from tokexp.verbs import running

    return running.logs(ref, workspace, follow, json)


@app.command()
def cancel(ref: Ref, workspace: WorkspacePath = None, json: AsJson = False) -> int:
    """Stop a run or a sweep; stages save a checkpoint first."""
    from tokexp.verbs import running

    return running.cancel(ref, workspace, json)


@app.command()
def retry(ref: Ref, workspace: WorkspacePath = None, json: AsJson = False) -> int:
    """Run again what failed or was stopped."""
    from tokexp.verbs import running

    return running.retry(ref, workspace, json)


@app.command()
def why(
    a: Annotated[str, typer.Argument(metavar="A", help="A stage key or run.", show_default=False)],
    b: Annotated[str, typer.Argument(metavar="B", help="Another one.", show_default=False)],
    workspace: WorkspacePath = None, json: AsJson = False,
) -> int:  # fmt: skip
    """Print what differs between two stages or runs."""
    from tokexp.verbs import running

    return running.why(a, b, workspace, json)


@app.command()
def gc(
    workspace: WorkspacePath = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed.")] = False,
    json: AsJson = False,
) -> int:
    """Remove outputs that no recorded run or sweep needs."""
    from tokexp.verbs import records

    return records.gc(workspace, dry_run, json)


@app.command()
def doctor(
    workspace: WorkspacePath = None,
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Rebuild the ledger from the event files.")] = False,
    json: AsJson = False,
) -> int:
    """Check this machine and the workspace."""
    from tokexp.verbs import records

    return records.doctor(workspace, rebuild, json)


@app.command()
def sync(ref: MaybeRef = None, workspace: WorkspacePath = None, json: AsJson = False) -> int:
    """Bring MLflow up to date with what was recorded."""
    from tokexp.verbs import showing

    return showing.sync(ref, workspace, json)


@app.command()
def ui(
    workspace: WorkspacePath = None,
    port: Annotated[int, typer.Option(metavar="PORT", min=1, max=65535, help="Port to listen on.")] = 5000,
    host: Annotated[str, typer.Option(metavar="ADDRESS", help="Address to listen on.")] = "127.0.0.1",
    json: AsJson = False,
) -> int:
    """Show the workspace's runs in MLflow's dashboard until Ctrl-C."""
    from tokexp.verbs import showing

    return showing.ui(workspace, port, host, json)


@app.command()
def report(
    refs: Refs, workspace: WorkspacePath = None, output: ReportFile = None, published: PublishedName = None,
    json: AsJson = False,
) -> int:  # fmt: skip
    """Write results as one HTML file; several on one plot."""
    from tokexp.verbs import frontiers

    return frontiers.report(refs, workspace, output, published, json)


@app.command()
def bench(name: MaybeBench = None, data: BenchData = None, json: AsJson = False) -> int:
    """Measure tokexp on this machine, beside its bounds."""
    from tokexp.verbs import showing

    return showing.bench(name, json, data)


@app.command()
def version(json: AsJson = False) -> int:
    """Print the version."""
    typer.echo(json_text.dumps({"version": __version__}) if json else __version__)
    return 0


_UsageError: Any = typer.BadParameter.__base__


def main() -> None:
    """Run the command line and end with its exit code; an error that a person can act on has no traceback."""
    _open_closed_streams()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # A terminal without some letter gets a question mark for it.
    sys.exit(_run(sys.argv[1:]))


def _open_closed_streams() -> None:
    """Put the null device where the caller closed a standard stream, whose number another file would get otherwise."""
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(number)
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)


def _run(arguments: list[str]) -> int:
    try:
        code = app(arguments, prog_name="tokexp", standalone_mode=False)
        sys.stdout.flush()
    except TokexpError as error:
        problems = error.problems if isinstance(error, SpecError) else []
        return _fail(str(error), error.exit_code, arguments, [_as_dict(problem) for problem in problems])
    except _UsageError as error:
        error.message = error.message.replace("Value error, ", "")
        error.show()
        return _fail(error.format_message(), 2, arguments, shown=True)
    except (_InterruptedError, KeyboardInterrupt, typer.Abort):
        return _fail("interrupted", 130, arguments)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        hint = "; free some space and try again" if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
        return _fail(f"{error.filename or 'input/output'}: {error.strerror or error}{hint}", 1, arguments)
    return code if isinstance(code, int) else 0


def _fail(
    message: str, code: int, arguments: list[str], problems: list[dict[str, Any]] | None = None, shown: bool = False
) -> int:
    if not shown:
        typer.echo(message, err=True)
        if problems:
            typer.echo(f"{len(problems)} error{'s' if len(problems) > 1 else ''}", err=True)
    if "--json" in arguments:
        # What cannot be printed, on a full disk or to a reader that is gone, was the error itself.
        with suppress(OSError):
            typer.echo(json_text.dumps({"error": message, "problems": problems or []}))
    return code


def _as_dict(problem: Any) -> dict[str, Any]:
    return {name: getattr(problem, name) for name in ("file", "line", "column", "path", "message")}
