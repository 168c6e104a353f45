"""Terms that cannot work with the model or the data that they are given."""

from collections.abc import Iterator

from tokexp.spec.base import field_value
from tokexp.spec.data import GivenTokens
from tokexp.spec.experiment import Experiment
from tokexp.spec.findings import Finding
from tokexp.spec.stems import FrozenStem, MotoStem
from tokexp.spec.terms import Orthogonality, TermSpec
from tokexp.spec.token_prop import TokenProp
from tokexp.spec.yaml_tree import Path

_STEM, _INPUT = ("model", "stem"), ("model", "input")


def check_terms(spec: Experiment) -> Iterator[Finding]:
    """Yield terms that have nothing to train, or nothing to compare."""
    phases: list[tuple[Path, object]] = [(("objective",), spec.objective)]
    phases += [(("tasks", name), task) for name, task in spec.tasks.items()]
    for path, phase in phases:
        for number, term in enumerate(field_value(phase, "terms", ())):
            yield from _check_term(spec, (*path, "terms", number), term)


def _check_term(spec: Experiment, path: Path, term: TermSpec) -> Iterator[Finding]:
    stem = spec.model.stem
    if isinstance(term, TokenProp) and isinstance(stem, FrozenStem):
        message = "token_prop trains the stem, and a frozen one is never trained; leave one of them out"
        yield Finding(path, message, (path, _STEM))
    if isinstance(term, Orthogonality) and not (isinstance(stem, MotoStem) and stem.norm == "regions"):
        yield Finding(path, "orthogonality holds the filters of MoTo's regions; stem moto is needed", (path, _STEM))
    if isinstance(term, TokenProp) and term.vgg is not None:
        colour = not isinstance(spec.data, GivenTokens) and spec.data.image_shape()[0] == 3
        if spec.model.input != "pixels" or not colour:
            message = f"{term.distance} compares pictures of 3 channels by VGG-19; this model reads something else"
            yield Finding((*path, "distance"), message, (path, _INPUT, ("data",)))
