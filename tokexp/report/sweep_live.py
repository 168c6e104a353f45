"""A sweep as it goes: trials by state and the stages at work on a terminal; one line per settled trial elsewhere."""

import sys
import time

from rich.console import Console, Group
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from tokexp.launch.display import NodeState, SweepDisplay
from tokexp.ledger.events import Event
from tokexp.ledger.sweeps import TrialRecord, TrialState
from tokexp.plan.graph import Plan, StageNode
from tokexp.report.live import LivePicture, StageLine
from tokexp.report.quantities import span

_STYLES: dict[TrialState, str] = {
    "done": "green", "running": "cyan", "planned": "dim", "pruned": "blue", "failed": "bold red", "stopped": "yellow",
}  # fmt: skip
_MOST_STAGES = 12


class _Counts:
    """The newest state of every trial, and how many there will be (None: not known)."""

    def __init__(self) -> None:
        self.name, self.begun = "", time.monotonic()
        self.states: dict[str, TrialState] = {}
        self.total: int | None = None

    def settled(self) -> int:
        """Return the number of trials that are settled."""
        return sum(state not in ("planned", "running") for state in self.states.values())

    def words(self) -> Text:
        """Return `12 of 20 trials settled: 11 done, 1 failed; 2 running`."""
        text = Text(f"{self.settled()} of {self.total or len(self.states)} trials settled", style="bold")
        for state, style in _STYLES.items():
            count = sum(other == state for other in self.states.values())
            if count:
                text.append(f"   {count} {state}", style=style)
        return text


class LiveSweep(LivePicture):
    """Trials by state, and the stages at work."""

    def __init__(self, console: Console) -> None:
        """Take the terminal to draw on."""
        super().__init__(console)
        self._counts = _Counts()

    def begin(self, plan: Plan) -> None:
        """Nothing: stages come with their trials."""

    def begin_sweep(self, name: str, total: int | None) -> None:
        """Start drawing."""
        self._counts.name, self._counts.total = name, total
        self._start()

    def trial(self, trial: TrialRecord, state: TrialState, note: str = "") -> None:
        """Count a trial's new state; a failure is also printed."""
        self._counts.states[trial.id] = state
        if state in ("failed", "stopped"):
            self.say(f"{trial.case}, seed {trial.seed}: {state} ({note})" if note else f"{trial.case}: {state}")

    def state(self, node: StageNode, state: NodeState, note: str = "") -> None:
        """Show a stage that is at work; forget one that is settled."""
        if state in ("queued", "running", "elsewhere"):
            self._lines.setdefault(node.key, StageLine(node)).enter(state, note)
        else:
            self._lines.pop(node.key, None)

    def event(self, node: StageNode, event: Event) -> None:
        """Show what an attempt tells."""
        if node.key in self._lines:
            self._lines[node.key].take(event)

    def _draw(self) -> Group:
        counts = self._counts
        head = Text.assemble((counts.name, "bold"), "   ", counts.words())
        bar = Table.grid()  # A bar alone does not end its line.
        bar.add_row(ProgressBar(total=counts.total or max(1, len(counts.states)), completed=counts.settled(), width=40))
        table = Table.grid(padding=(0, 2))
        active = [line for line in list(self._lines.values()) if line.state != "queued"]
        for line in active[:_MOST_STAGES]:
            seed = "" if line.node.seed is None else f"seed {line.node.seed}"
            table.add_row(
                f"  {line.node.name}", Text(line.node.label), seed, Text(line.node.key[:6], "dim"), Text(line.details())
            )
        queued = len(self._lines) - len(active)
        rest = [f"{len(active) - _MOST_STAGES} more at work"] if len(active) > _MOST_STAGES else []
        rest += [f"{queued} stages queued"] if queued else []
        clock = Text(f"  {span(time.monotonic() - counts.begun)}" + "".join(f"   {each}" for each in rest), style="dim")
        return Group(head, bar, table, clock)


class PlainSweep:
    """One line for every trial that is settled, with the time of day."""

    def __init__(self, console: Console) -> None:
        """Take where lines go."""
        self._console, self._counts = console, _Counts()

    def begin(self, plan: Plan) -> None:
        """Nothing: stages come with their trials."""

    def begin_sweep(self, name: str, total: int | None) -> None:
        """Say how many trials there are."""
        self._counts.total = total
        self.say(f"{name}: {'a search' if total is None else f'{total} trials'}")

    def trial(self, trial: TrialRecord, state: TrialState, note: str = "") -> None:
        """Say what became of a trial."""
        self._counts.states[trial.id] = state
        if state not in ("planned", "running"):
            words = f"{trial.case or f'trial {trial.number}'}, seed {trial.seed}: {state}" + (
                f" ({note})" if note else ""
            )
            self.say(f"{words}   {self._counts.words().plain}")

    def state(self, node: StageNode, state: NodeState, note: str = "") -> None:
        """Say that a stage failed."""
        if state == "failed":
            self.say(f"{node.name} {node.key[:6]}: failed ({note})")

    def event(self, node: StageNode, event: Event) -> None:
        """Say nothing."""

    def say(self, message: str) -> None:
        """Print a line."""
        self._console.print(f"{time.strftime('%H:%M:%S')} {message}", markup=False, highlight=False, soft_wrap=True)

    def close(self) -> None:
        """Nothing is open."""


def sweep_display(console: Console | None = None) -> SweepDisplay:
    """Return what suits stderr (or the given console): a picture on a terminal, else plain lines."""
    console = console or Console(file=sys.stderr)
    return LiveSweep(console) if console.is_terminal and not console.is_dumb_terminal else PlainSweep(console)
