"""From a sweep's YAML file to a validated sweep and the experiments that it stands for, or to all of its problems.

The sweep's own file comes first, then the experiment that it names with `set` and `--set` laid over it, then every
static point, then every choice and bound of the space. What is wrong with a point is said at the sweep's own lines.
"""

import os
from collections.abc import Sequence
from pathlib import Path as FilePath

from tokexp.errors import Problem, SpecError
from tokexp.spec.check_names import check_names
from tokexp.spec.check_sweep import check_sweep
from tokexp.spec.experiment import Experiment
from tokexp.spec.findings import Finding
from tokexp.spec.laying import MOST_POINTS, Written
from tokexp.spec.overrides import SET, apply_items, apply_overrides
from tokexp.spec.probing import probes
from tokexp.spec.reading import Document, open_document
from tokexp.spec.references import resolve
from tokexp.spec.shape import fields_of
from tokexp.spec.sweep import SweepSpec
from tokexp.spec.sweep_paths import sweep_keys
from tokexp.spec.sweep_points import ReadSweep, assembled, faults_of, thaw
from tokexp.spec.validating import Validated, ordered, placed, rests, validated
from tokexp.spec.wording import nearest

__all__ = ["ReadSweep", "is_experiment", "is_sweep", "read_sweep", "thaw"]


def read_sweep(file: str | FilePath, overrides: Sequence[str] = ()) -> ReadSweep:
    """Return the sweep of a file with `--set` texts laid over it.

    A path whose first word is a field of sweeps, or most like one, goes to the sweep, any other to its experiment.
    Raises SpecError with every problem that was found, in reading order.
    """
    own = [text for text in overrides if _is_own(_first_word(text))]
    return _Reader(file, own, [text for text in overrides if text not in own]).read()


def is_sweep(file: str | FilePath) -> bool:
    """Say whether a file is a sweep: its document has a field of sweeps alone. A file that cannot be read is none."""
    try:
        given = open_document(file).tree.value
    except SpecError:
        return False
    own = fields_of(SweepSpec).keys() - fields_of(Experiment).keys()
    return isinstance(given, dict) and not own.isdisjoint(given)


def is_experiment(file: str | FilePath) -> bool:
    """Say whether a file is an experiment: it has fields of experiments alone, and none of sweeps alone."""
    own, others = fields_of(Experiment).keys(), fields_of(SweepSpec).keys()
    try:
        given = open_document(file).tree.value
    except SpecError:
        return False
    return isinstance(given, dict) and not (own - others).isdisjoint(given) and (others - own).isdisjoint(given)


class _Reader:
    """Reads one sweep; `problems` collects all that is wrong."""

    def __init__(self, file: str | FilePath, own: Sequence[str], rest: Sequence[str]) -> None:
        self.opened, self.rest = open_document(file), rest
        self.problems = list(self.opened.problems)
        self.files = list(self.opened.files)
        self.asked = apply_overrides(self.opened.tree, own, self.problems, sweep_keys)
        self.tree = resolve(self.asked, self.problems)

    def read(self) -> ReadSweep:
        found = validated(self.tree, SweepSpec, check_sweep, doubtful=bool(self.problems))
        self.problems += found.problems + [placed(self.tree, finding) for finding in found.findings]
        document = self._experiment()
        read = None
        if document is not None and found.spec is not None:
            read = self._joined(found, document)
        if self.problems or read is None:
            raise SpecError(ordered(self.problems, self.files))
        return read

    def _experiment(self) -> Document | None:
        """Return the experiment's document, or None with the reason among the problems."""
        item = self.tree.value.get("experiment") if isinstance(self.tree.value, dict) else None
        if item is None or not isinstance(item.value, str) or not item.value:
            return None
        folder = FilePath() if item.place.file == SET else FilePath(item.place.file).parent
        name = os.path.normpath(folder / item.value)
        try:
            document = open_document(name)
        except SpecError as error:
            absent = [each for each in error.problems if each.file == name and each.line is None]
            self.problems += [each for each in error.problems if each not in absent]
            for each in absent:
                message = f"{item.value}: {each.message} (looked for {name})"
                self.problems.append(item.place.problem(("experiment",), message))
            return None
        self.files += document.files
        self.problems += document.problems
        if "experiment" in document.tree.value:
            self.problems.append(item.place.problem(("experiment",), f"{item.value} is a sweep; name an experiment"))
            return None
        return document

    def _joined(self, found: Validated[SweepSpec], document: Document) -> ReadSweep | None:
        """Lay the sweep over the experiment and look at all that comes of it."""
        assert found.spec is not None
        sweep, problems = found.spec, list[Problem]()
        written = Written(sweep, self.tree, self.asked)
        tree = apply_items(document.tree, [(each.path, each.item) for each in written.common()], problems)
        document.tree = apply_overrides(tree, self._allowed(sweep), problems)
        read = assembled(written, document, self.opened.text, self.opened.file)
        faults = faults_of(read)
        self.problems += [faults.relocated(problem) for problem in problems]
        self.problems += faults.problems()
        self.problems += self._names(read, found)
        return read

    def _allowed(self, sweep: SweepSpec) -> list[str]:
        """Return the `--set` texts for the experiment; one for what the sweep varies would change nothing."""
        allowed = []
        for text in self.rest:
            path = text.partition("=")[0].strip()
            varied = [(block, each) for block in ("grid", "zip", "space") for each in getattr(sweep, block)]
            over = next((pair for pair in varied if path == pair[1] or path.startswith(pair[1] + ".")), None)
            if over is None:
                allowed.append(text)
            else:
                message = f"this sweep varies {over[1]}; write --set {'.'.join(over)}=..."
                self.problems.append(Problem(SET, path, message))
        return allowed

    def _names(self, read: ReadSweep, found: Validated[SweepSpec]) -> list[Problem]:
        experiments = [point.variant.experiment for point in read.points if point.variant is not None]
        experiments += [read.variants.base] if read.variants.base is not None else []
        # Choices of the space may bring stages and metrics that no static point has.
        chosen = (read.variants.at(probe) for probe in probes(Written(read.sweep, read.tree, read.asked)))
        experiments += [each.experiment for each in chosen if each is not None] if read.sweep.searched else []
        if not experiments:
            return []
        points = [point.assignment.case for point in read.points]
        findings = check_names(read.sweep, experiments, points)
        if read.sweep.exclude and 0 < read.sweep.size <= MOST_POINTS and not points:
            findings.append(Finding(("exclude",), "every point is excluded; nothing would be left to run", ()))
        return [placed(self.tree, each) for each in findings if rests(each, found.dropped)]


def _is_own(word: str) -> bool:
    own, others = fields_of(SweepSpec), fields_of(Experiment)
    return word in own or (word not in others and nearest(word, [*others, *own]) in own.keys() - others.keys())


def _first_word(text: str) -> str:
    return text.partition("=")[0].partition(".")[0].strip()
