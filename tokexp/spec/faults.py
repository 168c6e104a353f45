"""Finding all structural problems of a tree: what is faulty is left out and the rest is looked at again."""

import re
from typing import Generic, TypeVar

from pydantic import ValidationError

from tokexp.errors import Problem
from tokexp.spec.base import Spec
from tokexp.spec.messages import Found, located, message
from tokexp.spec.yaml_tree import Item, Path, faulty_paths, to_plain

ROUNDS = 12
"""Most times that the rest is looked at again."""


AnySpec = TypeVar("AnySpec", bound=Spec)


class Review(Generic[AnySpec]):
    """The problems of a tree that should be a `spec`.

    `dropped` holds the paths whose values are not known because they are faulty. A later round may only report what the
    parts that were left out cannot have caused.
    """

    def __init__(self, tree: Item, spec: type[AnySpec]) -> None:
        """Take a tree with references replaced, and the class of the whole document."""
        self.tree, self.spec = tree, spec
        self.problems: list[Problem] = []
        self.dropped: set[Path] = {path for found in faulty_paths(tree) for path in _removable(found)}
        self._removed: set[Path] = set(self.dropped)
        self._causes: set[Path] = set(self.dropped)

    def run(self) -> AnySpec | None:
        """Fill `problems`; return the spec of what is sound, or None if that is not enough for one."""
        if not version_is_exact(self.tree):
            self._refuse_version()
        for _ in range(ROUNDS):
            try:
                return self.spec.model_validate(to_plain(self.tree, frozenset(self._removed)))
            except ValidationError as error:
                before = len(self._removed)
                # What is left out in this round cannot have caused what the same look at the tree found.
                self._causes = set(self.dropped)
                for found in located(self.tree, self.spec, error):
                    self._take(found)
                if len(self._removed) == before:
                    return None
        return None

    def _refuse_version(self) -> None:
        place = self.tree.value["schema"].place
        self.problems.append(place.problem(("schema",), "the version of the language is needed; write 1"))
        self._removed.add(("schema",))
        self.dropped.add(("schema",))

    def _take(self, found: Found) -> None:
        if not self._is_consequence(found):
            problem = found.problem(message(found))
            if problem not in self.problems:
                self.problems.append(problem)
        if found.type == "extra_forbidden":
            self._removed.add(found.path)
            meant = found.meant()
            if meant is not None:
                self.dropped.add((*found.path[:-1], meant))
                self._causes.add((*found.path[:-1], meant))
            return
        path = found.path[:-1] if found.type == "missing" else found.path
        for each in _removable(path):
            self._removed.add(each)
            self.dropped.add(each)

    def _is_consequence(self, found: Found) -> bool:
        if found.type == "missing":
            return any(found.path[: len(path)] == path for path in self._causes)
        if found.type == "too_short" and isinstance(found.given, list):  # pydantic leaves faulty members out
            return len(found.given) >= int(found.context["min_length"])
        inside = [path[len(found.path) :] for path in self.dropped if path[: len(found.path)] == found.path]
        if found.type in ("union_tag_invalid", "union_tag_not_found"):
            return any(len(path) == 1 for path in inside)
        if found.type != "value_error":
            return False
        given = found.given if isinstance(found.given, dict) else {}
        if given and all((*found.path, key) in self._removed for key in given):
            return True  # All that was written in it is not known.
        words = {str(part) for path in inside for part in path}
        text = str(found.context.get("error", ""))
        return any(re.search(rf"\b{re.escape(word.rstrip('s'))}s?\b", text) for word in words if word)


def version_is_exact(tree: Item) -> bool:
    """Say whether `schema` is not one of the values that equal 1 without being the number 1, such as true."""
    version = tree.value.get("schema")
    return version is None or not isinstance(version.value, (bool, float))


def _removable(path: Path) -> list[Path]:
    """Return what to leave out for a faulty path: a whole list rather than a member, so that positions stay."""
    while path and isinstance(path[-1], int):
        path = path[:-1]
    return [path] if path else []
