"""What a check of combinations reports."""

from dataclasses import dataclass

from tokexp.spec.yaml_tree import Path


@dataclass(frozen=True)
class Finding:
    """An impossible combination: the path to change, the reason, and the paths of all fields that it rests on.

    A finding is kept to itself where one of those fields is faulty for another reason.
    """

    path: Path
    message: str
    because: tuple[Path, ...]
