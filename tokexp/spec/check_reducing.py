"""Contradictions of `storage.reduce` with the rest of an experiment: what it cannot act on, and parameters that clash.

What is stored is decided once: by a written parameter, or by a budget that is solved for one.
"""

from collections.abc import Iterator

from tokexp.spec.experiment import Experiment
from tokexp.spec.findings import Finding
from tokexp.spec.reducing import SOLVED, DistilledReduce, FractionReduce
from tokexp.spec.token_targets import PredictsTokens
from tokexp.spec.wording import listed
from tokexp.spec.yaml_tree import Path

_REDUCE, _INPUT = ("storage", "reduce"), ("model", "input")
_BUDGET, _FRACTION = ("storage", "budget"), ("storage", "fraction")


def check_reducing(spec: Experiment) -> Iterator[Finding]:
    """Yield what a storage policy for images cannot do here."""
    if spec.storage.reduce is None:
        return
    if spec.model.input == "tokens":
        message = "stores images, and this model reads tokens (write model.input: pixels, or cut tokens by "
        message += "storage.budget or storage.fraction)"
        yield Finding(_REDUCE, message, (_REDUCE, _INPUT))
        return
    yield from _check_targets(spec)
    yield from _check_bounds(spec)


def _check_targets(spec: Experiment) -> Iterator[Finding]:
    if isinstance(spec.objective, PredictsTokens) and spec.objective.targets == "stored":
        path = ("objective", "targets")
        message = "stored given; stored tokens are those of the images as they were, and what is read is reduced "
        yield Finding(path, message + "(write encoded)", (path, _REDUCE, _INPUT))


def _check_bounds(spec: Experiment) -> Iterator[Finding]:
    storage, reduce = spec.storage, spec.storage.reduce
    if isinstance(reduce, DistilledReduce):
        for bound, value in ((_BUDGET, storage.budget), (_FRACTION, storage.fraction)):
            if value is not None:
                yield Finding(bound, "a distilled set is stored whole; leave it out", (bound, _REDUCE))
        return
    assert reduce is not None
    if isinstance(reduce, FractionReduce) and storage.fraction is not None:
        message = "given beside a policy that keeps a share itself; write storage.reduce.share instead"
        yield Finding(_FRACTION, message, (_FRACTION, _REDUCE))
        return
    names = SOLVED.get(reduce.kind, ())
    given: list[Path] = [(*_REDUCE, name) for name in names if getattr(reduce, name) is not None]
    if given and storage.budget is not None:
        message = f"given beside a budget, which decides {listed(names, 'and')}; leave one of them out"
        yield Finding(given[0], message, (given[0], _BUDGET))
    lists_all = isinstance(reduce, FractionReduce) and reduce.select == "per_class"
    if names and not given and storage.budget is None and not lists_all:
        path = (*_REDUCE, names[0])
        yield Finding(path, f"missing; give {listed(names, 'or')}, or a storage.budget to solve for it", (path,))
