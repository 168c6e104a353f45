"""How a space is searched: dimensions, samplers and pruners, under Optuna's meanings with this language's names."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, Tag, model_validator

from tokexp.spec.base import Spec, neutral
from tokexp.spec.conditions import Condition
from tokexp.spec.extensions import Kinds

_WHEN = "Dimension to condition: this one exists only where all of them hold."


class Choice(Spec):
    """One of several values of any type."""

    choice: tuple[Any, ...] = Field(min_length=1, description="The values.")
    when: dict[str, Condition] = Field({}, description=_WHEN)


class FloatRange(Spec):
    """A number between two bounds, both included."""

    bounds: tuple[float, float] = Field(alias="float", description="Lowest and highest value.")
    log: bool = Field(False, description="Whether the logarithm is searched evenly.")
    step: float | None = Field(None, gt=0, description="Distance of neighbouring values; any number if not given.")
    when: dict[str, Condition] = Field({}, description=_WHEN)

    @model_validator(mode="after")
    def _bounds_fit(self) -> Self:
        _check_bounds(self.low, self.high, self.log, self.step is not None)
        return self

    @property
    def low(self) -> float:
        """The lowest value."""
        return self.bounds[0]

    @property
    def high(self) -> float:
        """The highest value."""
        return self.bounds[1]


class IntRange(Spec):
    """A whole number between two bounds, both included."""

    bounds: tuple[int, int] = Field(alias="int", description="Lowest and highest value.")
    log: bool = Field(False, description="Whether the logarithm is searched evenly.")
    step: int = Field(1, ge=1, description="Distance of neighbouring values.")
    when: dict[str, Condition] = Field({}, description=_WHEN)

    @model_validator(mode="after")
    def _bounds_fit(self) -> Self:
        _check_bounds(self.low, self.high, self.log, self.step != 1)
        return self

    @property
    def low(self) -> int:
        """The lowest value."""
        return self.bounds[0]

    @property
    def high(self) -> int:
        """The highest value."""
        return self.bounds[1]


def _check_bounds(low: float, high: float, log: bool, stepped: bool) -> None:
    if low >= high:
        raise ValueError(f"the lower bound {low} must be below the upper bound {high}")
    if log and low <= 0:
        raise ValueError(f"the lower bound {low} must be above 0 where log is true")
    if log and stepped:
        raise ValueError("log and step exclude one another; write one of them")


DIMENSIONS = {"choice": Choice, "float": FloatRange, "int": IntRange}


def _dimension_tag(value: Any) -> str | None:
    if isinstance(value, Spec):
        return next((word for word, cls in DIMENSIONS.items() if isinstance(value, cls)), None)
    return next((word for word in DIMENSIONS if word in value), None) if isinstance(value, Mapping) else None


Dimension = Annotated[
    Annotated[Choice, Tag("choice")] | Annotated[FloatRange, Tag("float")] | Annotated[IntRange, Tag("int")],
    Kinds("dimensions", _dimension_tag),
]

_SEED = "Seed of what is drawn."
_STARTUP = "Points drawn at random before the method starts."


class _Sampler(Spec):
    storage: str | None = neutral(None, description="Optuna storage URL; a journal file beside the sweep if not given.")


class Grid(_Sampler):
    """Every combination of the space, each once; ranges need a step. Own enumeration."""

    kind: Literal["grid"]


class Random(_Sampler):
    """Independent draws."""

    kind: Literal["random"]
    seed: int = Field(0, ge=0, lt=2**32, description=_SEED)


class Tpe(_Sampler):
    """Tree-structured Parzen estimator (Optuna's TPESampler)."""

    kind: Literal["tpe"]
    seed: int = Field(0, ge=0, lt=2**32, description=_SEED)
    startup: int = Field(10, ge=0, description=_STARTUP)
    candidates: int = Field(24, ge=1, description="Candidates of which the best is asked for.")
    multivariate: bool | None = Field(None, description="Whether dimensions are modelled jointly; Optuna decides.")
    group: bool | None = Field(
        None, description="Whether conditional dimensions are grouped; where there are, if null."
    )

    @model_validator(mode="after")
    def _groups_are_joint(self) -> Self:
        if self.group and self.multivariate is False:
            raise ValueError("group is true, but multivariate is false; groups are modelled jointly")
        return self


class Cmaes(_Sampler):
    """CMA-ES on numbers (Optuna's CmaEsSampler): no choices, no conditions, one metric."""

    kind: Literal["cmaes"]
    seed: int = Field(0, ge=0, lt=2**32, description=_SEED)
    startup: int = Field(1, ge=0, description=_STARTUP)
    population: int | None = Field(
        None, ge=3, description="Points per generation; by the number of dimensions if null."
    )
    sigma: float | None = Field(None, gt=0, description="First step size; a sixth of the narrowest range if null.")
    margin: bool = Field(False, description="Whether whole numbers keep a least spread.")


class Nsga2(_Sampler):
    """NSGA-II (Optuna's NSGAIISampler): evolution along the Pareto front."""

    kind: Literal["nsga2"]
    seed: int = Field(0, ge=0, lt=2**32, description=_SEED)
    population: int = Field(50, ge=2, description="Points per generation.")
    mutation: float | None = Field(None, ge=0, le=1, description="Probability that a value is drawn anew; 1/n if null.")
    crossover: float = Field(0.9, ge=0, le=1, description="Probability that two parents are mixed.")
    swap: float = Field(0.5, ge=0, le=1, description="Probability that a value comes from the second parent.")


class Nsga3(_Sampler):
    """NSGA-III (Optuna's NSGAIIISampler): for three metrics and more."""

    kind: Literal["nsga3"]
    seed: int = Field(0, ge=0, lt=2**32, description=_SEED)
    population: int = Field(50, ge=2, description="Points per generation.")
    mutation: float | None = Field(None, ge=0, le=1, description="Probability that a value is drawn anew; 1/n if null.")
    crossover: float = Field(0.9, ge=0, le=1, description="Probability that two parents are mixed.")
    swap: float = Field(0.5, ge=0, le=1, description="Probability that a value comes from the second parent.")
    divisions: int = Field(3, ge=1, description="Divisions of the reference points.")


class Gp(_Sampler):
    """Gaussian process (Optuna's GPSampler)."""

    kind: Literal["gp"]
    seed: int = Field(0, ge=0, lt=2**32, description=_SEED)
    startup: int = Field(10, ge=0, description=_STARTUP)
    deterministic: bool = Field(False, description="Whether the same point always gives the same value.")


class Qmc(_Sampler):
    """Points that fill the space evenly (Optuna's QMCSampler)."""

    kind: Literal["qmc"]
    seed: int = Field(0, ge=0, lt=2**32, description=_SEED)
    sequence: Literal["sobol", "halton"] = Field("sobol", description="The sequence of points.")
    scramble: bool = Field(True, description="Whether the sequence is shuffled by the seed.")


SamplerSpec = Annotated[Grid | Random | Tpe | Cmaes | Nsga2 | Nsga3 | Gp | Qmc, Kinds("samplers")]

CONSTRAINED = ("tpe", "nsga2", "nsga3", "gp")
"""Samplers that take constraints into account."""


class NoPruner(Spec):
    """Every trial runs to its end."""

    kind: Literal["none"]


class _Pruner(Spec):
    stage: str | None = Field(None, description="Stage whose values are looked at; that of the first metric if null.")
    metric: str = Field("loss", min_length=1, description="Name among that stage's metrics, such as val_top1 or loss.")
    direction: Literal["maximize", "minimize"] | None = Field(
        None, description="Which way is better; if null, minimize for a loss, else as the sweep's first metric."
    )


class Median(_Pruner):
    """Stops a trial that is worse than the median of earlier ones at the same step."""

    kind: Literal["median"]
    startup: int = Field(5, ge=0, description="Finished trials before anything is stopped.")
    warmup: int = Field(0, ge=0, description="Steps before a trial may be stopped.")
    interval: int = Field(1, ge=1, description="Steps between looks.")
    least: int = Field(1, ge=1, description="Trials that must have a value at a step.")


class Percentile(_Pruner):
    """Stops a trial that is not in the best part of earlier ones at the same step."""

    kind: Literal["percentile"]
    percentile: float = Field(25.0, ge=0, le=100, description="Best part that goes on, in percent.")
    startup: int = Field(5, ge=0, description="Finished trials before anything is stopped.")
    warmup: int = Field(0, ge=0, description="Steps before a trial may be stopped.")
    interval: int = Field(1, ge=1, description="Steps between looks.")
    least: int = Field(1, ge=1, description="Trials that must have a value at a step.")


class SuccessiveHalving(_Pruner):
    """Asynchronous successive halving: of each rung, the best part goes on."""

    kind: Literal["successive_halving"]
    resource: int | None = Field(None, ge=1, description="Steps of the first rung; from the first trials if null.")
    reduction: int = Field(4, ge=2, description="One of so many goes on.")
    early: int = Field(0, ge=0, description="Rungs left out at the start.")


class Hyperband(_Pruner):
    """Successive halving with several first rungs side by side."""

    kind: Literal["hyperband"]
    resource: int = Field(1, ge=1, description="Steps of the shortest first rung.")
    most: int | None = Field(None, ge=1, description="Steps of a whole trial; from the first trials if null.")
    reduction: int = Field(3, ge=2, description="One of so many goes on.")


class Threshold(_Pruner):
    """Stops a trial whose value leaves fixed bounds (or is no number)."""

    kind: Literal["threshold"]
    lower: float | None = Field(None, description="Least value.")
    upper: float | None = Field(None, description="Largest value.")
    warmup: int = Field(0, ge=0, description="Steps before a trial may be stopped.")
    interval: int = Field(1, ge=1, description="Steps between looks.")

    @model_validator(mode="after")
    def _has_bound(self) -> Self:
        if self.lower is None and self.upper is None:
            raise ValueError("a bound is needed: lower, upper or both")
        if self.lower is not None and self.upper is not None and self.lower >= self.upper:
            raise ValueError(f"lower ({self.lower}) must be below upper ({self.upper})")
        return self


class Patience(_Pruner):
    """Stops a trial that has not got better for some steps; with `then`, only if that pruner agrees."""

    kind: Literal["patience"]
    patience: int = Field(5, ge=0, description="Steps without getting better.")
    tolerance: float = Field(0.0, ge=0, description="Smallest change that counts as better.")
    then: "WrappedPruner | None" = Field(None, description="A pruner that decides once patience is over.")


WrappedPruner = Annotated[Median | Percentile | SuccessiveHalving | Hyperband | Threshold, Kinds("wrapped_pruners")]
PrunerSpec = Annotated[
    NoPruner | Median | Percentile | SuccessiveHalving | Hyperband | Threshold | Patience, Kinds("pruners")
]
