"""From a YAML file to a validated experiment, or to all of its problems at once.

A file and what it extends become one tree; `--set` values are laid over it; references are replaced; the result is
validated, and then searched for combinations that cannot work.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any

from pydantic import ValidationError

from tokexp.errors import Problem, SpecError
from tokexp.spec.checks import check
from tokexp.spec.compose import Composer
from tokexp.spec.experiment import Experiment
from tokexp.spec.faults import Review, version_is_exact
from tokexp.spec.messages import item_at
from tokexp.spec.overrides import SET, apply_overrides, apply_values
from tokexp.spec.references import resolve
from tokexp.spec.sources import sources_of
from tokexp.spec.yaml_tree import Item, Path, to_plain


@dataclass(frozen=True)
class ReadSpec:
    """A validated experiment with what it was read from.

    `plain` is the merged document as asked for (references replaced, defaults not filled in); `tree` is the same with
    places; `text` is the text of the named file alone.
    """

    experiment: Experiment
    tree: Item
    text: str
    file: str

    @property
    def plain(self) -> dict[str, Any]:
        """The merged document as plain values."""
        plain: dict[str, Any] = to_plain(self.tree)
        return plain

    @property
    def sources(self) -> dict[str, str]:
        """Where each value of the resolved spec comes from: `file:line`, `--set`, `preset NAME` or `default`.

        Keys are dotted paths. A list of plain values is one value.
        """
        return sources_of(self.experiment, self.tree)


@dataclass
class Document:
    """A spec file with what it extends, read once; experiments are made of it with different values laid over it."""

    file: str
    text: str
    tree: Item
    files: tuple[str, ...] = ()
    problems: list[Problem] = field(default_factory=list)

    def read(self, overrides: Sequence[str] = (), values: Mapping[str, Any] | None = None) -> ReadSpec:
        """Return the experiment with `path=value` texts, then plain values by dotted path, laid over the document.

        Raises SpecError with all problems, those of the files included.
        """
        problems = list(self.problems)
        tree = apply_overrides(self.tree, overrides, problems)
        tree = apply_values(tree, values or {}, problems)
        tree = resolve(tree, problems)
        experiment = None
        if isinstance(tree.value, dict):
            experiment, found = _validated(tree, bool(problems))
            problems += found
        if problems or experiment is None:
            raise SpecError(_ordered(problems, self.files))
        return ReadSpec(experiment, tree, self.text, self.file)


def open_document(file: str | FilePath) -> Document:
    """Read a spec file and all that it extends, without validating it.

    Raises SpecError if one of the files cannot be read as YAML; smaller problems wait for `Document.read`.
    """
    composer = Composer()
    tree = composer.load(file)
    if tree is None:
        raise SpecError(_ordered(composer.problems, tuple(composer.files)))
    return Document(str(file), composer.text, tree, tuple(composer.files), composer.problems)


def read_experiment(file: str | FilePath, overrides: Sequence[str] = ()) -> ReadSpec:
    """Return the experiment of a file with `--set` texts (`a.b=c`) laid over it.

    Raises SpecError with every problem that was found, in reading order.
    """
    return open_document(file).read(overrides)


def _validated(tree: Item, doubtful: bool) -> tuple[Experiment | None, list[Problem]]:
    """Return the experiment (None if it is not valid) and the problems, those of combinations included."""
    if not doubtful and version_is_exact(tree):
        try:
            experiment = Experiment.model_validate(to_plain(tree))
        except ValidationError:
            pass
        else:
            return experiment, _combinations(tree, experiment, ())
    review = Review(tree)
    partial = review.run()
    problems = review.problems
    if partial is not None:
        problems = problems + _combinations(tree, partial, tuple(review.dropped))
    return (None if problems else partial), problems


def _combinations(tree: Item, experiment: Experiment, dropped: tuple[Path, ...]) -> list[Problem]:
    problems = []
    for finding in check(experiment):
        if any(_touch(path, other) for path in finding.because for other in dropped):
            continue
        path = _written_path(tree, finding.path)
        item, _ = item_at(tree, path)
        problem = item.anchor.problem(path, finding.message)
        problems += [] if problem in problems else [problem]
    return problems


def _touch(path: Path, other: Path) -> bool:
    shared = min(len(path), len(other))
    return path[:shared] == other[:shared]


def _written_path(tree: Item, path: Path) -> Path:
    """Leave out the phase where one policy is written for both."""
    augment = tree.value.get("augment")
    if len(path) > 2 and path[0] == "augment" and augment is not None and isinstance(augment.value, list):
        return (path[0], *path[2:])
    return path


def _ordered(problems: list[Problem], files: tuple[str, ...]) -> list[Problem]:
    unique = list(dict.fromkeys(problems))
    rank = {file: number for number, file in enumerate(files)}
    last = len(files)
    return sorted(
        unique,
        key=lambda each: (
            last + 1 if each.file == SET else rank.get(each.file, last),
            each.line or 0,
            each.column or 0,
        ),
    )
