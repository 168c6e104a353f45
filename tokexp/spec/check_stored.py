"""What cannot be learned from a token store that is given as data."""

from collections.abc import Iterator

from tokexp.spec.data import TokenStoreData
from tokexp.spec.experiment import Experiment
from tokexp.spec.findings import Finding
from tokexp.spec.objectives import Supervised
from tokexp.spec.yaml_tree import Path

_TRAIN = ("data", "train")


def check_stored(spec: Experiment) -> Iterator[Finding]:
    """Yield what needs labels where the training store, if it can be read here, has none to tell apart."""
    if not isinstance(spec.data, TokenStoreData) or spec.until is not None:
        return
    shape = spec.data.token_shape()
    if shape is None or (spec.data.classes or shape.classes or 0) > 1:
        return
    needs: list[Path] = [("tasks", name) for name in spec.tasks]
    needs += [("objective",)] if isinstance(spec.objective, Supervised) else []
    if needs:
        learners = " and ".join(".".join(map(str, path)) for path in needs)
        message = f"{spec.data.train!r} holds images without labels (all are of one class), and classes are learned by "
        message += f"{learners}; tokenize a folder of class folders"
        yield Finding(_TRAIN, message, (_TRAIN, ("data", "classes"), *needs))
