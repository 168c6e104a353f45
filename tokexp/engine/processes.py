"""Data-parallel training: which micro-batches a process takes, and what processes agree on.

A global batch is cut into `accumulate` micro-batches, each with its own random keys; processes share them out. So the
result does not depend on the number of processes, which must divide `accumulate`.
"""

import os

import torch
from torch import distributed as dist

from tokexp.errors import InputError


def join_group(device: torch.device) -> bool:
    """Join the process group that the environment describes (RANK, WORLD_SIZE, MASTER_ADDR); False if it has none."""
    if int(os.environ.get("WORLD_SIZE", "1")) <= 1 or dist.is_initialized():
        return dist.is_initialized()
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return True


def rank() -> int:
    """Return this process's number, 0 if it is alone."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """Return the number of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


def own_micro_batches(accumulate: int) -> list[int]:
    """Return the micro-batches of an update that this process takes, in order."""
    if accumulate % world_size():
        raise InputError(
            f"accumulate ({accumulate}) must be a multiple of the number of processes ({world_size()}), "
            "so that the result does not depend on it"
        )
    return list(range(rank(), accumulate, world_size()))


def agreed(flag: bool, device: torch.device) -> bool:
    """Return whether the first process's flag is set; every process gets the same answer."""
    if not dist.is_initialized():
        return flag
    shared = torch.tensor([float(flag)], device=device)
    dist.broadcast(shared, 0)
    return bool(shared.item())


def from_first(values: torch.Tensor) -> torch.Tensor:
    """Return the first process's values on every process; they must have one shape and type."""
    if dist.is_initialized() and values.numel():
        dist.broadcast(values, 0)
    return values


def largest(values: torch.Tensor) -> torch.Tensor:
    """Return the largest of each value over all processes."""
    if dist.is_initialized():
        dist.all_reduce(values, dist.ReduceOp.MAX)
    return values


def averaged(values: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the mean over all processes of scalar tensors with the same names everywhere."""
    if not dist.is_initialized() or not values:
        return values
    names = sorted(values)
    stacked = torch.stack([values[name].detach().double() for name in names])
    dist.all_reduce(stacked)
    return dict(zip(names, stacked / world_size(), strict=True))
