"""What a check of combinations reports."""

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
