"""The folder that holds everything that runs leave behind: outputs, work in progress, attempts, runs, the ledger.

    workspace.json            version of this layout
    store/<kind>/<kk>/<key>/  finished outputs (kk: the key's first two digits)
    work/<key>/               checkpoints and the claim of a stage that is not finished
    attempts/<attempt>/       job.json, events.jsonl, logs
    runs/<ref>.json           what was asked for
    sweeps/<ref>/             a sweep: its record, its trials, its search
    ledger.sqlite             summary of all events; can be rebuilt
    unreadable/<data>.json    which images of a data set cannot be read, as found for `corrupt: skip`
    tmp/  damaged/            outputs being written; outputs that did not match their digests

A `Workspace` only knows the paths: nothing is made before something is written.
"""

import json
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tokexp.durable import write_atomic
from tokexp.errors import InputError

LAYOUT = 1
"""Version of the layout; a workspace of a newer one is refused."""

VARIABLE = "TOKEXP_WORKSPACE"
"""Environment variable that names the workspace."""

_KEY = re.compile(r'"key":"([0-9a-f]{40})"')
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


@dataclass(frozen=True)
class Workspace:
    """The paths of one workspace."""

    root: Path

    @property
    def store(self) -> Path:
        """Finished outputs."""
        return self.root / "store"

    @property
    def attempts(self) -> Path:
        """One folder per attempt."""
        return self.root / "attempts"

    @property
    def runs(self) -> Path:
        """One record per run."""
        return self.root / "runs"

    @property
    def sweeps(self) -> Path:
        """One folder per sweep."""
        return self.root / "sweeps"

    @property
    def tmp(self) -> Path:
        """Outputs being written."""
        return self.root / "tmp"

    @property
    def damaged(self) -> Path:
        """Outputs that were set aside."""
        return self.root / "damaged"

    @property
    def ledger_file(self) -> Path:
        """The ledger's SQLite file."""
        return self.root / "ledger.sqlite"

    def output(self, kind: str, key: str) -> Path:
        """Return the folder of a stage's finished output."""
        return self.store / _checked(kind) / _checked(key)[:2] / key

    def work(self, key: str) -> Path:
        """Return the folder that all attempts at a stage share."""
        return self.root / "work" / _checked(key)

    def attempt(self, attempt: str) -> Path:
        """Return the folder of an attempt."""
        return self.attempts / _checked(attempt)

    def find_output(self, key: str) -> Path | None:
        """Return the output folder of a key of any kind, finished or not, or None."""
        return next(iter(sorted(self.store.glob(f"*/{_checked(key)[:2]}/{key}"))), None)

    def outputs(self) -> Iterator[tuple[str, str, Path]]:
        """Yield kind, key and folder of every output folder, finished or not."""
        for folder in sorted(self.store.glob("*/*/*")):
            if folder.is_dir() and folder.parent.name == folder.name[:2]:
                yield folder.parts[-3], folder.name, folder

    def attempt_ids(self) -> list[str]:
        """Return the attempts that have a folder, oldest name first."""
        return _folders(self.attempts)

    def work_keys(self) -> list[str]:
        """Return the keys that have a work folder."""
        return _folders(self.root / "work")

    def find_key(self, prefix: str) -> str:
        """Return the one stage key that starts with `prefix`. Raises InputError if there is none, or more than one."""
        known = {key for _, key, _ in self.outputs()} | set(self.work_keys()) | self._run_keys()
        found = sorted(key for key in known if key.startswith(prefix)) if prefix else []
        if not found:
            raise InputError(f"no stage key starts with {prefix!r} in {self.root}; `tokexp status` lists the stages")
        if len(found) > 1 and prefix not in found:
            some = ", ".join(key[:12] for key in found[:5])
            raise InputError(f"{len(found)} stage keys start with {prefix!r} ({some}, ...); give more digits")
        return prefix if prefix in found else found[0]

    def _run_keys(self) -> set[str]:
        keys: set[str] = set()
        for path in self.runs.glob("*.json"):
            try:
                keys |= {node["key"] for node in json.loads(path.read_text())["nodes"]}
            except (OSError, ValueError, KeyError, TypeError):
                continue
        for path in self.sweeps.glob("*/trials.jsonl"):
            keys |= set(_KEY.findall(path.read_text(errors="replace")))
        return keys

    def check(self) -> None:
        """Raise InputError if this cannot be a workspace that this version reads; a missing folder is fine."""
        try:
            if self.root.exists() and not self.root.is_dir():
                raise InputError(f"the workspace {self.root} is a file; name a folder")
            text = (self.root / "workspace.json").read_text()
        except (FileNotFoundError, NotADirectoryError):
            return
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is not text"
            raise InputError(
                f"cannot read the workspace {self.root}: {why}; name another folder by --workspace"
            ) from error
        version = _layout_of(text)
        if version is None:
            raise InputError(f"{self.root / 'workspace.json'} is damaged; delete this file, nothing else is in it")
        if version > LAYOUT:
            raise InputError(
                f"the workspace {self.root} has layout {version}, this tokexp reads up to {LAYOUT}; "
                "upgrade tokexp or name another folder by --workspace"
            )

    def create(self) -> "Workspace":
        """Make the folder and its `workspace.json` if they are not there, and return self.

        Raises InputError if it cannot be written to or belongs to a newer version. Any number of processes may do
        this at once.
        """
        self.check()
        marker = self.root / "workspace.json"
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            if not marker.exists():
                write_atomic(marker, json.dumps({"layout": LAYOUT, "created": time.time()}).encode())
        except OSError as error:
            raise InputError(
                f"cannot write the workspace {self.root}: {error.strerror}; name another folder by --workspace"
            ) from error
        if not os.access(self.root, os.W_OK | os.X_OK):
            raise InputError(f"the workspace {self.root} is not writable; name another folder by --workspace")
        return self


def resolve_workspace(option: str | Path | None = None) -> Workspace:
    """Return the workspace that was asked for: the option, else TOKEXP_WORKSPACE, else the folder `workspace` here.

    Raises InputError if that is a file or of a newer layout.
    """
    chosen = option or os.environ.get(VARIABLE) or "workspace"
    workspace = Workspace(Path(chosen).expanduser().absolute())
    workspace.check()
    return workspace


def _layout_of(text: str) -> int | None:
    try:
        version = json.loads(text)["layout"]
    except (ValueError, KeyError, TypeError):
        return None
    return version if isinstance(version, int) else None


def _folders(parent: Path) -> list[str]:
    try:
        return sorted(entry.name for entry in os.scandir(parent) if entry.is_dir() and _NAME.fullmatch(entry.name))
    except (FileNotFoundError, NotADirectoryError):
        return []


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise InputError(f"{name!r} cannot name a folder of the workspace: letters, digits, '-' and '_' only")
    return name
