"""Optimizer and learning-rate schedule of a training phase, both timm's, from its `train` spec."""

from torch import nn, optim

from tokexp.objectives.base import Objective
from tokexp.spec.train import TrainSpec
from tokexp.torchvision_ops import ensure_torchvision

ensure_torchvision()

from timm.optim import create_optimizer_v2  # noqa: E402 (timm imports torchvision)
from timm.scheduler import CosineLRScheduler, PolyLRScheduler, StepLRScheduler  # noqa: E402
from timm.scheduler.scheduler import Scheduler  # noqa: E402


def build_optimizer(objective: Objective, train: TrainSpec) -> optim.Optimizer:
    """Return the optimizer over all trainable parameters of an objective.

    Groups carry `lr_scale = layer_decay ** (distance to the last group)`, which timm's schedulers apply (BEiT, MAE).
    One-dimensional parameters and those that the objective names have no weight decay.
    """
    chosen = train.optimizer
    options: dict[str, object] = {}
    if chosen.name in ("sgd", "lars", "rmsprop"):
        options["momentum"] = chosen.momentum
    else:
        options["betas"] = chosen.betas
    if chosen.name not in ("sgd", "lars", "lion"):
        options["eps"] = chosen.eps
    # timm's "sgd" is Nesterov's form; "momentum" is the plain one that papers mean.
    name = "momentum" if chosen.name == "sgd" else chosen.name
    optimizer: optim.Optimizer = create_optimizer_v2(
        parameter_groups(objective, train), opt=name, lr=train.peak_lr(), weight_decay=train.weight_decay, **options
    )
    return optimizer


def parameter_groups(objective: Objective, train: TrainSpec) -> list[dict[str, object]]:
    """Return optimizer groups, one for each layer group with and without decay; every parameter exactly once."""
    undecayed = objective.undecayed()
    plain = {id(p) for name, p in objective.named_parameters() if p.ndim <= 1 or name in undecayed}
    layers = [[p for p in layer if p.requires_grad] for layer in objective.layer_groups()]
    _check_complete(objective, layers)
    groups: list[dict[str, object]] = []
    for distance, layer in zip(range(len(layers) - 1, -1, -1), layers, strict=True):
        scale = (train.layer_decay or 1.0) ** distance
        for decay, chosen in (
            (train.weight_decay, [p for p in layer if id(p) not in plain]),
            (0.0, [p for p in layer if id(p) in plain]),
        ):
            if chosen:
                groups.append({"params": chosen, "weight_decay": decay, "lr_scale": scale})
    return groups


def _check_complete(objective: Objective, layers: list[list[nn.Parameter]]) -> None:
    listed = [id(p) for layer in layers for p in layer]
    wanted = {id(p) for p in objective.parameters() if p.requires_grad}
    if len(listed) != len(set(listed)) or set(listed) != wanted:
        raise ValueError("layer_groups must hold every trainable parameter exactly once")


class Schedule:
    """The learning rate as a pure function of the update: a resume needs no state."""

    def __init__(self, optimizer: optim.Optimizer, train: TrainSpec, num_images: int) -> None:
        """Take the optimizer whose groups are set before every update."""
        self._per_epoch = train.steps_per_epoch(num_images)
        self._unit = train.schedule.unit
        self._scheduler = _scheduler(optimizer, train, train.total_steps(num_images), train.warmup_steps(num_images))

    def set(self, step: int) -> None:
        """Set the learning rates for update `step`, counted from 0."""
        epoch = step // self._per_epoch
        if self._unit == "epoch":
            step = epoch * self._per_epoch
        elif self._unit == "epoch_lagged":
            # SeiT's release steps its scheduler with the epoch that just ended, so epochs 0 and 1 are alike.
            step = max(0, epoch - 1) * self._per_epoch
        self._scheduler.step_update(step)


def _scheduler(optimizer: optim.Optimizer, train: TrainSpec, total: int, warmup: int) -> Scheduler:
    shared = {
        "warmup_t": warmup, "warmup_lr_init": train.schedule.warmup_lr,
        "warmup_prefix": train.schedule.warmup_prefix, "t_in_epochs": False,
    }  # fmt: skip
    # timm warns of a cosine of length 1; its only update comes at the peak, which a length of 2 gives as well.
    length = max(2, total - warmup * train.schedule.warmup_prefix)
    if train.schedule.name == "cosine":
        return CosineLRScheduler(optimizer, t_initial=length, lr_min=train.schedule.min_lr, **shared)
    if train.schedule.name == "linear":
        return PolyLRScheduler(optimizer, t_initial=length, lr_min=train.schedule.min_lr, power=1.0, **shared)
    return StepLRScheduler(optimizer, decay_t=total + warmup + 1, decay_rate=1.0, **shared)
