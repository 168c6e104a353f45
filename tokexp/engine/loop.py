"""The training loop: the same straight line for every objective, on one process or many.

Nothing here is random by itself: the order of images, augmentation, masks and dropout come from keys of seed, epoch
and update (see `randomness.py`), and the learning rate is a function of the update. So a run that was stopped and
resumed equals one that was not, bit for bit on a CPU, and checkpoints hold no generator state.
"""

import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed, nn

from tokexp.data.base import Batch
from tokexp.engine import processes
from tokexp.engine.batches import Feed
from tokexp.engine.checkpoint import newest_checkpoint, save_checkpoint
from tokexp.engine.optimization import Schedule, build_optimizer
from tokexp.engine.randomness import generator, key_of, permutation
from tokexp.engine.reporting import Reporter, Stopped
from tokexp.errors import InputError
from tokexp.objectives.base import Objective
from tokexp.spec.train import TrainSpec

Augment = Callable[[Batch, torch.Generator], Batch]

REPORTS = 100
"""Points of a phase's curves."""

CHECKPOINTS = 8
"""Checkpoints of a phase by share of its length; more if one would be older than CHECKPOINT_SECONDS."""

CHECKPOINT_SECONDS = 300.0


@dataclass(frozen=True)
class Watch:
    """A look at the model while it trains: `measure` is called every so many epochs and at the end, in eval mode.

    It must draw nothing and change nothing. Every process of a group looks by itself, so that none waits for another.
    """

    every: int
    measure: Callable[[], dict[str, float]]


@dataclass(frozen=True)
class Phase:
    """One training phase, beside what is trained and on what. `name` separates its random keys from other phases'."""

    name: str
    train: TrainSpec
    seed: int
    device: torch.device
    scratch: Path
    report: Reporter
    stop: Callable[[], bool]
    watch: Watch | None = None


@dataclass
class _State:
    """What changes while training. `window` sums metrics since the last report; `latest` is that report."""

    objective: Objective
    optimizer: torch.optim.Optimizer
    average: Any
    step: int = 0
    window: dict[str, Tensor] = field(default_factory=dict)
    window_steps: int = 0
    latest: dict[str, float] = field(default_factory=dict)

    def save(self, folder: Path) -> Path:
        """Write a checkpoint of everything that later steps depend on."""
        state = {
            "objective": self.objective.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "window": self.window,
            "window_steps": self.window_steps,
            "latest": self.latest,
        }
        return save_checkpoint(folder, self.step, state)

    def restore(self, folder: Path, device: torch.device) -> bool:
        """Take up the newest good checkpoint; False if there is none."""
        found = newest_checkpoint(folder, device)
        if found is None:
            return False
        self.step, state = found
        self.objective.load_state_dict(state["objective"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.window, self.window_steps, self.latest = state["window"], state["window_steps"], state["latest"]
        return True


@dataclass(frozen=True)
class FitResult:
    """What training came to: the last report's metrics, updates made, and the averaged weights if there are any."""

    metrics: dict[str, float]
    steps: int
    average: dict[str, Tensor] | None


def fit(objective: Objective, feed: Feed, augment: Augment, phase: Phase) -> FitResult:
    """Train an objective for one phase and return what it came to; `objective` holds the trained weights.

    Raises Stopped after saving when `phase.stop` turned true, and FloatingPointError when the loss is not finite.
    """
    train = phase.train
    size = batch_size(train, feed.num_images)
    per_epoch, total = train.steps_per_epoch(feed.num_images), train.total_steps(feed.num_images)
    objective.to(phase.device).train()
    state = _State(objective, build_optimizer(objective, train), _average(objective, train))
    if state.restore(phase.scratch, phase.device):
        phase.report.resumed(state.step)
    schedule = Schedule(state.optimizer, train, feed.num_images)
    forward = _wrapped(objective, train)
    report_every, save_every = max(1, total // REPORTS), max(1, math.ceil(total / CHECKPOINTS))
    saved_at, order_of, order = time.monotonic(), -1, torch.empty(0)

    while state.step < total:
        epoch, place = divmod(state.step, per_epoch)
        if epoch != order_of:
            order_of, order = epoch, permutation(feed.num_images, phase.seed, epoch)
        schedule.set(state.step)
        _update(state, forward, feed, augment, phase, order[place * size : (place + 1) * size])
        state.step += 1
        if state.step % report_every == 0 or state.step == total:
            _report(state, phase)
        if phase.watch is not None and (state.step % (phase.watch.every * per_epoch) == 0 or state.step == total):
            _look(state, phase, phase.watch)
        phase.report.progress(state.step, total, "steps")
        stopping = processes.agreed(phase.stop(), phase.device)
        overdue = processes.agreed(time.monotonic() - saved_at > CHECKPOINT_SECONDS, phase.device)
        if stopping or overdue or state.step % save_every == 0:
            _save(state, phase)
            saved_at = time.monotonic()
        if stopping and state.step < total:
            raise Stopped(f"{phase.name} was asked to stop at update {state.step} of {total}")

    objective.eval()
    average = None if state.average is None else state.average.module.state_dict()
    return FitResult(state.latest, total, average)


def batch_size(train: TrainSpec, num_images: int) -> int:
    """Return the images of an update: the spec's, or the most that a small set gives in whole, even micro-batches.

    Raises InputError for fewer images than micro-batches.
    """
    if num_images < train.accumulate:
        cut = f"accumulate ({train.accumulate}) cuts an update into more parts than there are training images"
        raise InputError(f"{cut} ({num_images}); lower it")
    if num_images >= train.batch_size:
        return train.batch_size
    return max(1, num_images // (4 * train.accumulate)) * 4 * train.accumulate


def _average(objective: Objective, train: TrainSpec) -> Any:
    if train.ema is None:
        return None
    from timm.utils import ModelEmaV3

    return ModelEmaV3(objective, decay=train.ema)


def _wrapped(objective: Objective, train: TrainSpec) -> nn.Module:
    module: nn.Module = objective
    if train.compile:
        module = torch.compile(module)  # type: ignore[assignment]
    if distributed.is_initialized():
        module = nn.parallel.DistributedDataParallel(module)
    return module


def _update(state: _State, forward: nn.Module, feed: Feed, augment: Augment, phase: Phase, positions: Tensor) -> None:
    """Make one update from the images at `positions`: own micro-batches forward and backward, then the optimizer."""
    train, device = phase.train, phase.device
    own = processes.own_micro_batches(train.accumulate)
    micro_batches = positions.tensor_split(train.accumulate)
    state.optimizer.zero_grad(set_to_none=True)
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=train.precision == "bf16")
    for number in own:
        draws = generator(phase.seed, phase.name + "/augment", state.step, number, device=device)
        with autocast:
            batch = augment(feed.batch(micro_batches[number]), draws)
        # Dropout and stochastic depth draw from the global generator.
        torch.manual_seed(key_of(phase.seed, phase.name + "/dropout", state.step, number))
        draws = generator(phase.seed, phase.name + "/objective", state.step, number, device=device)
        # Gradients of all but the last own micro-batch stay on this process.
        last = number == own[-1] or not isinstance(forward, nn.parallel.DistributedDataParallel)
        with nullcontext() if last else forward.no_sync():  # type: ignore[operator]
            with autocast:
                output = forward(batch, draws)
            (output.loss * (processes.world_size() / train.accumulate)).backward()
        for name, value in {"loss": output.loss.detach(), **output.metrics}.items():
            state.window[name] = state.window.get(name, torch.zeros((), device=device)) + value.float() / len(own)
    if train.clip_grad is not None:
        nn.utils.clip_grad_norm_(state.objective.parameters(), train.clip_grad)
    state.optimizer.step()
    state.objective.after_step()
    if state.average is not None:
        state.average.update(state.objective)
    state.window_steps += 1


def _report(state: _State, phase: Phase) -> None:
    steps = max(1, state.window_steps)
    means = processes.averaged({name: value / steps for name, value in state.window.items()})
    values = {name: float(value) for name, value in means.items()}
    state.window, state.window_steps = {}, 0
    if not math.isfinite(values.get("loss", 0.0)):
        raise FloatingPointError(f"the loss of {phase.name} is not finite at update {state.step}")
    values["lr"] = max(group["lr"] for group in state.optimizer.param_groups)
    phase.report.metrics(state.step, values)
    state.latest = values


def _look(state: _State, phase: Phase, watch: Watch) -> None:
    """Report what a look finds; the last one's values stand among the phase's results, beside the last report's."""
    state.objective.eval()
    values = watch.measure()
    state.objective.train()
    phase.report.metrics(state.step, values)
    state.latest = {**state.latest, **values}


def _save(state: _State, phase: Phase) -> None:
    if not all(bool(torch.isfinite(value)) for value in state.window.values()):
        raise FloatingPointError(f"the loss of {phase.name} is not finite before update {state.step}")
    if processes.rank() == 0:
        file = state.save(phase.scratch)
        phase.report.checkpoint(state.step, file.name)
