"""Bring MLflow up to date with the files of a workspace, each thing exactly once: one run or sweep, or all of them."""

from tokexp.errors import InputError, TokexpError
from tokexp.ledger.runs import RunRecord, list_runs, load_run
from tokexp.ledger.sweeps import SweepRecord, find_sweep, is_sweep_ref, list_sweeps, read_trials, sweep_folder
from tokexp.ledger.workspace import Workspace
from tokexp.tracking.base import RunDeletedError, SyncReport, UnreachableError
from tokexp.tracking.projection import AttemptIndex
from tokexp.tracking.runs import RunSync, shown
from tokexp.tracking.stores import track_of, tracking_uri
from tokexp.tracking.sweeps import SweepSync

__all__ = ["SyncReport", "Syncer", "find_record", "shown", "sync"]


def sync(workspace: Workspace, ref: str | None = None, *, live: bool = False) -> SyncReport:
    """Show a run or a sweep, or all, in its tracking store. A store that does not answer is reported, never raised.

    live: a controller works on it: what is not finished counts as running. Raises InputError for an unknown ref.
    """
    return Syncer(workspace).update(ref, live=live)


def find_record(workspace: Workspace, ref: str) -> RunRecord | SweepRecord:
    """Return the sweep or the run that `ref` means. Raises InputError if there is none, or several fit."""
    if is_sweep_ref(workspace, ref):
        return read_trials(sweep_folder(workspace, find_sweep(workspace, ref))).record
    try:
        return load_run(workspace, ref)
    except InputError:
        if not list_runs(workspace) and list_sweeps(workspace):
            find_sweep(workspace, ref)
        raise


class Syncer:
    """Shows the runs and sweeps of a workspace again and again; stores stay open in between."""

    def __init__(self, workspace: Workspace) -> None:
        """Nothing is opened yet."""
        self.workspace = workspace
        self._index = AttemptIndex(workspace)
        self._open: dict[tuple[str, str], RunSync | SweepSync] = {}

    def update(self, ref: str | None = None, *, live: bool = False) -> SyncReport:
        """See `sync`."""
        report, down = SyncReport(), set[str]()
        for record in self._records(ref):
            uri = tracking_uri(self.workspace, record)
            if not track_of(record).get("enabled", True) or uri in down:
                continue
            try:
                self._sync_of(record, uri).update(report, live=live)
            except UnreachableError as error:
                down.add(uri)
                report.unreachable.append(str(error))
            except (RunDeletedError, TokexpError, OSError) as error:
                report.problems.append(f"{record.ref}: {error}")
        return report

    def page(self, uri: str) -> str:
        """Return where a store's dashboard shows the newest sweep, behind its address; empty if it has shown none."""
        found = (self._open.get((record.ref, uri)) for record in list_sweeps(self.workspace))
        return next((page for each in found if isinstance(each, SweepSync) and (page := each.page())), "")

    def _records(self, ref: str | None) -> list[RunRecord | SweepRecord]:
        """Return what to show, oldest first."""
        if ref is not None:
            return [find_record(self.workspace, ref)]
        found: list[RunRecord | SweepRecord] = [*list_runs(self.workspace), *list_sweeps(self.workspace)]
        return sorted(found, key=lambda record: record.created)

    def _sync_of(self, record: RunRecord | SweepRecord, uri: str) -> RunSync | SweepSync:
        if (record.ref, uri) not in self._open:
            kind = SweepSync if isinstance(record, SweepRecord) else RunSync
            self._open[record.ref, uri] = kind(self.workspace, record, uri, self._index)  # type: ignore[arg-type]
        return self._open[record.ref, uri]
