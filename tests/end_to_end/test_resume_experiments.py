"""Every shipped experiment of laptop size learns, and is killed while it trains and ends as if nothing had happened.

Each is shortened by what `--set` can say, run once undisturbed, and once more in a process that is killed (SIGKILL) at
a random step of every stage that trains, one after the other.
"""

import random
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.end_to_end.test_faults import all_events, finish, outputs, run_and_die
from tokexp.ledger.workspace import Workspace
from tokexp.plan.graph import Plan, StageNode, build_plan
from tokexp.spec.experiment import Experiment
from tokexp.spec.reading import read_experiment

FILES = sorted((Path(__file__).parents[2] / "experiments").glob("*.yaml"))
BATCH = 64


def shortened(file: Path) -> Experiment:
    """Return the experiment with a few updates for every phase."""
    given = read_experiment(file).experiment
    asked = ["track.enabled=false", "seeds=[0]"]
    phases: dict[str, object] = {"objective": given.objective}
    phases |= {f"tasks.{name}": task for name, task in given.tasks.items()}
    phases |= {f"evaluate.{name}": test for name, test in given.evaluate.items() if hasattr(test, "train")}
    for block, phase in phases.items():
        if hasattr(phase, "train"):
            asked += _short(f"{block}.train", 64 if block == "objective" else 40)
        elif phase is not None:
            asked.append(f"{block}.epochs=2")
    if given.augment.adapt is not None:
        asked += _short("augment.adapt.train", 40)
    return read_experiment(file, asked).experiment


def _short(train: str, steps: int) -> list[str]:
    return [f"{train}.epochs=null", f"{train}.steps={steps}", f"{train}.batch_size={BATCH}"]


def checkpoints(plan: Plan, workspace: Workspace, node: StageNode) -> list[int]:
    """Return the steps at which a stage saved."""
    return [event["step"] for event in all_events(plan, workspace, node.name) if event["e"] == "checkpoint"]


def at_step(key: str, step: int) -> Callable[[str, dict, bool], bool]:
    """Die in a stage when it has reported a step."""
    running = [""]

    def dies(event_type: str, fields: dict, written: bool) -> bool:
        if event_type == "started":
            running[0] = fields["key"]
        return running[0] == key and event_type == "metrics" and written and fields["step"] >= step

    return dies


def losses(plan: Plan, workspace: Workspace, node: StageNode) -> list[float]:
    """Return the losses that a stage reported, none where it does not train step by step."""
    reports = [event for event in all_events(plan, workspace, node.name) if event["e"] == "metrics"]
    return [event["values"]["loss"] for event in reports if "loss" in event["values"]]


@pytest.mark.slow
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_it_learns_and_kill_9_at_random_steps_changes_no_bit(file: Path, tmp_path: Path) -> None:
    plan = build_plan(shortened(file))
    undisturbed, disturbed = Workspace(tmp_path / "undisturbed"), Workspace(tmp_path / "disturbed")
    finish(plan, undisturbed)
    stages = [node for node in plan.nodes if losses(plan, undisturbed, node)]
    assert {node.kind for node in stages} & {"pretrain", "downstream"}
    first = next((node for node in stages if node.kind == "pretrain"), stages[0])
    found = losses(plan, undisturbed, first)
    assert found[-1] < found[0], found
    drawn = random.Random(file.stem)
    for node in stages:
        saved = checkpoints(plan, undisturbed, node)
        step = drawn.randint(saved[0] + 1, saved[-1] - 1)
        assert run_and_die(plan, disturbed, at_step(node.key, step)) == -signal.SIGKILL
    finish(plan, disturbed)
    for node in stages:
        resumed = [event["step"] for event in all_events(plan, disturbed, node.name) if event["e"] == "resumed"]
        assert [step > 0 for step in resumed] == [True], (node.name, resumed)
        assert losses(plan, disturbed, node)[-1] == losses(plan, undisturbed, node)[-1]
    assert outputs(plan, disturbed) == outputs(plan, undisturbed)
