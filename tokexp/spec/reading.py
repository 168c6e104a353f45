"""From a YAML file to a validated experiment, or to all of its problems at once.

A file and what it extends become one tree; `--set` values are laid over it; references are replaced; the result is
validated, and then searched for combinations that cannot work.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any

from tokexp.errors import Problem, SpecError
from tokexp.spec.checks import check
from tokexp.spec.compose import Composer
from tokexp.spec.experiment import Experiment
from tokexp.spec.findings import Finding
from tokexp.spec.overrides import apply_overrides, apply_values
from tokexp.spec.references import resolve
from tokexp.spec.sources import sources_of
from tokexp.spec.validating import ordered, placed, validated
from tokexp.spec.yaml_tree import Item, to_plain


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

    def read(
        self, overrides: Sequence[str] = (), values: Mapping[str, Any] | None = None,
        look: Callable[[Experiment], Iterable[Finding]] = check,
    ) -> ReadSpec:  # fmt: skip
        """Return the experiment with `path=value` texts, then plain values by dotted path, laid over the document.

        `look` finds what cannot work in it. Raises SpecError with all problems, those of the files included.
        """
        problems = list(self.problems)
        tree = apply_overrides(self.tree, overrides, problems)
        tree = apply_values(tree, values or {}, problems)
        tree = resolve(tree, problems)
        experiment = None
        if isinstance(tree.value, dict):
            found = validated(tree, Experiment, look, doubtful=bool(problems))
            problems += found.problems
            problems += [placed(tree, finding) for finding in found.findings]
            experiment = found.spec
        if problems or experiment is None:
            raise SpecError(ordered(problems, self.files))
        return ReadSpec(experiment, tree, self.text, self.file)


def open_document(file: str | FilePath) -> Document:
    """Read a spec file and all that it extends, without validating it.

    Raises SpecError if one of the files cannot be read as YAML; smaller problems wait for `Document.read`.
    """
    composer = Composer()
    tree = composer.load(file)
    if tree is None:
        raise SpecError(ordered(composer.problems, tuple(composer.files)))
    return Document(str(file), composer.text, tree, tuple(composer.files), composer.problems)


def read_experiment(file: str | FilePath, overrides: Sequence[str] = ()) -> ReadSpec:
    """Return the experiment of a file with `--set` texts (`a.b=c`) laid over it.

    Raises SpecError with every problem that was found, in reading order.
    """
    return open_document(file).read(overrides)
