"""What models that do not keep their patches cannot do: hide patches, order them, or compare them one by one."""

from collections.abc import Iterator

from tokexp.spec.bootstrap import Byol
from tokexp.spec.evaluation import SpatialInconsistency
from tokexp.spec.experiment import Experiment
from tokexp.spec.extensions import third_party
from tokexp.spec.findings import Finding
from tokexp.spec.grids import model_sides
from tokexp.spec.morphing_terms import DtmTerm
from tokexp.spec.objectives import Supervised
from tokexp.spec.yaml_tree import Path

_MODEL, _KIND = ("model", "kind"), ("objective", "kind")


def check_backbone(spec: Experiment) -> Iterator[Finding]:
    """Yield what needs patches that stay apart, or a class token, and grids of patches that the stages cannot halve."""
    if spec.model.token_table is not None and spec.objective is not None:
        table = ("model", "token_table")
        message = "a table of the model's own is learned by tasks alone; leave the objective or the table out"
        yield Finding(table, message, (table, ("objective",)))
    yield from patch_work(spec)
    if spec.model.KEEPS_PATCHES:
        return
    for name, task in spec.tasks.items():
        if getattr(task, "features", "mean") == "cls":
            path = ("tasks", name, "features")
            message = f"cls given; {spec.model.kind} has no class token, write features: mean"
            yield Finding(path, message, (path, _MODEL))
    sides = model_sides(spec)
    fault = spec.model.body_fault(spec.model.patch_grid(sides)) if all(sides) else None
    if fault is not None:
        where = ("model", fault[0])
        because = (("data",), ("tokenizer",), ("model", "input"), ("model", "grid"), ("model", "stem"), where)
        yield Finding(where, fault[1], because)


def patch_work(spec: Experiment) -> list[Finding]:
    """Return what works on single patches of a model without them; other reasons against it need not be given."""
    if spec.model.KEEPS_PATCHES:
        return []
    needs = f"model.kind: vit is needed, not {spec.model.kind}"
    return [Finding(path, f"{word} {does}; {needs}", (path, _MODEL)) for path, word, does in _patch_parts(spec)]


def _patch_parts(spec: Experiment) -> Iterator[tuple[Path, str, str]]:
    """Yield where single patches are worked on, by what, and how."""
    objective = spec.objective
    pooled = isinstance(objective, (Supervised, Byol))
    if objective is not None and not pooled and objective.kind not in third_party("objectives"):
        yield _KIND, objective.kind, "hides patches of the model's input"
    elif getattr(objective, "dtm", None) is not None:
        yield ("objective", "dtm"), "dtm", "compares single patches"
    for path, phase in [(("objective",), objective), *((("tasks", name), task) for name, task in spec.tasks.items())]:
        for number, term in enumerate(getattr(phase, "terms", ())):
            if isinstance(term, DtmTerm):
                yield (*path, "terms", number), "dtm", "compares single patches"
    for name, test in spec.evaluate.items():
        if isinstance(test, SpatialInconsistency) and test.encoder is None:
            yield ("evaluate", name, "kind"), test.kind, "looks at the last block's patches"
