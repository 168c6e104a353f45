"""Tasks as arrays of jobs: as few as possible, each with the jobs that it waits for.

Tasks of one kind with equal resources, followed by the same pattern of tasks, make an array. Where each of its
elements has one such follower, these make an array too, which waits for it element by element (`aftercorr`); what
hangs on a single job waits for that one (`afterok`). So a thousand trials of one shape take one array for each stage.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tokexp.launch.base import Task


@dataclass(frozen=True)
class Need:
    """What an array waits for: one element of the array with a number, or (`index` None) each for its own."""

    array: int
    index: int | None


@dataclass(frozen=True)
class JobArray:
    """Tasks that are submitted by one call; `outside` are the ids of jobs from earlier calls that all wait for."""

    tasks: tuple[Task, ...]
    needs: tuple[Need, ...] = ()
    outside: tuple[str, ...] = ()


def plan_arrays(tasks: Sequence[Task], outside: Mapping[Path, str], max_array: int) -> list[JobArray]:
    """Return the arrays to submit, each behind those that it waits for, with at most `max_array` tasks.

    outside: the ids of live jobs for what tasks come after that is not among them; what is in neither needs no wait.
    """
    return _Planner(tasks, outside, max_array).plan()


def dependency(array: JobArray, sizes: Sequence[int], ids: Sequence[str]) -> str | None:
    """Return the text for `--dependency`, given sizes and job ids of the arrays before; None if it waits for none."""
    exact = [*array.outside]
    for need in array.needs:
        if need.index is not None:
            exact.append(ids[need.array] if sizes[need.array] == 1 else f"{ids[need.array]}_{need.index}")
    each = [f"aftercorr:{ids[need.array]}" for need in array.needs if need.index is None]
    return ",".join([*(["afterok:" + ":".join(exact)] if exact else []), *each]) or None


@dataclass
class _Planner:
    tasks: Sequence[Task]
    outside: Mapping[Path, str]
    max_array: int
    arrays: list[JobArray] = field(default_factory=list)
    places: dict[Path, Need] = field(default_factory=dict)
    parents: Mapping[Path, Sequence[Path]] = field(default_factory=dict)
    shapes: Mapping[Path, int] = field(default_factory=dict)

    def plan(self) -> list[JobArray]:
        known = {task.folder for task in self.tasks}
        given = {
            task.folder: [each for each in task.after if each in known or each in self.outside] for task in self.tasks
        }
        self.parents = _reduced(given)
        depths = _depths(self.parents, known)
        self.shapes = _shapes(self.tasks, self.parents, depths)
        levels: dict[int, list[Task]] = {}
        for task in self.tasks:
            levels.setdefault(depths[task.folder], []).append(task)
        for _, level in sorted(levels.items()):
            classes: dict[Hashable, list[Task]] = {}
            for task in level:
                classes.setdefault(self._class_of(task), []).append(task)
            for members in classes.values():
                self._place(members)
        return self.arrays

    def _class_of(self, task: Task) -> Hashable:
        """Return what tasks of one array have in common."""
        behind = frozenset(place.array for place in self._places(task))
        return task.kind, task.resources, self.shapes[task.folder], behind, self._outside(task)

    def _places(self, task: Task) -> list[Need]:
        return [self.places[parent] for parent in self.parents[task.folder] if parent in self.places]

    def _outside(self, task: Task) -> tuple[str, ...]:
        return tuple(sorted({self.outside[each] for each in self.parents[task.folder] if each in self.outside}))

    def _place(self, members: Sequence[Task]) -> None:
        for needs, tasks in self._split(members):
            for start in range(0, len(tasks), self.max_array):
                part = tuple(tasks[start : start + self.max_array])
                for index, task in enumerate(part):
                    self.places[task.folder] = Need(len(self.arrays), index)
                self.arrays.append(JobArray(part, tuple(needs), self._outside(part[0])))

    def _split(self, members: Sequence[Task]) -> Iterator[tuple[Sequence[Need], Sequence[Task]]]:
        ranks = self._side_by_side(members)
        if ranks is not None:
            numbers = sorted({place.array for place in self._places(members[0])})
            needs = [Need(number, 0 if len(self.arrays[number].tasks) == 1 else None) for number in numbers]
            for rank in ranks:
                yield needs, rank
            return
        same: dict[frozenset[Need], list[Task]] = {}
        for task in members:
            same.setdefault(frozenset(self._places(task)), []).append(task)
        for places, tasks in same.items():
            yield sorted(places, key=lambda place: (place.array, place.index or 0)), tasks

    def _side_by_side(self, members: Sequence[Task]) -> list[list[Task]] | None:
        """Return members in lists that match the arrays they come after element for element, if that can be."""
        numbers = {place.array for place in self._places(members[0])}
        lengths = {len(self.arrays[number].tasks) for number in numbers} - {1}
        if len(lengths) != 1:
            return None
        [length] = lengths
        by_index: dict[int, list[Task]] = {}
        for task in members:
            places = self._places(task)
            indices = {place.index for place in places if len(self.arrays[place.array].tasks) > 1}
            if len(places) != len(numbers) or len(indices) != 1:
                return None
            by_index.setdefault(indices.pop() or 0, []).append(task)
        each = len(by_index[min(by_index)])
        if len(by_index) != length or each > length or any(len(tasks) != each for tasks in by_index.values()):
            return None
        return [[by_index[index][rank] for index in range(length)] for rank in range(each)]


def _reduced(given: Mapping[Path, Sequence[Path]]) -> dict[Path, list[Path]]:
    """Drop what is waited for already because something else that is waited for waits for it."""
    above: dict[Path, frozenset[Path]] = {}

    def all_above(folder: Path) -> frozenset[Path]:
        if folder not in above:
            direct = given.get(folder, ())
            above[folder] = frozenset(direct).union(*(all_above(each) for each in direct))
        return above[folder]

    return {
        folder: [each for each in dict.fromkeys(direct) if not any(each in all_above(other) for other in direct)]
        for folder, direct in given.items()
    }


def _depths(parents: Mapping[Path, Sequence[Path]], known: set[Path]) -> dict[Path, int]:
    depths: dict[Path, int] = {}

    def depth(folder: Path) -> int:
        if folder not in depths:
            depths[folder] = 1 + max((depth(each) for each in parents[folder] if each in known), default=-1)
        return depths[folder]

    return {folder: depth(folder) for folder in parents}


def _shapes(
    tasks: Sequence[Task], parents: Mapping[Path, Sequence[Path]], depths: Mapping[Path, int]
) -> dict[Path, int]:
    """Number the patterns of what follows on a task, so that those with equal numbers can be matched to the end."""
    children: dict[Path, list[Path]] = {}
    for folder, above in parents.items():
        for each in above:
            children.setdefault(each, []).append(folder)
    numbers: dict[Hashable, int] = {}
    shapes: dict[Path, int] = {}
    for task in sorted(tasks, key=lambda task: -depths[task.folder]):
        below = tuple(sorted(shapes[child] for child in children.get(task.folder, ())))
        shapes[task.folder] = numbers.setdefault((task.kind, task.resources, below), len(numbers))
    return shapes
