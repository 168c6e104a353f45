"""The whole sweep: an experiment, and a list, a grid or a space of values that are laid over it."""

from math import prod
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from tokexp.spec.base import Spec
from tokexp.spec.conditions import Condition
from tokexp.spec.experiment import Name, RunSeed
from tokexp.spec.published import Published
from tokexp.spec.searching import Dimension, NoPruner, PrunerSpec, SamplerSpec, Tpe


def _metric_name(name: str) -> str:
    stage, slash, metric = name.rpartition("/")
    if not (stage and slash and metric):
        raise ValueError("a stage and a metric are needed, such as finetune/top1 or storage/bytes_per_image")
    return name


MetricName = Annotated[str, AfterValidator(_metric_name), Field(max_length=150)]
CaseName = Annotated[str, Field(min_length=1, max_length=100)]
Values = Annotated[
    tuple[Any, ...], BeforeValidator(lambda given: tuple(given) if isinstance(given, list) else given),
    Field(min_length=1),
]  # fmt: skip


class SweepMetric(Spec):
    """A number that a sweep makes better."""

    name: MetricName = Field(description="Stage and metric, such as finetune/top1 or storage/bytes_per_image.")
    direction: Literal["maximize", "minimize"] = Field(description="Which way is better.")


class Constraint(Spec):
    """A bound that a point must keep to be among the best."""

    metric: MetricName = Field(description="Stage and metric, such as storage/bytes_per_image.")
    at_most: float | None = Field(None, description="Largest value.")
    at_least: float | None = Field(None, description="Least value.")

    @model_validator(mode="after")
    def _has_one_bound(self) -> Self:
        if (self.at_most is None) == (self.at_least is None):
            raise ValueError("one of at_most and at_least is needed")
        return self

    def violation(self, value: float) -> float:
        """Return by how much a value breaks the bound; 0 or less if it keeps it."""
        if self.at_most is not None:
            return value - self.at_most
        assert self.at_least is not None
        return self.at_least - value


class SweepBudget(Spec):
    """Where a sweep ends, and how much of it runs at once."""

    trials: int | None = Field(None, ge=1, description="Most trials (points x seeds); a search needs it.")
    gpu_hours: float | None = Field(None, gt=0, description="GPU hours of all trials together, never exceeded.")
    failures: int | None = Field(None, ge=0, description="Failed trials after which no trial is started.")
    parallel: int | None = Field(None, ge=1, description="Most trials at once.")


class SweepSpec(Spec):
    """An experiment and what is varied in it.

    Static points are cases x grid x zip, in written order; `space` is searched. Once read from a file, `seeds` and
    `metrics` are never empty: they are then the experiment's seeds, and `<first task>/top1`.
    """

    schema_version: Literal[1] = Field(alias="schema", description="Version of the language.")
    name: Name = Field("sweep", description="Name in tables and in MLflow; letters, digits, '_', '.', '-'.")
    experiment: str = Field(min_length=1, description="File of the experiment, relative to this one.")
    set: dict[str, Any] = Field({}, description="Path to value: laid over the experiment for every trial.")
    cases: dict[CaseName, dict[str, Any]] = Field({}, description="Named lists of path to value.")
    grid: dict[str, Values] = Field({}, description="Path to values; all combinations.")
    zip: dict[str, Values] = Field({}, description="Path to values, all of one length; first with first, and so on.")
    space: dict[str, Dimension] = Field({}, description="Path to what is searched there.")
    exclude: tuple[dict[str, Condition], ...] = Field((), description="Points that are left out: path to condition.")
    policies: dict[str, Any] = Field({}, description="Values that ${policies.NAME} refers to.")
    seeds: tuple[RunSeed, ...] = Field((), min_length=1, description="A trial of each point for each seed.")
    baseline: str | None = Field(None, description="The case that others are compared with.")
    metrics: tuple[SweepMetric, ...] = Field((), min_length=1, description="What is made better; several: a front.")
    sampler: SamplerSpec = Field(Tpe(kind="tpe"), description="What chooses points of the space.")
    pruner: PrunerSpec = Field(NoPruner(kind="none"), description="What stops trials that will not be good.")
    constraints: tuple[Constraint, ...] = Field((), description="Bounds that points must keep.")
    budget: SweepBudget = Field(SweepBudget(), description="Where the sweep ends.")
    published: Published | None = Field(None, description="Published numbers to print beside.")

    @property
    def listed(self) -> bool:
        """Whether there are static points: cases, a grid, or `zip`."""
        return bool(self.cases or self.grid or self.zip)

    @property
    def size(self) -> int:
        """The number of static points as written, before `exclude` and before equal ones are merged."""
        rows = min((len(values) for values in self.zip.values()), default=1)
        return max(1, len(self.cases)) * prod(map(len, self.grid.values())) * rows if self.listed else 0

    @property
    def searched(self) -> bool:
        """Whether points are chosen one after another, by what earlier ones gave."""
        return bool(self.space)
