"""A recorded sweep without any computing: its record, trials, outputs and events, as a controller leaves them."""

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

from tokexp.ledger import events
from tokexp.ledger.events import EventLog
from tokexp.ledger.outputs import is_done, publish, stage_output, write_result
from tokexp.ledger.runs import RunNode
from tokexp.ledger.sweeps import Sweep, SweepRecord, TrialLog, TrialRecord, load_sweep, save_sweep, sweep_folder
from tokexp.ledger.workspace import Workspace
from tokexp.search.study import Search
from tokexp.spec.sweep_reading import read_sweep

TOP1 = {"name": "finetune/top1", "direction": "maximize"}
BYTES = {"name": "storage/bytes_per_image", "direction": "minimize"}
TEXT = "# A recorded sweep for tests.\n# Paper: SeiT++, table 7.\nschema: 1\nname: ablation\n"

Value = float | str | None
"""What became of a trial: its top-1, or None for a trial without that metric, or the state that it is left in."""


class Clock:
    """Time that goes on when it is told to, for costs that a test can name."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Let event logs take their times from here."""
        fake = SimpleNamespace(time=lambda: self.now, time_ns=lambda: int(self.now * 1e9))
        with mock.patch.object(events, "time", fake):
            yield


def recorded_sweep(
    workspace: Workspace, cases: Mapping[str, Mapping[int, Value]], *, sizes: Mapping[str, float] | None = None,
    values: Mapping[str, dict[str, Any]] | None = None, shared: bool = True, gpus: int = 0, **given: Any,
) -> Sweep:  # fmt: skip
    """Write a sweep and what became of each case and seed, and return it as `load_sweep` finds it.

    sizes: case to bytes per image; cases of one size share their tokens. shared: whether all cases of a seed share
    their pre-training. Every finished stage took 10 s, a pre-training 100 s. Further arguments go to the record.
    """
    seeds = tuple(dict.fromkeys(seed for found in cases.values() for seed in found)) or (0,)
    fields = {
        "metrics": (TOP1,),
        "spec_text": TEXT,
        "parameters": ("augment.task",),
        "created": 1_700_000_000.0,
    } | given
    record = SweepRecord(ref="ablation-abababab", name="ablation", spec_hash="ab" * 20, seeds=seeds, **fields)
    folder = save_sweep(workspace, record)
    clock = Clock()
    with clock.running():
        log = TrialLog(folder)
        log.asked()
        for number, (case, found) in enumerate(cases.items()):
            for seed, value in found.items():
                own = (values or {}).get(case, {"augment.task": case})
                nodes = _nodes(case, seed, (sizes or {}).get(case, 16.0), shared)
                trial = TrialRecord(
                    f"{number:010x}-s{seed}", number, "" if record.searched else case, own, seed, f"{number:040x}",
                    {node.name: node.key for node in nodes},
                )  # fmt: skip
                log.trial(trial, nodes)
                _carry_out(workspace, nodes, value, clock, gpus)
                if isinstance(value, str) and value in ("failed", "pruned", "stopped"):
                    log.ended(trial.id, value, "worse than others" if value == "pruned" else "")  # type: ignore[arg-type]
        log.close()
    return load_sweep(workspace, record.ref)


def _nodes(case: str, seed: int, size: float, shared: bool) -> list[RunNode]:
    def node(kind: str, name: str, identity: str, seed: int | None = None, **payload: Any) -> RunNode:
        key = f"{kind} {name} {identity} {seed}".encode().hex().ljust(40, "0")
        payload = {"kind": kind, **payload}
        return RunNode(key=key, kind=kind, name=name, seed=seed, label=f"{name} {identity}", payload=payload)

    return [
        node("tokens", "tokens", f"{size}", size=size),
        node("pretrain", "pretrain", "" if shared else case, seed),
        node("downstream", "finetune", case, seed),
        node("evaluate", "finetune/clean", case, seed, evaluation={"kind": "clean", "split": "test"}),
    ]


def _carry_out(workspace: Workspace, nodes: list[RunNode], value: Value, clock: Clock, gpus: int) -> None:
    tokens, pretrain, finetune, test = nodes
    if value == "planned":
        return
    _finish(workspace, tokens, {"bytes_per_image": tokens.payload["size"]}, clock, gpus, 10)
    _finish(workspace, pretrain, {"loss": 0.5}, clock, gpus, 100)
    if isinstance(value, str):
        log = _start(workspace, finetune, gpus)
        _curve(log, clock, 0.5, 5, 5)
        if value == "failed":
            _say(workspace, finetune, "epoch 1\nRuntimeError: <b>the loss</b> is not finite\n")
            log.append("failed", cause="nan", message="the loss is not finite at step 5")
        elif value in ("stopped", "pruned"):
            log.append("stopped", reason="pruned" if value == "pruned" else "cancel")
        log.close()
        return
    _finish(workspace, finetune, {"loss": 0.3}, clock, gpus, 10)
    _finish(workspace, test, {} if value is None else {"top1": value, "top5": 0.99}, clock, gpus, 10)


def _start(workspace: Workspace, node: RunNode, gpus: int) -> EventLog:
    attempt = f"a-{node.key}"
    folder = workspace.create().attempt(attempt)
    folder.mkdir(parents=True)
    (folder / "job.json").write_text(json.dumps({"key": node.key}))
    log = EventLog(folder / "events.jsonl")
    log.append(
        "started", attempt=attempt, key=node.key, kind=node.kind, label=node.label, seed=node.seed, gpus=gpus
    )  # fmt: skip
    return log


def _say(workspace: Workspace, node: RunNode, text: str) -> None:
    (workspace.attempt(f"a-{node.key}") / "log.txt").write_text(text)


def _curve(log: EventLog, clock: Clock, seconds: float, steps: int, last: int) -> None:
    for step in range(1, last + 1):
        clock.now += seconds / steps
        log.append("metrics", step=step, values={"loss": 2 * math.exp(-3 * step / steps) + 0.1})


def _finish(
    workspace: Workspace, node: RunNode, metrics: dict[str, float], clock: Clock, gpus: int, seconds: float
) -> None:
    if is_done(workspace.output(node.kind, node.key)):
        return
    log = _start(workspace, node, gpus)
    if node.kind in ("pretrain", "downstream"):
        _curve(log, clock, seconds, 10, 10)
    else:
        clock.now += seconds
    with stage_output(workspace, node.kind, node.key, log.path.parent.name) as folder:
        write_result(folder, metrics, {})
        publish(folder, workspace.output(node.kind, node.key), {"kind": node.kind, "key": node.key})
    log.append("done", metrics=metrics, facts={}, seconds=seconds)
    log.close()


EXPERIMENT = """\
schema: 1
name: small
data: {kind: digits}
tokenizer: {kind: patch_kmeans, codebook_size: 64}
storage: {codec: {kind: packed}}
model: {kind: vit, width: 32, depth: 1, heads: 2, stem: {kind: conv2x2}}
objective: {kind: mtm, train: {epochs: 1, batch_size: 64}}
tasks:
  finetune: {kind: classify, train: {epochs: 1, batch_size: 64}}
"""
SEARCH = """\
# A recorded search for tests.
schema: 1
name: ablation
experiment: small.yaml
space:
  tokenizer.codebook_size: {choice: [8, 16, 64, 256]}
  tasks.finetune.train.lr: {float: [1.0e-5, 1.0e-1], log: true}
  storage.codec.kind: {choice: [packed, seit]}
  tasks.finetune.train.epochs: {choice: [1, 2], when: {storage.codec.kind: seit}}
metrics:
  - {name: finetune/top1, direction: maximize}
METRICS
sampler: {kind: nsga2, seed: 1}
constraints: [{metric: storage/bytes_per_image, at_most: 30}]
seeds: [0]
budget: {trials: 1000}
"""


def recorded_search(workspace: Workspace, folder: Path, count: int, *, objectives: int = 2, **given: Any) -> Sweep:
    """Write a searched sweep whose spec, study and first `count` trials are real; only the work is made up.

    Every seventh point was pruned and every eleventh failed. With two objectives, bytes per image is the second.
    """
    (folder / "small.yaml").write_text(EXPERIMENT)
    second = "  - {name: storage/bytes_per_image, direction: minimize}" if objectives == 2 else ""
    (folder / "search.yaml").write_text(SEARCH.replace("METRICS\n", f"{second}\n" if second else ""))
    read = read_sweep(folder / "search.yaml")
    search = Search(sweep_folder(workspace, "ablation-abababab"), read.sweep)
    cases: dict[str, Mapping[int, Value]] = {}
    sizes, values = {}, {}
    for number in range(count):
        asked = search.ask()
        assert asked is not None
        name = f"point {number}"
        value, size = _score(asked.values)
        sizes[name], values[name] = size, asked.values
        state = "pruned" if number % 7 == 6 else "failed" if number % 11 == 10 else "complete"
        cases[name] = {0: value if state == "complete" else state}
        search.tell(asked.number, [value, size][:objectives] if state == "complete" else None, state, [size - 30])
    fields = {
        "searched": True, "frozen": read.freeze(), "spec_text": read.text, "parameters": tuple(read.sweep.space),
        "metrics": (TOP1, BYTES)[:objectives],
    } | given  # fmt: skip
    return recorded_sweep(workspace, cases, sizes=sizes, values=values, **fields)


def _score(values: Mapping[str, Any]) -> tuple[float, float]:
    bits = math.log2(values["tokenizer.codebook_size"])
    size = 5 * bits * (0.8 if values["storage.codec.kind"] == "seit" else 1.0)
    off = abs(math.log10(values["tasks.finetune.train.lr"]) + 3)
    return round(0.6 + 0.04 * bits - 0.08 * off, 4), round(size, 3)
