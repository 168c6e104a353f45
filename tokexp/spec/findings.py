"""What a check of combinations reports, and the check that experiments and sweeps share."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tokexp.spec.yaml_tree import Path


@dataclass(frozen=True)
class Finding:
    """An impossible combination: the path to change, the reason, and the paths of all fields that it rests on.

    A finding is kept to itself where one of those fields is faulty for another reason. `at_key` says that what is
    wrong is the name at the end of the path, not the value.
    """

    path: Path
    message: str
    because: tuple[Path, ...]
    at_key: bool = False


def twice_written(seeds: Sequence[int]) -> Iterator[Finding]:
    """Yield the seeds of an experiment or a sweep that are in its list already; there may be thousands of them."""
    first: dict[int, int] = {}
    for number, seed in enumerate(seeds):
        if first.setdefault(seed, number) != number:
            yield Finding(("seeds", number), f"{seed} is written twice; keep one of them", (("seeds",),))
