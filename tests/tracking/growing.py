"""A sweep that grows as a controller and its workers write it: tokens that all trials share, fine-tuning, one test."""

from typing import Any

from tests.recorded import log_steps, start_attempt
from tokexp.ledger.events import EventLog
from tokexp.ledger.outputs import is_done, publish, stage_output, write_result
from tokexp.ledger.runs import RunNode
from tokexp.ledger.sweeps import (
    COMPLETE_FILE,
    SweepRecord,
    TrialLog,
    TrialRecord,
    TrialState,
    save_sweep,
    sweep_folder,
)
from tokexp.ledger.workspace import Workspace

TOP1 = {"name": "finetune/top1", "direction": "maximize"}
BYTES = {"name": "storage/bytes_per_image", "direction": "minimize"}


def sweep_of(workspace: Workspace, **fields: Any) -> "GrowingSweep":
    """Return a new sweep of the name `growth`; further arguments go to its record."""
    given = {"spec_text": "# a sweep\n", "metrics": (TOP1,), "seeds": (0,), "parameters": ("lr",), **fields}
    record = SweepRecord(
        ref="growth-12345678", name="growth", spec_hash="12345678" * 5, created=1_700_000_000.0, **given
    )
    return GrowingSweep(workspace, record)


class GrowingSweep:
    """Writes what a controller and its workers would."""

    def __init__(self, workspace: Workspace, record: SweepRecord) -> None:
        self.workspace, self.record = workspace, record
        self.folder = save_sweep(workspace, record)
        self.trials: dict[str, TrialRecord] = {}
        self.nodes: dict[str, RunNode] = {}
        self.attempts = 0
        self._log = TrialLog(self.folder)
        self._log.asked()

    def trial(self, case: str, seed: int = 0, number: int | None = None, **values: Any) -> TrialRecord:
        """Note a trial."""
        number = len(self.trials) if number is None else number
        nodes = [
            _node("tokens", "tokens", "shared"), _node("downstream", "finetune", f"{number}-{seed}", seed),
            _node("evaluate", "finetune/clean", f"{number}-{seed}", seed, evaluation={"kind": "clean"}),
        ]  # fmt: skip
        keys = {node.name: node.key for node in nodes}
        trial = TrialRecord(f"{number:010x}-s{seed}", number, case, values or {"lr": 0.1}, seed, f"{number:040x}", keys)
        self._log.trial(trial, [node for node in nodes if node.key not in self.nodes])
        self.trials[trial.id] = trial
        self.nodes |= {node.key: node for node in nodes}
        return trial

    def start(self, trial: TrialRecord, stage: str = "finetune") -> EventLog:
        """Start an attempt at a stage of a trial; stages that come before it are finished."""
        tokens = self.nodes[trial.keys["tokens"]]
        if stage != "tokens" and not is_done(self.workspace.output(tokens.kind, tokens.key)):
            self._publish(tokens, self._attempt(tokens), {"bytes_per_image": 9.8})
        return self._attempt(self.nodes[trial.keys[stage]])

    def finish(self, trial: TrialRecord, top1: float, steps: int = 5, log: EventLog | None = None) -> None:
        """Finish all stages of a trial, going on with an attempt if it is given, and note that it is done."""
        begun = log is not None
        log = log or self.start(trial)
        if not begun:
            log_steps(log, 1, steps)
        self._publish(self.nodes[trial.keys["finetune"]], log, {"loss": 0.3, "top1": 0.1})
        test = self.nodes[trial.keys["finetune/clean"]]
        self._publish(test, self._attempt(test), {"top1": top1})
        self.end(trial, "done")

    def end(self, trial: TrialRecord, state: TrialState, note: str = "") -> None:
        """Note how a trial ended."""
        self._log.ended(trial.id, state, note)

    def ask_again(self) -> None:
        """Note that a person started the sweep once more."""
        self._log.asked()

    def complete(self) -> None:
        """Say that nothing is left to do, as a controller does that ends."""
        (sweep_folder(self.workspace, self.record.ref) / COMPLETE_FILE).touch()

    def _attempt(self, node: RunNode) -> EventLog:
        self.attempts += 1
        return start_attempt(self.workspace, node, f"20260101-000000-{self.attempts:04d}")

    def _publish(self, node: RunNode, log: EventLog, metrics: dict[str, float]) -> None:
        with stage_output(self.workspace, node.kind, node.key, log.path.parent.name) as folder:
            write_result(folder, metrics, {})
            publish(folder, self.workspace.output(node.kind, node.key), {"kind": node.kind, "key": node.key})
        log.append("done", metrics=metrics, facts={}, seconds=1.0)
        log.close()


def _node(kind: str, name: str, identity: str, seed: int | None = None, **payload: Any) -> RunNode:
    key = f"{kind} {identity}".encode().hex().ljust(40, "0")[:40]
    return RunNode(key=key, kind=kind, name=name, seed=seed, label=name, payload={"kind": kind, **payload})
