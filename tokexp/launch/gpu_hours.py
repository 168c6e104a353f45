"""A sweep's GPU hours, shared out to attempts before they begin, so that all together never use more.

An attempt that works holds its whole allowance (`tokexp.launch.allowance`); once it has ended, what it used counts and
the rest is free again. What is free is divided among as many attempts as may work at once. One that uses up its share
stops with its work saved, and goes on with another share if there is one.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from tokexp.launch.allowance import margin, raise_to, raised, seconds_used
from tokexp.launch.attempts import about_to_begin, attempts_of
from tokexp.launch.base import JOB_FILE
from tokexp.launch.work import Work
from tokexp.ledger.claims import holder
from tokexp.ledger.workspace import Workspace

LOOK_SECONDS = 5.0
"""Time between two looks at whether attempts at work need a larger share."""

_LEAST_SECONDS = (1.0, 30.0)
_LEAST_SHARE = 0.01
_RESERVE_SECONDS = 10.0
_RESERVE_SHARE = 0.025


class GpuHours:
    """The account of one sweep. Stages without GPUs pass freely.

    Attempts made after `since` (unix seconds) at any of the sweep's stages count, whoever began them.
    """

    def __init__(
        self, hours: float, at_once: int, workspace: Workspace, since: float, stages: Mapping[str, object]
    ) -> None:
        """Take the budget in GPU hours, how many trials may work at once, and all stages of the sweep by key.

        `stages` may grow; those that no controller works on any more are counted once.
        """
        seconds = hours * 3600
        # Never shared out: a machine may be too busy for an attempt to end in the moment in which it should.
        self._budget, self._at_once = seconds - min(_RESERVE_SECONDS, _RESERVE_SHARE * seconds), at_once
        self._least = min(_LEAST_SECONDS[1], max(_LEAST_SECONDS[0], _LEAST_SHARE * seconds))
        self._workspace, self._since, self._stages = workspace, since, stages
        self._settled: dict[str, float] = {}
        self._elsewhere = 0.0
        self._ended: dict[Path, float] = {}
        self._counted: tuple[object, float] = (None, 0.0)
        self._free, self._looked = self._budget, 0.0

    def admit(self, ready: Sequence[Work], works: Iterable[Work]) -> list[Work]:
        """Return those of the stages that may begin now, each with its allowance in seconds."""
        wanted = [work for work in ready if _gpus(work)]
        if not wanted:
            return list(ready)
        works = list(works)
        free, active = self._left(works), sum(work.handle is not None for work in works if _gpus(work))
        slots = max(self._at_once - active, len(wanted))
        granted = []
        for work in wanted:
            share = min(free, max(free / slots, self._least * _gpus(work)))
            if share < self._least * _gpus(work):
                break
            work.allowance = share / _gpus(work)
            granted.append(work)
            free, slots = free - share, slots - 1
        self._counted = (None, 0.0)
        return [work for work in ready if not _gpus(work) or work in granted]

    def look(self, works: Iterable[Work]) -> None:
        """Raise the allowance of attempts that have nearly used up theirs, from what is free."""
        now = time.monotonic()
        if now - self._looked < LOOK_SECONDS:
            return
        self._looked = now
        works = list(works)
        free, active = self._left(works), [work for work in works if _gpus(work) and work.handle is not None]
        for work in active:
            assert work.handle is not None
            folder = work.handle.folder
            allowed, share = _allowed(folder), free / (2 * max(self._at_once, len(active)))
            near = allowed - seconds_used(folder) < margin(allowed) + 2 * LOOK_SECONDS
            if allowed and near and share >= self._least * _gpus(work):
                raise_to(folder, allowed + share / _gpus(work))
                free -= share
                self._counted = (None, 0.0)

    def over(self, works: Iterable[Work]) -> bool:
        """Say whether so little is left that nothing with a GPU begins any more, and none is at work."""
        works = list(works)
        with_gpus = [work for work in works if _gpus(work)]
        if any(work.handle is not None for work in with_gpus):
            return False
        left = self._left(works)
        # What others hold may come back.
        return not self._elsewhere and left < self._least * min(map(_gpus, with_gpus), default=1)

    def _left(self, works: Sequence[Work]) -> float:
        """Return the GPU seconds that nobody has used or holds. Looked up again when an attempt began or ended."""
        state = tuple((work.node.key, work.handle and work.handle.attempt) for work in works if _gpus(work))
        now = time.monotonic()
        if self._counted[0] != state or now - self._counted[1] > LOOK_SECONDS:
            self._counted = (state, now)
            self._elsewhere = 0.0
            at_work = {work.node.key: work for work in works}
            self._free = self._budget - sum(self._taken(key, at_work.get(key)) for key in self._stages)
        return self._free

    def _taken(self, key: str, work: Work | None) -> float:
        if work is None and key in self._settled:
            return self._settled[key]
        folders, total = attempts_of(self._workspace, key), 0.0
        # In this order: an attempt has its claim before it says its first word.
        starting = {folder for folder in folders if folder not in self._ended and about_to_begin(folder)}
        alive = self._alive(key, work)
        for folder in folders:
            if folder in alive or folder in starting:
                # Whoever began it may be gone: it works on until its own seconds are used.
                held = max(self._spent(folder), _allowed(folder) * _gpus_of(folder))
                self._elsewhere += held if work is None or work.handle is None else 0.0
                total += held
                continue
            if folder not in self._ended:
                self._ended[folder] = self._spent(folder) if self._counts(folder) else 0.0
            total += self._ended[folder]
        if work is None and not alive and not self._elsewhere:
            self._settled[key] = total
        return total

    def _alive(self, key: str, work: Work | None) -> set[Path]:
        """Return the folders of the attempts that work on a stage now or are queued for it, by whomever begun.

        There are two where ours was started while that of a dead controller took the claim.
        """
        held = holder(self._workspace, key)
        found = {self._workspace.attempt(held.attempt)} if held is not None and held.alive else set()
        return found if work is None or work.handle is None else found | {work.handle.folder}

    def _counts(self, folder: Path) -> bool:
        try:
            return (folder / JOB_FILE).stat().st_mtime >= self._since
        except OSError:
            return False

    def _spent(self, folder: Path) -> float:
        gpus = _gpus_of(folder)
        return gpus * seconds_used(folder) if gpus else 0.0


def _gpus(work: Work) -> int:
    return work.node.resources.gpus * work.node.resources.nodes


def _gpus_of(folder: Path) -> int:
    return int((_job(folder) or {}).get("gpus", 0))


def _allowed(folder: Path) -> float:
    """Return an attempt's allowance in seconds; 0 if it has none."""
    job = _job(folder) or {}
    return max(float(job.get("allowance") or 0.0), raised(folder))


def _job(folder: Path) -> dict[str, int | float] | None:
    try:
        found: dict[str, int | float] = json.loads((folder / JOB_FILE).read_bytes())
        return found
    except (OSError, ValueError):
        return None
