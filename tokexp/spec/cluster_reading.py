"""From a cluster profile's YAML file to a validated profile, or to all of its problems."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path as FilePath

from tokexp.errors import SpecError
from tokexp.spec.check_cluster import check_cluster
from tokexp.spec.cluster import ClusterSpec
from tokexp.spec.experiment import Experiment
from tokexp.spec.overrides import apply_overrides
from tokexp.spec.reading import open_document
from tokexp.spec.references import resolve
from tokexp.spec.shape import fields_of
from tokexp.spec.sources import sources_of
from tokexp.spec.validating import ordered, placed, validated
from tokexp.spec.wording import nearest
from tokexp.spec.yaml_tree import Item


@dataclass(frozen=True)
class ReadCluster:
    """A validated profile with what it was read from; `tree` is its document with places."""

    cluster: ClusterSpec
    file: str
    text: str
    tree: Item

    @property
    def sources(self) -> dict[str, str]:
        """Where each value of the resolved profile comes from: `file:line`, `--set` or `default`, by dotted path."""
        return sources_of(self.cluster, self.tree)


def read_cluster(file: str | FilePath, overrides: Sequence[str] = ()) -> ReadCluster:
    """Return the profile of a file with `--set` texts laid over it.

    Raises SpecError with every problem that was found, in reading order.
    """
    opened = open_document(file)
    problems = list(opened.problems)
    tree = resolve(apply_overrides(opened.tree, overrides, problems), problems)
    found = validated(tree, ClusterSpec, check_cluster, doubtful=bool(problems))
    problems += found.problems + [placed(tree, finding) for finding in found.findings]
    if problems or found.spec is None:
        raise SpecError(ordered(problems, opened.files))
    return ReadCluster(found.spec, opened.file, opened.text, tree)


def is_cluster(file: str | FilePath) -> bool:
    """Say whether a file is a cluster profile: more of its fields are those of profiles than those of experiments.

    A field counts for what it is nearest to, so that a misspelt one does not make a profile an experiment. One with
    nothing but `resources`, which both have, is a profile: no experiment can do with that. A sweep, or a file that
    cannot be read, is none.
    """
    try:
        written = open_document(file).tree.value
    except SpecError:
        return False
    profile, experiment = set(fields_of(ClusterSpec)), set(fields_of(Experiment))
    names = [nearest(name, profile | experiment) for name in written]
    only = [sum(name in fields for name in names) for fields in (profile - experiment, experiment - profile)]
    return "experiment" not in written and (only[0] > only[1] or (only == [0, 0] and "resources" in names))
