"""What is wrong with the points of a sweep: each thing said once, at its place in the sweep's file."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from tokexp.errors import Problem
from tokexp.spec.findings import Finding
from tokexp.spec.laying import Laid
from tokexp.spec.messages import item_at
from tokexp.spec.validating import placed, touch
from tokexp.spec.variants import Variant, Variants
from tokexp.spec.yaml_tree import Item, Path, Place, dotted

MOST_SHOWN = 100
"""Most problems of points that are said; of the others, only how many there are."""

_LONGEST = 40


@dataclass
class _Fault:
    """One thing that is wrong, the first point that has it, and how many have."""

    problem: Problem
    context: str
    marks: frozenset[str]
    always: bool
    points: int = 0


@dataclass
class PointFaults:
    """Collects faults of points. `others` are paths that a search will set too: what they can mend is not said."""

    variants: Variants
    sweep: Item
    others: Sequence[str] = ()
    _faults: dict[tuple[Problem, frozenset[str]], _Fault] = field(default_factory=dict)
    _own: dict[Problem, None] = field(default_factory=dict)
    _good: set[str] = field(default_factory=set)
    _seen: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        """Find what is wrong with the experiment before anything is laid over it."""
        self._places = _places(self.sweep)
        _, found = self.variants.look(())
        self._base = dict.fromkeys(found.problems)
        self._own.update(dict.fromkeys(map(self.relocated, found.problems)))

    def add(self, values: Sequence[Laid], variant: Variant | None) -> None:
        """Take a point: its values, and what came of them."""
        marks = {each.mark for each in values}
        if variant is not None:
            self._good |= marks
            self._seen |= marks
            for finding in variant.findings:
                self._combination(values, finding)
        elif not self._is_explained(marks):
            self._seen |= marks
            _, found = self.variants.look(values)
            for problem in found.problems:
                if problem not in self._base:
                    self._structure(values, problem)
            for finding in found.findings:
                self._combination(values, finding)

    def problems(self) -> list[Problem]:
        """Return all problems; what holds for some points only names the first and says how many there are."""
        found = list(dict.fromkeys(self._said(fault) for fault in self._faults.values()))
        left = len(found) - MOST_SHOWN
        if left > 0:
            message = f"{left} more problems of points; correct these first"
            found = [*found[:MOST_SHOWN], replace(found[MOST_SHOWN - 1], path="", message=message)]
        return [*self._own, *found]

    def _said(self, fault: _Fault) -> Problem:
        # A value that is sound in another point is wrong only together with others.
        if fault.always and not fault.marks & self._good:
            return fault.problem
        more = f" (and {fault.points - 1} more point{'s' if fault.points > 2 else ''})" if fault.points > 1 else ""
        return replace(fault.problem, message=f"{fault.context}: {fault.problem.message}{more}")

    def _is_explained(self, marks: set[str]) -> bool:
        """Say whether a point that is not valid tells nothing new: its values, and why it is not, are known."""
        if not marks <= self._seen:
            return False
        known = [fault for fault in self._faults.values() if fault.marks <= marks]
        for fault in known:
            fault.points += 1
        return bool(known or self._base)

    def _structure(self, values: Sequence[Laid], problem: Problem) -> None:
        path = _split(problem.path)
        owner = self._owner(values, problem)
        if owner is not None:
            where = self._where(problem) or (*owner.where, *path[len(_parts(owner)) :])
            self._note(replace(problem, path=dotted(where)), values, [owner], always=True)
            return
        if any(touch(path, _split(other)) for other in self._left(values)):
            return
        involved = [each for each in values if touch(_parts(each), path)] or list(values)
        self._note(_at(involved[-1], ": ".join(filter(None, [problem.path, problem.message]))), values, involved)

    def _owner(self, values: Sequence[Laid], problem: Problem) -> Laid | None:
        """Return the value that a problem is about: by its place, or by its path where the value has no line."""
        where = self._where(problem)
        if where is not None:
            own = (each for each in values if touch(each.where, where))
            return next(own, None) or next((each for each in values if touch(_parts(each), _split(problem.path))), None)
        placeless = [each for each in values if each.item.place == Place(problem.file, problem.line, problem.column)]
        return next((each for each in placeless if touch(_parts(each), _split(problem.path))), None)

    def _combination(self, values: Sequence[Laid], finding: Finding) -> None:
        paths = [tuple(map(str, path)) for path in (finding.path, *finding.because)]
        if any(touch(path, _split(other)) for path in paths for other in self._left(values)):
            return
        involved = [each for each in values if any(touch(_parts(each), path) for path in paths)]
        if not involved:
            self._own[self.relocated(placed(self.variants.resolved, finding))] = None
            return
        at = next((each for each in involved if _parts(each) == paths[0][: len(_parts(each))]), None)
        if at is None:
            problem = _at(involved[-1], f"{dotted(finding.path)}: {finding.message}")
        else:
            inside = finding.path[len(_parts(at)) :]
            item, _ = item_at(at.item, inside)
            problem = item.anchor.problem((*at.where, *inside), finding.message)
        self._note(self.relocated(problem), values, involved)

    def _note(self, problem: Problem, values: Sequence[Laid], involved: Sequence[Laid], always: bool = False) -> None:
        marks = frozenset(each.mark for each in involved)
        context = _context(values, values if always else involved)
        fault = self._faults.setdefault(
            (problem, marks if always else frozenset()), _Fault(problem, context, marks, always)
        )
        fault.points += 1

    def _left(self, values: Sequence[Laid]) -> list[str]:
        taken = {each.path for each in values}
        return [other for other in self.others if other not in taken]

    def _where(self, problem: Problem) -> Path | None:
        return self._places.get(Place(problem.file, problem.line, problem.column))

    def relocated(self, problem: Problem) -> Problem:
        """Return a problem under the sweep's own path, if it is at one of the sweep's places."""
        where = self._where(problem)
        return problem if where is None else replace(problem, path=dotted(where))


def _parts(value: Laid) -> tuple[str, ...]:
    return _split(value.path)


def _split(path: str) -> tuple[str, ...]:
    return tuple(path.split("."))


def _at(value: Laid, message: str) -> Problem:
    return value.item.place.problem(value.where, message)


def _context(values: Sequence[Laid], involved: Iterable[Laid]) -> str:
    case = next((str(each.where[1]) for each in values if each.where[0] == "cases"), None)
    named = [f"case {case}"] if case is not None else []
    named += [f"{each.path} {_short(each.label)}" for each in involved]
    return "with " + ", ".join(dict.fromkeys(named))


def _short(label: str) -> str:
    return label if len(label) <= _LONGEST else label[: _LONGEST - 3] + "..."


def _places(sweep: Item) -> Mapping[Place, Path]:
    """Return the path of what is written at each place of a sweep; a policy is found where it is written."""
    found: dict[Place, Path] = {}
    blocks = sweep.value.items() if isinstance(sweep.value, dict) else ()
    for name, item in sorted(blocks, key=lambda pair: pair[0] != "policies"):
        _collect(item, (name,), found)
    return found


def _collect(item: Item, path: Path, found: dict[Place, Path]) -> None:
    # A block begins where its first key stands, and messages about a block with a key of its own point at that.
    inner = item.key is not None and isinstance(item.value, (dict, list))
    for place in (item.key, None if inner else item.place):
        if place is not None and place.line is not None:
            found.setdefault(place, path)
    if isinstance(item.value, dict):
        for key, child in item.value.items():
            _collect(child, (*path, key), found)
    elif isinstance(item.value, list):
        for number, child in enumerate(item.value):
            _collect(child, (*path, number), found)
