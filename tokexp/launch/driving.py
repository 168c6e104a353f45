"""The ways in to a sweep: start it, go on with it, advance it by one look, or drive it from a job of its own."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import chdir, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tokexp.errors import InputError
from tokexp.launch.base import STOP_FILE, Launcher
from tokexp.launch.display import Quiet, SweepDisplay
from tokexp.launch.sweeping import Driver, SweepOutcome
from tokexp.launch.trials import SearchedSource, Source, StaticSource
from tokexp.ledger.events import read_events
from tokexp.ledger.locks import if_free
from tokexp.ledger.sweeps import SweepRecord, TrialLog, TrialRecord, read_trials, save_sweep, sweep_folder
from tokexp.ledger.workspace import Workspace
from tokexp.plan.sweep import SweepPlan, build_sweep_plan
from tokexp.spec.cluster import ClusterSpec
from tokexp.spec.sweep_reading import ReadSweep, thaw

WAIT_SECONDS = 0.5


@dataclass(frozen=True)
class Asking:
    """That a person asks for a sweep, and what they could know of it then: others may drive it for hours meanwhile.

    at: unix seconds. seen: events in its log. cancelled: the change time of its stop file in ns, 0 if there was none.
    """

    at: float
    seen: int
    cancelled: int

    @classmethod
    def now(cls, folder: Path) -> Asking:
        """Return what can be known of the sweep in `folder` now; it need not be there yet."""
        return cls(time.time(), len(read_events(folder / "trials.jsonl")[0]), _changed(folder / STOP_FILE))

    def note(self, folder: Path) -> None:
        """Write it into the sweep's log; for the holder of its lock. A cancellation since then stays in force."""
        if _changed(folder / STOP_FILE) == self.cancelled:
            (folder / STOP_FILE).unlink(missing_ok=True)
        log = TrialLog(folder)
        log.asked(self.at, self.seen)
        log.close()


def _changed(file: Path) -> int:
    try:
        return file.stat().st_mtime_ns
    except OSError:
        return 0


def start(
    read: ReadSweep, record: SweepRecord, workspace: Workspace, launcher: Launcher,
    display: SweepDisplay | None = None, *, stay: bool = True, plan: SweepPlan | None = None,
) -> SweepOutcome:  # fmt: skip
    """Start a sweep as a person asks for it, or go on with it: what failed or was stopped is tried anew.

    plan: of its static points, if that was made already.

    Without `stay`, one look is taken and what can be submitted is; for launchers whose scheduler works on alone. If
    another process drives the sweep, this one waits for it to end (with `stay`), else says so by an InputError.
    """
    display = display or Quiet()
    folder = sweep_folder(workspace, record.ref)
    asking = Asking.now(folder)
    with _alone(folder, display, wait=stay):
        save_sweep(workspace, record)
        asking.note(folder)
        source = _source(read, folder, read_trials(folder).trials, plan)
        return _drive(read, record.ref, workspace, launcher, display, source, stay=stay)


def go_on(
    workspace: Workspace, ref: str, launcher: Launcher, display: SweepDisplay | None = None, *, stay: bool = False,
    asking: Asking | None = None,
) -> SweepOutcome:  # fmt: skip
    """Advance a saved sweep from its own files: one look, or until it is complete (`stay`).

    Budgets of restarts go on where they were, unless a person asks for it. Raises InputError if another process drives
    it.
    """
    display, folder = display or Quiet(), sweep_folder(workspace, ref)
    with _alone(folder, display, wait=stay), _seen_from(workspace, ref) as record:
        if asking is not None:
            asking.note(folder)
        read = thaw(record.frozen)
        source = _source(read, folder, read_trials(folder).trials)
        return _drive(read, ref, workspace, launcher, display, source, stay=stay)


def cluster_of(record: SweepRecord) -> ClusterSpec:
    """Return the cluster profile that a sweep was started with. Raises InputError if it runs on this machine."""
    if record.cluster is None:
        raise InputError(
            f"{record.ref} does not run on a cluster; `tokexp sweep {record.spec_file or 'SPEC'}` goes on with it"
        )
    return ClusterSpec.model_validate(record.cluster)


def _drive(
    read: ReadSweep, ref: str, workspace: Workspace, launcher: Launcher, display: SweepDisplay, source: Source, *,
    stay: bool,
) -> SweepOutcome:  # fmt: skip
    driver = Driver(read.sweep, ref, workspace, source, launcher, display)
    try:
        with driver.controller.signals():
            driver.begin()
            while not driver.over():
                if not driver.round() and not driver.over():
                    if not stay:
                        break
                    driver.controller.pause()
    finally:
        outcome = driver.close()
    return outcome


def _source(read: ReadSweep, folder: Path, trials: Sequence[TrialRecord], plan: SweepPlan | None = None) -> Source:
    if read.sweep.searched:
        return SearchedSource(read, folder, trials)
    return StaticSource(plan or build_sweep_plan(read))


@contextmanager
def _seen_from(workspace: Workspace, ref: str) -> Iterator[SweepRecord]:
    """Work in the folder that the sweep was started in, from where its relative paths are seen."""
    record = read_trials(sweep_folder(workspace, ref)).record
    with chdir(record.cwd if Path(record.cwd or ".").is_dir() else "."):
        yield record


@contextmanager
def _alone(folder: Path, display: SweepDisplay, *, wait: bool) -> Iterator[None]:
    """Hold the sweep's lock while the block runs."""
    said = False
    while True:
        with if_free(folder / "controller.lock") as held:
            if held:
                yield
                return
        if not wait:
            raise InputError(
                f"another process drives {folder.name} now; `tokexp status {folder.name}` shows how it goes"
            )
        if not said:
            said = True
            display.say(f"another process drives {folder.name}; this one waits for it and goes on if it ends")
        time.sleep(WAIT_SECONDS)
