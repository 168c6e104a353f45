"""Runs that need no terminal: the controller as a process of its own, started from the run's record alone."""

import subprocess
import sys
import time
from dataclasses import astuple
from pathlib import Path

from tokexp.errors import TokexpError
from tokexp.launch.display import NodeState, Quiet
from tokexp.launch.driving import Asking, go_on
from tokexp.launch.request import plan_of
from tokexp.ledger.runs import load_run
from tokexp.ledger.sweeps import TrialRecord, TrialState, is_sweep_ref, read_trials, sweep_folder
from tokexp.ledger.workspace import Workspace
from tokexp.plan.graph import StageNode


class LogDisplay(Quiet):
    """Writes states and remarks as lines to stdout, which is the controller's log."""

    def state(self, node: StageNode, state: NodeState, note: str = "") -> None:
        """Write the new state."""
        self.say(f"{node.name} {node.key[:6]}: {state}" + (f" ({note})" if note else ""))

    def trial(self, trial: TrialRecord, state: TrialState, note: str = "") -> None:
        """Write the new state of a trial."""
        if state != "planned":
            self.say(f"{trial.case}, seed {trial.seed} ({trial.id}): {state}" + (f" ({note})" if note else ""))

    def say(self, message: str) -> None:
        """Write the remark."""
        sys.stdout.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {message}\n")
        sys.stdout.flush()


def start_detached(
    workspace: Workspace, ref: str, launcher: str, jobs: int | None, folder: Path | None = None,
    asking: Asking | None = None,
) -> Path:  # fmt: skip
    """Start a controller for a saved run or sweep in a session of its own, and return the file that it writes to.

    folder: where that file goes, if not beside the run's record. asking: of a sweep, that a person asks for it.
    """
    log = (folder or workspace.runs / ref) / "controller.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "tokexp.verbs.detached", str(workspace.root.absolute()), ref, launcher]
    command += [str(jobs or 0), *(() if asking is None else map(repr, astuple(asking)))]
    with log.open("ab") as file:
        subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True)
    return log


def _drive(
    workspace: Workspace, ref: str, kind: str, jobs: int | None, display: LogDisplay, asking: Asking | None
) -> int:
    from tokexp.verbs.running import open_launcher
    from tokexp.verbs.sweeping import tracked

    record = read_trials(sweep_folder(workspace, ref)).record
    with tracked(workspace, record), open_launcher(kind, jobs, display) as launcher:
        outcome = go_on(workspace, ref, launcher, display, stay=True, asking=asking)
    display.say(f"ended: {outcome.note or 'not complete'}, exit code {outcome.exit_code}")
    return outcome.exit_code


def main(arguments: list[str]) -> int:
    """Carry out a saved run or sweep: WORKSPACE REF LAUNCHER JOBS (0: as many as fit) [fields of an Asking]."""
    from tokexp.verbs.running import carry_out, open_launcher

    root, ref, kind, jobs, *asked = arguments
    workspace, display = Workspace(Path(root)), LogDisplay()
    try:
        if is_sweep_ref(workspace, ref):
            asking = Asking(float(asked[0]), int(asked[1]), int(asked[2])) if asked else None
            return _drive(workspace, ref, kind, int(jobs) or None, display, asking)
        record = load_run(workspace, ref)
        experiment, planned = plan_of(record)
        with open_launcher(kind, int(jobs) or None, display) as launcher:
            outcome = carry_out(planned, experiment, record, workspace, launcher, display)
    except TokexpError as error:
        display.say(f"error: {error}")
        return error.exit_code
    for failure in outcome.failures:
        display.say(f"{failure.name} failed: {failure.message} (see {failure.log})")
    display.say("ended: " + ("all is done" if outcome.exit_code == 0 else f"exit code {outcome.exit_code}"))
    return outcome.exit_code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
