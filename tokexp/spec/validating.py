"""From a tree to a validated spec of any class, or to all of its problems: structure first, then combinations."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic

from pydantic import ValidationError

from tokexp.errors import Problem
from tokexp.spec.faults import AnySpec, Review, version_is_exact
from tokexp.spec.findings import Finding
from tokexp.spec.messages import item_at
from tokexp.spec.overrides import SET
from tokexp.spec.yaml_tree import Item, Path, to_plain


@dataclass(frozen=True)
class Validated(Generic[AnySpec]):
    """What came of a tree: the spec of what is sound (None if that is not enough for one), and what is wrong.

    `problems` are those of structure, each with its place; `findings` are impossible combinations of the sound parts;
    `dropped` are the paths of what is not known because it is faulty.
    """

    spec: AnySpec | None
    problems: list[Problem]
    findings: list[Finding]
    dropped: tuple[Path, ...] = ()


def validated(
    tree: Item, spec: type[AnySpec], check: Callable[[AnySpec], Iterable[Finding]], *, doubtful: bool = False
) -> Validated[AnySpec]:
    """Validate a tree whose references are replaced. `doubtful` says that problems of it are known already."""
    if not doubtful and version_is_exact(tree):
        try:
            sound = spec.model_validate(to_plain(tree))
        except ValidationError:
            pass
        else:
            return Validated(sound, [], list(check(sound)))
    review = Review(tree, spec)
    partial = review.run()
    findings: list[Finding] = []
    dropped = tuple(review.dropped)
    if partial is not None:
        findings = [each for each in check(partial) if rests(each, dropped)]
    return Validated(partial, review.problems, findings, dropped)


def rests(finding: Finding, dropped: Iterable[Path]) -> bool:
    """Say whether a finding rests on sound parts alone."""
    return not any(touch(path, other) for other in dropped for path in finding.because)


def placed(tree: Item, finding: Finding) -> Problem:
    """Return a finding as a problem at its place in the tree."""
    path = written_path(tree, finding.path)
    item, exact = item_at(tree, path)
    place = item.key if finding.at_key and exact and item.key is not None else item.anchor
    return place.problem(path, finding.message)


def ordered(problems: Iterable[Problem], files: Sequence[str]) -> list[Problem]:
    """Return problems once each, in reading order of the files; those of `--set` come last."""
    rank = {file: number for number, file in enumerate(dict.fromkeys(files))}
    last = len(rank)
    return sorted(
        dict.fromkeys(problems),
        key=lambda each: (
            last + 1 if each.file == SET else rank.get(each.file, last),
            each.line or 0,
            each.column or 0,
        ),
    )


def touch(path: Path, other: Path) -> bool:
    """Say whether one path lies at or below the other."""
    shared = min(len(path), len(other))
    return path[:shared] == other[:shared]


def written_path(tree: Item, path: Path) -> Path:
    """Leave out the phase where one policy is written for both."""
    augment = tree.value.get("augment")
    if len(path) > 2 and path[0] == "augment" and augment is not None and isinstance(augment.value, list):
        return (path[0], *path[2:])
    return path
