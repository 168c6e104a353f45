"""Carries out the plan of one experiment, to its end or, where the launcher sends plans whole, until it is sent."""

from dataclasses import dataclass
from pathlib import Path

from tokexp.launch.base import STOP_FILE, Launcher
from tokexp.launch.controller import Controller
from tokexp.launch.display import Display, NodeState, Quiet
from tokexp.launch.request import run_record
from tokexp.launch.work import Failure
from tokexp.ledger.runs import RunRecord, save_run
from tokexp.ledger.workspace import Workspace
from tokexp.plan.graph import Plan


@dataclass(frozen=True)
class RunOutcome:
    """What became of a run. `computed` are the keys whose outputs this controller's attempts made."""

    ref: str
    states: dict[str, NodeState]
    computed: tuple[str, ...]
    failures: tuple[Failure, ...]
    interrupted: bool
    sent: bool = False

    @property
    def exit_code(self) -> int:
        """Return 0 if all is done (or sent, where nobody stays to see the end), 130 after an interrupt, else 1."""
        if self.sent and not self.failures:
            return 0
        return 130 if self.interrupted else int(any(state != "done" for state in self.states.values()))


def run_plan(
    plan: Plan, workspace: Workspace, launcher: Launcher, display: Display | None = None,
    record: RunRecord | None = None, *, stay: bool = True,
) -> RunOutcome:  # fmt: skip
    """Save the run's record, carry out the plan, and return what became of it.

    Without `stay` the plan is only sent, for a launcher that can. SIGINT and SIGTERM let attempts save and stop (in
    the main thread only; elsewhere signals are the caller's). Raises InputError if the workspace cannot be written to.
    """
    record = record or run_record(plan)
    save_run(workspace, record)
    marker = _stop_marker(workspace, record.ref)
    marker.unlink(missing_ok=True)
    display = display or Quiet()
    controller = Controller(plan.name, workspace, launcher, display, marker)
    with controller.signals():
        display.begin(plan)
        controller.add(plan.nodes)
        while not controller.over():
            if not controller.round() and not controller.over():
                if not stay:
                    break
                controller.pause()
        controller.ingest(force=True)
    states = {key: work.state for key, work in controller.works.items()}
    interrupted = controller.interrupts > 0 and any(state != "done" for state in states.values())
    failures = tuple(controller.failures.values())
    return RunOutcome(record.ref, states, tuple(controller.computed), failures, interrupted, sent=not stay)


def request_run_stop(workspace: Workspace, ref: str) -> None:
    """Ask the controllers of a run, wherever they are, to stop their attempts and end."""
    marker = _stop_marker(workspace, ref)
    marker.parent.mkdir(parents=True, exist_ok=True)
    marker.write_text("cancel")


def _stop_marker(workspace: Workspace, ref: str) -> Path:
    return workspace.runs / ref / STOP_FILE
