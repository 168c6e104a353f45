"""The verbs about what is kept: gc and doctor."""

import sys
from collections.abc import Mapping
from json import dumps
from pathlib import Path
from typing import Any

from tokexp.errors import InputError
from tokexp.ledger.checking import doctor as examine
from tokexp.ledger.cleaning import gc as clean
from tokexp.ledger.records import rebuild as rebuild_ledger
from tokexp.ledger.workspace import resolve_workspace


def gc(workspace: str | Path | None, dry_run: bool, json: bool) -> int:
    """Remove what nothing needs any more, or say what would go. Returns 0."""
    found = resolve_workspace(workspace)
    cleaned = clean(found, dry_run=dry_run)
    items = [{"what": item.what, "path": str(item.path), "bytes": item.bytes} for item in cleaned.removed]
    if json:
        _print_json({"dry_run": dry_run, "bytes": cleaned.bytes, "removed": items, "kept": cleaned.kept})
        return 0
    for item in cleaned.removed:
        _say(f"{item.what:9} {_size(item.bytes):>10}  {_shown(item.path, found.root)}")
    for text in cleaned.kept:
        _say(f"kept: {text}")
    verb = "would be removed" if dry_run else "removed"
    _say(f"{len(items)} items, {_size(cleaned.bytes)} {verb} from {found.root}")
    return 0


def _shown(path: Path, root: Path) -> Path:
    return path.relative_to(root) if path.is_relative_to(root) else path


def doctor(workspace: str | Path | None, rebuild: bool, json: bool) -> int:
    """Check a workspace, after rebuilding its ledger if asked. Returns 1 if an error was found, else 0."""
    found = resolve_workspace(workspace)
    if rebuild and not found.root.is_dir():
        raise InputError(f"there is no workspace {found.root}, so that there is nothing to rebuild")
    events = rebuild_ledger(found) if rebuild else None
    findings = examine(found)
    failed = any(finding.severity == "error" for finding in findings)
    if json:
        rows = [vars(finding) for finding in findings]
        _print_json({"workspace": str(found.root), "sound": not failed, "rebuilt_from": events, "findings": rows})
        return int(failed)
    if events is not None:
        _say(f"the ledger was rebuilt from {events} events")
    _show_findings(findings)
    _say(f"{found.root}: {'needs attention' if failed else 'sound'}")
    return int(failed)


def _show_findings(findings: list[Any]) -> None:
    from rich.table import Table

    from tokexp.verbs.printing import console

    if not findings:
        return
    table = Table("", box=None, pad_edge=False)
    for title in ("about", "what", "what to do"):
        table.add_column(title, overflow="fold")
    colours = {"error": "red", "warning": "yellow", "info": "dim"}
    for finding in findings:
        mark = f"[{colours[finding.severity]}]{finding.severity}[/]"
        table.add_row(mark, *(text.replace("[", r"\[") for text in (finding.about, finding.message, finding.advice)))
    console().print(table)


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")


def _print_json(value: Mapping[str, Any]) -> None:
    _say(dumps(value, indent=1, sort_keys=True, default=str))
