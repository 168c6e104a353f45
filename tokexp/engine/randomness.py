"""Random numbers by counter: a draw depends on the seed and on where in the run it happens, never on what came before.

So a resumed run needs no saved generator state, and the number of processes does not matter.
"""

from hashlib import blake2b

import torch


def key_of(seed: int, purpose: str, *counters: int) -> int:
    """Return 63 bits from a seed, what they are for, and where (epoch, step, micro-batch)."""
    text = f"{seed}/{purpose}/" + "/".join(map(str, counters))
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def generator(seed: int, purpose: str, *counters: int, device: torch.device | str = "cpu") -> torch.Generator:
    """Return a generator on `device`, fresh from its key."""
    return torch.Generator(device=device).manual_seed(key_of(seed, purpose, *counters))


def permutation(num: int, seed: int, epoch: int) -> torch.Tensor:
    """Return the order (num,) int64 of an epoch, the same on every device and process."""
    return torch.randperm(num, generator=generator(seed, "order", epoch))
