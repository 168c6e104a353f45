"""The verbs about what is kept: gc, doctor, and those of token stores."""

import sys
from collections.abc import Mapping
from json import dumps
from pathlib import Path
from typing import Any

from tokexp.errors import InputError, TokexpError
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
        _say(f"{item.what:9} {_size(item.bytes):>10}  {item.path.relative_to(found.root)}")
    for text in cleaned.kept:
        _say(f"kept: {text}")
    verb = "would be removed" if dry_run else "removed"
    _say(f"{len(items)} items, {_size(cleaned.bytes)} {verb} from {found.root}")
    return 0


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


def store_info(path: str | Path, json: bool) -> int:
    """Show what a token store holds and what each part of it costs. Returns 0."""
    store = _open_store(path)
    facts: dict[str, Any] = {
        "path": str(path),
        "images": int(store.num_images),
        "grid": [int(side) for side in store.grid],
        "codes": int(store.num_codes),
        "classes": int(store.num_classes),
        "metric": store.metric,
        "accounting": store.accounting.as_dict(),
        "facts": dict(store.facts or {}),
    }
    if json:
        _print_json(facts)
    else:
        _show_facts(facts)
    return 0


def store_export(path: str | Path, target: str | Path, json: bool) -> int:
    """Write a store's indices, labels and codes as plain arrays (.npz) to `target`. Returns 0."""
    import numpy as np

    store, written = _open_store(path), Path(target)
    if written.exists():
        raise InputError(f"{written} exists already; name a new file")
    if written.suffix != ".npz":
        raise InputError(f"{written} must end in .npz, the format that is written")
    indices = store.indices()
    try:
        with written.open("xb") as file:
            np.savez_compressed(file, indices=indices, labels=store.labels, codes=store.codes)
    except OSError as error:
        written.unlink(missing_ok=True)
        raise InputError(f"cannot write {written}: {error.strerror or error}") from error
    size = written.stat().st_size
    if json:
        _print_json({"path": str(path), "target": str(written), "images": int(indices.shape[0]), "bytes": size})
    else:
        _say(f"{indices.shape[0]} images written to {written} ({_size(size)})")
    return 0


def store_verify(path: str | Path, json: bool) -> int:
    """Read every byte of a store and check it. Returns 0 if it is sound, else 1."""
    problem = ""
    try:
        _open_store(path).verify()
    except InputError:
        raise
    except TokexpError as error:
        problem = str(error)
    if json:
        _print_json({"path": str(path), "sound": not problem, "problem": problem or None})
    else:
        _say(problem or f"{path}: sound")
    return int(bool(problem))


def _open_store(path: str | Path) -> Any:
    from tokexp.storage.store import TokenStore

    if not Path(path).is_file():
        raise InputError(f"there is no token store {path}; name a .tokens file")
    return TokenStore.open(Path(path))


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


def _show_facts(facts: Mapping[str, Any], indent: str = "") -> None:
    for name, value in facts.items():
        if isinstance(value, Mapping):
            _say(f"{indent}{name}")
            _show_facts(value, indent + "  ")
        else:
            _say(f"{indent}{name:24} {f'{value:.2f}' if isinstance(value, float) else value}")


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
