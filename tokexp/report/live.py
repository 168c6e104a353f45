"""A run as it goes: a tree of stages with progress, rate, loss and time left; plain lines without a terminal."""

import sys
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from tokexp.launch.display import Display, NodeState
from tokexp.ledger.events import Event
from tokexp.plan.graph import Plan, StageNode
from tokexp.report.quantities import span

_STYLES: dict[NodeState, str] = {
    "to do": "dim", "queued": "dim", "running": "cyan", "elsewhere": "blue", "done": "green", "failed": "bold red",
    "blocked": "yellow", "stopped": "yellow",
}  # fmt: skip
_MOST_LINES = 30


@dataclass
class StageLine:
    """What is known of one stage, for one line of a display."""

    node: StageNode
    state: NodeState = "to do"
    note: str = ""
    progress: Event = field(default_factory=dict)
    values: dict[str, float] = field(default_factory=dict)
    since: float = 0.0
    seconds: float | None = None

    def enter(self, state: NodeState, note: str) -> None:
        """Take a new state; what an earlier attempt told is over when another is queued."""
        self.state, self.note = state, note
        if state == "queued":
            self.progress, self.values = {}, {}

    def details(self) -> str:
        """Return what is known of the work that goes on, in words."""
        if self.state not in ("running", "elsewhere"):
            return span(self.seconds) if self.state == "done" and self.seconds is not None else self.note
        parts = []
        done, total, rate = (self.progress.get(name) for name in ("done", "total", "rate"))
        if done is not None and total:
            parts.append(f"{100 * done / total:.0f} %  {done:,} of {total:,} {self.progress.get('unit', '')}")
            if rate:
                parts.append(f"{rate:,.0f}/s" if rate >= 10 else f"{rate:.2g}/s")
                parts.append(f"{span((total - done) / rate)} left")
        if "loss" in self.values:
            parts.append(f"loss {self.values['loss']:.4g}")
        return "   ".join(parts) or self.note

    def take(self, event: Event) -> None:
        """Remember what an event says."""
        kind = event["e"]
        if kind == "started":
            self.since, self.progress, self.values = float(event["t"]), {}, {}
        elif kind == "progress":
            self.progress = event
        elif kind == "metrics":
            self.values.update(event.get("values", {}))
        elif kind == "done":
            self.seconds = event.get("seconds")


class LivePicture(ABC):
    """A picture of stages that is drawn anew four times a second while work goes on; remarks scroll by above it."""

    def __init__(self, console: Console) -> None:
        """Take the terminal to draw on."""
        self._console = console
        self._lines: dict[str, StageLine] = {}
        self._live: Live | None = None

    def say(self, message: str) -> None:
        """Print a remark above the picture."""
        self._console.print(escape(message), highlight=False)

    def close(self) -> None:
        """Stop drawing."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _start(self) -> None:
        self._live = Live(get_renderable=self._draw, console=self._console, refresh_per_second=4, transient=True)
        self._live.start()

    @abstractmethod
    def _draw(self) -> Group:
        """Return the picture as it is now."""


class LiveTree(LivePicture):
    """The stages of a run as a tree."""

    _name = ""

    def begin(self, plan: Plan) -> None:
        """Start drawing."""
        self._name = plan.name
        self._lines = {node.key: StageLine(node) for node in plan.nodes}
        self._start()

    def state(self, node: StageNode, state: NodeState, note: str = "") -> None:
        """Show a stage's new state."""
        self._lines[node.key].enter(state, note)

    def event(self, node: StageNode, event: Event) -> None:
        """Show what an attempt tells."""
        self._lines[node.key].take(event)

    def _draw(self) -> Group:
        states = [line.state for line in self._lines.values()]
        head = Text(f"{self._name}   {states.count('done')} of {len(states)} stages done", style="bold")
        table = Table.grid(padding=(0, 2))
        for line in self._shown():
            text = Text(f"  {line.state}", style=_STYLES[line.state])
            seed = "" if line.node.seed is None else f"seed {line.node.seed}"
            table.add_row(f"  {line.node.name}", Text(line.node.key[:6], style="dim"), seed, text, line.details())
        hidden = len(states) - table.row_count
        return Group(head, table, Text(f"  and {hidden} more" if hidden else "", style="dim"))

    def _shown(self) -> list[StageLine]:
        lines = list(self._lines.values())
        if len(lines) <= _MOST_LINES:
            return lines
        order: dict[Any, int] = {"running": 0, "elsewhere": 1, "failed": 2, "queued": 3, "to do": 4}
        return sorted(lines, key=lambda line: order.get(line.state, 5))[:_MOST_LINES]


class PlainLines:
    """One line for every change, with the time of day; progress at most every ten seconds per stage."""

    def __init__(self, console: Console) -> None:
        """Take where lines go."""
        self._console = console
        self._lines: dict[str, StageLine] = {}
        self._said: dict[str, float] = {}

    def begin(self, plan: Plan) -> None:
        """Say what is to be done."""
        self._lines = {node.key: StageLine(node) for node in plan.nodes}
        self.say(f"{plan.name}: {len(plan.nodes)} stages")

    def state(self, node: StageNode, state: NodeState, note: str = "") -> None:
        """Say a stage's new state."""
        line = self._lines[node.key]
        line.enter(state, note)
        if state not in ("to do", "queued"):
            details = line.details()
            self.say(f"{node.name} {node.key[:6]}: {state}" + (f" ({details})" if details else ""))

    def event(self, node: StageNode, event: Event) -> None:
        """Say how far a stage is, now and then."""
        line = self._lines[node.key]
        line.take(event)
        now = time.monotonic()
        if event["e"] == "progress" and now - self._said.setdefault(node.key, now) >= 10:
            self._said[node.key] = now
            self.say(f"{node.name} {node.key[:6]}: {line.details()}")

    def say(self, message: str) -> None:
        """Print a line."""
        self._console.print(f"{time.strftime('%H:%M:%S')} {message}", markup=False, highlight=False, soft_wrap=True)

    def close(self) -> None:
        """Nothing is open."""


def live_display(console: Console | None = None) -> Display:
    """Return what suits stderr (or the given console): a tree on a terminal, else plain lines."""
    console = console or Console(file=sys.stderr)
    return LiveTree(console) if console.is_terminal and not console.is_dumb_terminal else PlainLines(console)
