"""A look at everything that can go wrong in a workspace, with what to do about each finding."""

import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Literal

from tokexp.errors import TokexpError
from tokexp.ledger.claims import holder
from tokexp.ledger.events import scan
from tokexp.ledger.outputs import DONE, verify
from tokexp.ledger.records import Ledger
from tokexp.ledger.runs import read_runs
from tokexp.ledger.workspace import Workspace

LITTLE_SPACE = 2 << 30
"""Bytes of free space below which a warning is due."""

Severity = Literal["error", "warning", "info"]


@dataclass(frozen=True)
class Finding:
    """One finding: error (a result is lost or cannot be made), warning (costs something soon), info (good to know)."""

    severity: Severity
    about: str
    message: str
    advice: str


def doctor(workspace: Workspace) -> list[Finding]:
    """Check a workspace thoroughly (every byte of every output is read) and return what was found, worst first."""
    checks: tuple[Callable[[Workspace], Iterator[Finding]], ...] = (
        _outputs, _damaged, _runs, _events, _claims, _ledger, _disk, _packages, _tracking,
    )  # fmt: skip
    found = [finding for check in checks for finding in check(workspace)]
    order: dict[Severity, int] = {"error": 0, "warning": 1, "info": 2}
    return sorted(found, key=lambda finding: order[finding.severity])


def _outputs(workspace: Workspace) -> Iterator[Finding]:
    for kind, key, folder in workspace.outputs():
        problems = verify(folder)
        claim = holder(workspace, key)
        if not problems or (claim is not None and claim.alive):
            continue
        about = f"output {kind} {key[:12]}"
        if (folder / DONE).exists():
            advice = "run the spec again: a damaged output is set aside and computed anew"
            yield Finding("error", about, "; ".join(problems[:3]), advice)
        else:
            yield Finding("warning", about, "its publication was cut off", "run the spec again to finish it")


def _damaged(workspace: Workspace) -> Iterator[Finding]:
    aside = sorted(workspace.damaged.glob("*")) if workspace.damaged.is_dir() else []
    if aside:
        message = f"{len(aside)} outputs were set aside in {workspace.damaged}"
        yield Finding("warning", "damaged outputs", message, "look at them if you wish; `tokexp gc` removes them")


def _runs(workspace: Workspace) -> Iterator[Finding]:
    for problem in read_runs(workspace)[1]:
        yield Finding("error", "run records", problem, "run the spec again; its finished stages are reused")


def _events(workspace: Workspace) -> Iterator[Finding]:
    for attempt in workspace.attempt_ids():
        about = f"events of {attempt}"
        found = scan(workspace.attempt(attempt) / "events.jsonl")
        if found.broken:
            yield Finding("error", about, found.broken, "the events before it are used; outputs are not affected")
        elif found.torn:
            yield Finding("info", about, found.torn, "none needed: its process was killed or is writing just now")
        for aside in sorted(workspace.attempt(attempt).glob("events.damaged-*.jsonl")):
            yield Finding("warning", about, f"the damaged file was kept as {aside}", "delete it after a look")


def _claims(workspace: Workspace) -> Iterator[Finding]:
    for key in workspace.work_keys():
        claim = holder(workspace, key)
        if claim is not None and not claim.alive:
            message = f"held by the attempt {claim.attempt} on {claim.host}, which is dead: {claim.why}"
            advice = "none needed: the next attempt takes it over; `tokexp retry` starts one"
            yield Finding("info", f"claim {key[:12]}", message, advice)


def _ledger(workspace: Workspace) -> Iterator[Finding]:
    if not workspace.attempt_ids() and not workspace.ledger_file.exists():
        return
    advice = "`tokexp doctor --rebuild` makes it anew from the event files"
    if not workspace.ledger_file.exists():
        yield Finding("info", "ledger", "it is missing", "it is made anew when it is next needed")
        return
    ledger = Ledger(workspace)
    problems = ledger.compare()
    for problem in problems[:5]:
        yield Finding("error", "ledger", problem, advice)
    if problems:
        return
    try:
        told = ledger.trouble()
    except TokexpError as error:
        told = [str(error)]
    for problem in told:
        yield Finding("warning", "ledger", f"met while reading: {problem}", advice)


def _disk(workspace: Workspace) -> Iterator[Finding]:
    folder = workspace.root
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if free < LITTLE_SPACE:
        message = f"{free / 1e9:.1f} GB are free on the disk of {workspace.root}"
        yield Finding("warning", "disk", message, "`tokexp gc --dry-run` shows what can be removed")


def _packages(workspace: Workspace) -> Iterator[Finding]:
    torch, vision = _release("torch"), _release("torchvision")
    if torch is None:
        yield Finding("error", "packages", "torch is not installed", "install tokexp with its dependencies")
        return
    if vision is None:
        yield Finding("error", "packages", "torchvision is not installed", "install tokexp with its dependencies")
        return
    # torchvision 0.(N + 15) is built for torch 2.N
    if torch[:1] == (2,) and vision[:1] == (0,) and vision[1] != torch[1] + 15:
        message = f"torch {version('torch')} and torchvision {version('torchvision')} were not built for each other"
        yield Finding("warning", "packages", message, f"install torchvision 0.{torch[1] + 15}")
    elif ("+cpu" in version("torch")) != ("+cpu" in version("torchvision")):
        message = f"torch {version('torch')} and torchvision {version('torchvision')} are builds of different kinds"
        yield Finding("info", "packages", message, "none needed: tokexp works with both")


def _release(package: str) -> tuple[int, ...] | None:
    try:
        return tuple(int(number) for number in re.findall(r"\d+", version(package))[:2])
    except PackageNotFoundError:
        return None


def _tracking(workspace: Workspace) -> Iterator[Finding]:
    if read_runs(workspace)[0] and not (workspace.root / "mlflow.db").exists():
        message = "there is no MLflow database for the recorded runs"
        yield Finding("info", "tracking", message, "`tokexp sync` makes one, unless you use a server")
