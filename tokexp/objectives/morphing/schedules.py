"""How many groups a micro-batch's tokens form: numbers that the host draws, one set for every level.

Source: Kim et al. 2024 (DTM), equation 1 and its release. All samples of a micro-batch share the numbers, so shapes
never depend on the data, and the draw depends on seed, update and micro-batch alone, whichever process has it.
"""

from dataclasses import dataclass
from hashlib import blake2b

import torch

from tokexp.errors import InputError
from tokexp.spec.morphing import ScheduleSpec, asked_steps, made_steps


@dataclass(frozen=True)
class Level:
    """One granularity of N tokens: how many are removed in every iteration. A step of 0 removes nothing."""

    tokens: int
    steps: tuple[int, ...]

    @property
    def groups(self) -> int:
        """The number of groups that are left."""
        return self.tokens - sum(self.steps)

    @property
    def identity(self) -> bool:
        """Whether nothing is merged."""
        return not any(self.steps)


def draw_levels(spec: ScheduleSpec, tokens: int, protected: bool, generator: torch.Generator) -> tuple[Level, ...]:
    """Draw the levels of a micro-batch; iterations and then groups, both uniform over what is possible.

    Raises InputError where no number of groups is possible.
    """
    source = host_generator(generator)
    return tuple(_draw(spec, tokens, protected, source) for _ in range(spec.levels))


def _draw(spec: ScheduleSpec, tokens: int, protected: bool, source: torch.Generator) -> Level:
    iterations = _between(*spec.iterations, source)
    fewest, most = spec.group_range(tokens, iterations, protected)
    if fewest > most:
        raise InputError(
            f"schedule.removed: {iterations} iteration(s) cannot remove {spec.removed[0]} of {tokens} tokens, as one "
            "removes at most half; raise schedule.iterations"
        )
    asked = asked_steps(tokens, tokens - _between(fewest, most, source), iterations, spec.last_step)
    made = made_steps(tokens, asked, protected)
    assert made == asked or spec.last_step == "released"
    return Level(tokens, made)


def host_generator(generator: torch.Generator) -> torch.Generator:
    """Return a generator for numbers that the host must know: the given one, if it is on the host.

    Reading a number back from another device would stall it; there the generator's state, which the host holds, seeds
    one on the host.
    """
    if generator.device.type == "cpu":
        return generator
    digest = blake2b(generator.get_state().cpu().numpy().tobytes(), digest_size=8, person=b"levels").digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "big") >> 1)


def _between(low: int, high: int, source: torch.Generator) -> int:
    """Draw a whole number, both ends included."""
    return int(torch.randint(low, high + 1, (), generator=source))
