"""The verbs that show what was recorded: sync, ui, report, bench."""

import importlib.util
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich.table import Table
from rich.text import Text

from tokexp.bench.base import BenchRow, bench_names, find_bench, machine, run_bench
from tokexp.durable import write_atomic
from tokexp.errors import InputError, TokexpError
from tokexp.ledger.runs import RunRecord, load_run
from tokexp.ledger.workspace import Workspace, resolve_workspace
from tokexp.report.comparison import means_sweep
from tokexp.report.results import result
from tokexp.report.table import as_csv, as_markdown
from tokexp.tracking.stores import artifact_uri, local_uri
from tokexp.tracking.sync import Syncer, SyncReport
from tokexp.tracking.sync import sync as bring_up_to_date
from tokexp.verbs.comparing import sweep_report
from tokexp.verbs.printing import console, print_json, say

SYNC_EVERY_S = 5.0
"""Seconds between two syncs while the dashboard is shown."""

_END_S = 10.0


def sync(ref: str | None, workspace: str | Path | None, json: bool) -> int:
    """Bring MLflow up to date. Returns 1 if a store does not answer or something could not be shown, else 0."""
    found = resolve_workspace(workspace)
    report = bring_up_to_date(found, ref)
    if json:
        print_json(asdict(report))
    else:
        _say_report(report)
    return int(bool(report.unreachable or report.problems))


def _say_report(report: SyncReport) -> None:
    for text in (*report.unreachable, *report.problems):
        say(text)
    if report.unreachable:
        say("nothing is lost: `tokexp sync` goes on from there when the store answers")
    stores = f" in {', '.join(report.stores)}" if report.stores else ""
    sweeps = f" and {report.sweeps} sweeps" if report.sweeps else ""
    trials = f" of {report.trials} trials" if report.trials else ""
    console().print(Text(f"{report.runs} runs{sweeps} are current{stores}; {report.points} new values{trials}"))


def ui(workspace: str | Path | None, port: int, host: str, json: bool) -> int:
    """Show the workspace's own store in MLflow's dashboard, kept current, until Ctrl-C. Returns 0.

    Raises InputError if the port is taken.
    """
    found = resolve_workspace(workspace).create()
    if importlib.util.find_spec("mlflow") is None:
        raise InputError("the dashboard needs MLflow: pip install mlflow")
    _refuse_taken(host, port)
    syncer = Syncer(found)
    for text in (report := syncer.update()).unreachable + report.problems:
        say(text)
    address = f"http://{host}:{port}"
    page = syncer.page(local_uri(found))
    if json:
        print_json({"address": address, "page": f"{address}/{page}", "store": local_uri(found)})
        sys.stdout.flush()
    say(f"MLflow shows {found.root} at {address} in a few seconds; Ctrl-C ends it")
    if page:
        say(f"the newest sweep: {address}/{page}")
    # Ctrl-C waits until the server can be ended with us; the server itself is ended by another signal.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    server = _start_server(found, host, port)
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        while server.poll() is None:
            time.sleep(SYNC_EVERY_S)
            syncer.update()
    except KeyboardInterrupt:
        return 0
    finally:
        _end(server)
    raise TokexpError(f"MLflow's server ended with code {server.returncode}; its messages stand above")


def _refuse_taken(host: str, port: int) -> None:
    import socket

    try:
        with socket.create_server((host, port)):
            return
    except OSError as error:
        raise InputError(f"{host}:{port} cannot be listened on ({error.strerror}); choose another by --port") from error


def _start_server(workspace: Workspace, host: str, port: int) -> "subprocess.Popen[bytes]":
    command = [
        sys.executable, "-m", "tokexp.tracking.server",
        sys.executable, "-m", "mlflow", "server", "--host", host, "--port", str(port), "--workers", "1",
        "--backend-store-uri", local_uri(workspace), "--default-artifact-root", artifact_uri(workspace),
    ]  # fmt: skip
    environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"}
    return subprocess.Popen(
        command, env=environment, cwd=workspace.root, start_new_session=True, stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
    )  # fmt: skip


def _end(server: "subprocess.Popen[bytes]") -> None:
    # The server's own workers are in its session: all of them get the signal.
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(server.pid, number)
            server.wait(_END_S)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue
        else:
            return


def report(ref: str, workspace: str | Path | None, output: str | Path | None, json: bool) -> int:
    """Write the report of a run or a sweep; the ending of `output` decides: .html, .csv or .md. Returns 0."""
    found = resolve_workspace(workspace)
    if means_sweep(found, ref):
        return sweep_report(found, ref, output, json)
    record = load_run(found, ref)
    target = Path(output) if output is not None else Path(f"{record.ref}.html")
    if target.is_dir():
        target = target / f"{record.ref}.html"
    content = _report_text(found, record, target.suffix.lower()).encode()
    try:
        write_atomic(target, content)
    except OSError as error:
        raise InputError(f"cannot write {target}: {error.strerror or error}; name another file by --output") from error
    if json:
        print_json({"ref": record.ref, "file": str(target.absolute())})
    else:
        console().print(Text(str(target)))
    return 0


def _report_text(workspace: Workspace, record: RunRecord, ending: str) -> str:
    if ending in {".html", ".htm"}:
        from tokexp.report.html import report_html

        return report_html(workspace, record)
    writers = {".csv": as_csv, ".md": as_markdown}
    if ending not in writers:
        raise InputError(f"a report is written as .html, .csv or .md, not as {ending or 'a file without an ending'}")
    return writers[ending](result(workspace, record))


def bench(name: str | None, json: bool, data: Path | None = None) -> int:
    """Run one benchmark, or all, and print each figure beside its bound. Returns 1 if a bound does not hold, else 0.

    data: a folder that one benchmark measures on. Raises InputError if it takes none.
    """
    if data is not None and name is None:
        raise InputError("--data goes with the name of one benchmark: tokexp bench codec --data FOLDER")
    if name is not None:
        find_bench(name, data)  # A word that is not known is said before anything is measured.
    names = bench_names() if name is None else [name]
    found: dict[str, Sequence[BenchRow]] = {}
    for each in names:
        say(f"measuring {each} ...")
        found[each] = run_bench(each, data)
    if json:
        shown = {each: [row.as_dict() for row in rows] for each, rows in found.items()}
        one = {"bench": name, "rows": shown[name]} if name is not None else {"benches": shown}
        print_json({**one, "machine": machine()})
    else:
        for each, rows in found.items():
            console().print(_bench_table(each, rows))
    return int(any(row.holds is False for rows in found.values() for row in rows))


def _bench_table(name: str, rows: Sequence[BenchRow]) -> Table:
    table = Table(box=None, padding=(0, 2), header_style="dim", title=name, title_justify="left", title_style="bold")
    for title in ("what", "value", "95 % interval", "bound", "anchor", "holds"):
        table.add_column(title, justify="right" if title in {"value", "95 % interval"} else "left")
    for row in rows:
        interval = "" if row.low is None or row.high is None else f"{row.low:.4g} to {row.high:.4g}"
        holds = Text("yes", "green") if row.holds else Text("NO", "bold red") if row.holds is False else Text("-")
        bound, anchor = ("" if text is None else str(text) for text in (row.bound, row.anchor))
        table.add_row(Text(row.name), f"{row.value:,.4g} {row.unit}", interval, bound, anchor, holds)
    return table
