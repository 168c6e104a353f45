"""The verb `show --model`: the weights and the multiplications of an experiment's model, by part."""

from dataclasses import asdict
from pathlib import Path

from tokexp.errors import InputError, TokexpError
from tokexp.spec.data import GivenTokens
from tokexp.spec.experiment import Experiment
from tokexp.spec.token_prop import TokenProp
from tokexp.verbs.printing import console, print_json

_CLASSES = 1000


def show_model(file: str | Path, overrides: list[str], json: bool) -> int:
    """Print the size of the model of an experiment. Raises SpecError, and InputError for another kind of file.

    The head counts where the data, and so the number of classes, is on this machine. Returns 0.
    """
    from tokexp.spec.cluster_reading import is_cluster
    from tokexp.spec.reading import read_experiment
    from tokexp.spec.sweep_reading import is_sweep

    if is_sweep(file) or is_cluster(file):
        raise InputError(f"{file}: this is no experiment; only an experiment has a model to show")
    experiment = read_experiment(file, overrides).experiment
    from tokexp.stages.model_size import model_size

    channels, grid, classes = _read_by(experiment)
    parts = model_size(experiment.model, channels, grid, classes, _decoders(experiment))
    if json:
        found = {"channels": channels, "grid": list(grid), "classes": classes}
        print_json({"file": str(file), **found, "parts": [asdict(part) for part in parts]})
        return 0
    from rich.table import Table

    unit = "pixels" if experiment.model.input == "pixels" else "tokens"
    table = Table("part", "parameters", "GFLOPs", box=None, pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    for part in parts:
        table.add_row(part.name, _in_millions(part.parameters), f"{part.multiplications / 1e9:.3g}")
    console().print(table)
    console().print(
        f"for one image of {channels} x {grid[0]} x {grid[1]} {unit}; a FLOP is a multiplication with its addition"
    )
    if classes is None:
        whole = next(part for part in model_size(experiment.model, channels, grid, _CLASSES) if part.name == "model")
        console().print(
            f"without a classifier, as the data are not here to count classes; with {_CLASSES:,} of them, as papers on "
            f"ImageNet-1k count: {_in_millions(whole.parameters)}"
        )
    return 0


def _read_by(experiment: Experiment) -> tuple[int, tuple[int, int], int | None]:
    """Return channels, (rows, columns) of what the model reads, and the classes if they are known here."""
    from tokexp.plan.estimate import shape_of
    from tokexp.plan.graph import build_plan
    from tokexp.registry import implementation

    model = experiment.model
    try:
        classes = len(implementation("data", experiment.data.kind)(experiment.data).classes)
    except TokexpError:
        classes = None
    if model.input == "pixels":
        assert not isinstance(experiment.data, GivenTokens), "released tokens are no pixels"
        channels, rows, columns = experiment.data.image_shape()
        return channels, (rows, columns), classes
    shape = shape_of([node.payload for node in build_plan(experiment, strict=False).nodes], {})
    return model.token_table or shape.width, shape.grid if model.grid is None else (model.grid, model.grid), classes


def _decoders(experiment: Experiment) -> list[TokenProp]:
    phases = [experiment.objective, *experiment.tasks.values()]
    terms = [term for phase in phases for term in getattr(phase, "terms", ())]
    return [term for term in dict.fromkeys(terms) if isinstance(term, TokenProp)]


def _in_millions(count: int) -> str:
    return f"{count / 1e6:.2f} M" if count >= 1e6 else f"{count:,}"
