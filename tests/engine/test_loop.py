"""The loop against plain training, interruption, and several processes."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, multiprocessing, nn
from torch.nn.functional import cross_entropy

from tokexp.data.base import Batch
from tokexp.engine.batches import Feed
from tokexp.engine.checkpoint import newest_checkpoint
from tokexp.engine.loop import Phase, Watch, batch_size, fit
from tokexp.engine.randomness import permutation
from tokexp.engine.reporting import Silent, Stopped
from tokexp.errors import InputError
from tokexp.objectives.base import Objective, StepOutput
from tokexp.spec.train import TrainSpec

CPU = torch.device("cpu")


class Points(Feed):
    """64 points of three classes."""

    def __init__(self) -> None:
        draws = torch.Generator().manual_seed(0)
        self.values = torch.randn(64, 5, 1, 1, generator=draws)
        self.labels = torch.randint(3, (64,), generator=draws)
        self.num_images, self.num_classes = 64, 3

    def batch(self, positions: Tensor) -> Batch:
        return Batch(self.labels[positions], 3, values=self.values[positions])


class Linear(Objective):
    """A linear classifier with dropout, whose loss also uses a draw of its own."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.layer, self.dropout = nn.Linear(5, 3), nn.Dropout(dropout)

    def forward(self, batch: Batch, generator: torch.Generator) -> StepOutput:
        assert batch.values is not None
        logits = self.layer(self.dropout(batch.values.flatten(1)))
        loss = cross_entropy(logits, batch.labels)
        return StepOutput(loss, {"draw": torch.rand((), generator=generator)})


def noisy(batch: Batch, generator: torch.Generator) -> Batch:
    assert batch.values is not None
    return batch.with_values(batch.values + 0.1 * torch.randn(batch.values.shape, generator=generator))


def plain(batch: Batch, generator: torch.Generator) -> Batch:
    del generator
    return batch


class Recorder(Silent):
    def __init__(self) -> None:
        self.points: list[tuple[int, dict[str, float]]] = []

    def metrics(self, step: int, values: dict[str, float]) -> None:
        self.points.append((step, values))


def spec(**values: Any) -> TrainSpec:
    return TrainSpec.model_validate({"steps": 12, "batch_size": 16, "lr": 0.1, "weight_decay": 0.0, **values})


def phase(folder: Path, train: TrainSpec, stop: Callable[[], bool] = lambda: False, report: Any = None) -> Phase:
    return Phase("test", train, 3, CPU, folder, report or Silent(), stop)


def trained(folder: Path, train: TrainSpec, **options: Any) -> Linear:
    torch.manual_seed(0)
    objective = Linear(options.pop("dropout", 0.0))
    fit(objective, Points(), options.pop("augment", plain), phase(folder, train, **options))
    return objective


def test_the_loop_equals_training_written_out(tmp_path: Path) -> None:
    train = spec(optimizer={"name": "sgd", "momentum": 0.0}, schedule={"name": "constant"})
    found = trained(tmp_path, train)
    torch.manual_seed(0)
    reference, feed = Linear(), Points()
    for step in range(12):
        order = permutation(64, 3, step // 4)
        chosen = order[step % 4 * 16 : (step % 4 + 1) * 16]
        loss = cross_entropy(reference.layer(feed.values[chosen].flatten(1)), feed.labels[chosen])
        grads = torch.autograd.grad(loss, list(reference.parameters()))
        with torch.no_grad():
            for parameter, grad in zip(reference.parameters(), grads, strict=True):
                parameter -= 0.1 * grad
    torch.testing.assert_close(found.layer.weight, reference.layer.weight)
    torch.testing.assert_close(found.layer.bias, reference.layer.bias)


@pytest.mark.parametrize("stop_at", [1, 5, 11])
def test_a_stopped_and_resumed_run_equals_an_undisturbed_one_bit_for_bit(tmp_path: Path, stop_at: int) -> None:
    train = spec(ema=0.9, clip_grad=0.5, accumulate=2)
    whole, parts = Recorder(), Recorder()
    straight = trained(tmp_path / "a", train, augment=noisy, dropout=0.5, report=whole)
    calls = iter(range(100))
    with pytest.raises(Stopped):
        trained(
            tmp_path / "b", train, augment=noisy, dropout=0.5, report=parts, stop=lambda: next(calls) >= stop_at - 1
        )
    resumed = trained(tmp_path / "b", train, augment=noisy, dropout=0.5, report=parts)
    assert torch.equal(straight.layer.weight, resumed.layer.weight)
    assert whole.points == parts.points


def test_a_run_that_ended_before_its_output_was_kept_gives_the_same_result_again(tmp_path: Path) -> None:
    torch.manual_seed(0)
    first = fit(Linear(), Points(), noisy, phase(tmp_path, spec()))
    again = fit(Linear(), Points(), noisy, phase(tmp_path, spec()))
    assert first == again


def test_accumulated_micro_batches_give_the_gradient_of_the_whole_batch(tmp_path: Path) -> None:
    train = {"optimizer": {"name": "sgd", "momentum": 0.0}, "schedule": {"name": "constant"}}
    whole = trained(tmp_path / "a", spec(**train))
    cut = trained(tmp_path / "b", spec(accumulate=4, **train))
    torch.testing.assert_close(whole.layer.weight, cut.layer.weight)


def test_a_loss_that_is_not_finite_ends_the_phase(tmp_path: Path) -> None:
    def broken(batch: Batch, generator: torch.Generator) -> Batch:
        del generator
        assert batch.values is not None
        return batch.with_values(batch.values * float("nan"))

    with pytest.raises(FloatingPointError, match="not finite"):
        trained(tmp_path, spec(), augment=broken)
    assert not list(tmp_path.glob("*.pt"))


def test_a_set_smaller_than_a_batch_is_used_in_whole_micro_batches() -> None:
    assert batch_size(spec(accumulate=2), 1000) == 16
    assert batch_size(spec(batch_size=256, accumulate=2), 61) == 56


def test_fewer_images_than_micro_batches_are_refused() -> None:
    with pytest.raises(InputError, match="accumulate"):
        batch_size(spec(batch_size=16, accumulate=4), 3)


@pytest.mark.parametrize("images", [5, 6])
def test_every_micro_batch_of_a_tiny_set_gets_images(tmp_path: Path, images: int) -> None:
    class Few(Points):
        def __init__(self) -> None:
            super().__init__()
            self.num_images = images

    fit(Linear(), Few(), plain, phase(tmp_path, spec(accumulate=4)))


def test_compiling_changes_neither_results_nor_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    straight = trained(tmp_path / "a", spec())
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    compiled = trained(tmp_path / "b", spec(compile=True))
    torch.testing.assert_close(straight.state_dict(), compiled.state_dict())
    _, state = newest_checkpoint(tmp_path / "b", CPU) or (0, {})
    assert list(state["objective"]) == ["layer.weight", "layer.bias"]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_augmentations_are_computed_in_the_precision_of_the_phase(tmp_path: Path, precision: str) -> None:
    seen = set()

    def product(batch: Batch, generator: torch.Generator) -> Batch:
        seen.add((torch.eye(2) @ torch.eye(2)).dtype)
        return plain(batch, generator)

    fitted = trained(tmp_path, spec(precision=precision), augment=product)
    assert seen == {torch.bfloat16 if precision == "bf16" else torch.float32}
    assert fitted.layer.weight.dtype == torch.float32


class Looks:
    """A look that records the mode and the weights it saw, and disturbs the global generator as a bad one would."""

    def __init__(self) -> None:
        self.seen: list[Tensor] = []
        self.objective: Linear | None = None

    def __call__(self) -> dict[str, float]:
        assert self.objective is not None
        assert not self.objective.training
        self.seen.append(self.objective.layer.weight.detach().clone())
        torch.rand(3)
        return {"val_top1": float(self.seen[-1].sum())}


def watched(folder: Path, every: int, report: Recorder, stop_at: int = 10**9) -> tuple[Linear, Looks, dict[str, float]]:
    torch.manual_seed(0)
    objective, looks, calls = Linear(0.5), Looks(), iter(range(100))
    looks.objective = objective
    train = spec(ema=0.9, clip_grad=0.5, accumulate=2)
    watching = Phase("test", train, 3, CPU, folder, report, lambda: next(calls) >= stop_at - 1, Watch(every, looks))
    result = fit(objective, Points(), noisy, watching)
    return objective, looks, result.metrics


@pytest.mark.parametrize(("every", "steps"), [(1, [4, 8, 12]), (2, [8, 12]), (50, [12])])
def test_a_look_is_taken_every_so_many_epochs_and_at_the_end(tmp_path: Path, every: int, steps: list[int]) -> None:
    report = Recorder()
    objective, looks, metrics = watched(tmp_path, every, report)
    assert [step for step, values in report.points if "val_top1" in values] == steps
    assert torch.equal(looks.seen[-1], objective.layer.weight)
    assert metrics["val_top1"] == float(looks.seen[-1].sum())
    assert "loss" in metrics


def test_looking_changes_no_weight(tmp_path: Path) -> None:
    train = spec(ema=0.9, clip_grad=0.5, accumulate=2)
    blind = trained(tmp_path / "blind", train, augment=noisy, dropout=0.5)
    for every in (1, 3):
        seeing, _, _ = watched(tmp_path / str(every), every, Recorder())
        assert torch.equal(blind.layer.weight, seeing.layer.weight)


@pytest.mark.parametrize("stop_at", [3, 4, 8, 11])
def test_a_watched_run_that_was_stopped_sees_the_same_once(tmp_path: Path, stop_at: int) -> None:
    whole, parts = Recorder(), Recorder()
    straight, _, metrics = watched(tmp_path / "a", 1, whole)
    with pytest.raises(Stopped):
        watched(tmp_path / "b", 1, parts, stop_at)
    resumed, _, again = watched(tmp_path / "b", 1, parts)
    assert torch.equal(straight.layer.weight, resumed.layer.weight)
    assert whole.points == parts.points
    assert metrics == again


def _train_in_group(rank: int, world: int, folder: str, port: int) -> None:
    import os

    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    from tokexp.engine.processes import join_group

    join_group(CPU)
    train = spec(accumulate=4, optimizer={"name": "sgd", "momentum": 0.0})
    report = Recorder()
    torch.manual_seed(0)
    objective = Linear()
    watch = Watch(1, lambda: {"val_top1": float(objective.layer.weight.detach().sum())})
    shared = Path(folder) / "shared"
    fit(objective, Points(), noisy, Phase("test", train, 3, CPU, shared, report, lambda: False, watch))
    if rank == 0:
        gradient = [p.grad for p in objective.parameters()]
        torch.save({"state": objective.state_dict(), "gradient": gradient, "points": report.points}, f"{folder}/out.pt")
    torch.distributed.destroy_process_group()


def test_two_processes_give_the_loss_and_gradient_of_one(tmp_path: Path) -> None:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    multiprocessing.spawn(_train_in_group, args=(2, str(tmp_path), port), nprocs=2)
    found = torch.load(tmp_path / "out.pt", weights_only=True)
    report = Recorder()
    torch.manual_seed(0)
    alone, train = Linear(), spec(accumulate=4, optimizer={"name": "sgd", "momentum": 0.0})
    watch = Watch(1, lambda: {"val_top1": float(alone.layer.weight.detach().sum())})
    fit(alone, Points(), noisy, Phase("test", train, 3, CPU, tmp_path / "alone", report, lambda: False, watch))
    torch.testing.assert_close(found["state"]["layer.weight"], alone.layer.weight)
    for theirs, own in zip(found["gradient"], alone.parameters(), strict=True):
        torch.testing.assert_close(theirs, own.grad)
    for (step, values), (own_step, own_values) in zip(found["points"], report.points, strict=True):
        assert step == own_step
        assert values == pytest.approx(own_values, rel=1e-5)
