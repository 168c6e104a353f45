"""The whole experiment: every block in its place.

A spec is what a person wrote, validated and frozen, with nothing implied left out. `resources`, `track` and `name` do
not decide a result; everything else enters the keys of the stages that use it.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from tokexp.spec.augment import AugmentSpec
from tokexp.spec.base import Spec, added
from tokexp.spec.data import DataSpec
from tokexp.spec.evaluation import EvaluationSpec
from tokexp.spec.models import ModelSpec, VitSpec
from tokexp.spec.objectives import ObjectiveSpec
from tokexp.spec.resources import Resources, ResourcesSpec, TrackSpec
from tokexp.spec.storage import StorageSpec
from tokexp.spec.tasks import TaskSpec
from tokexp.spec.tokenizers import TokenizerSpec

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=100)]
PartName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=40)]
RunSeed = Annotated[int, Field(ge=0, lt=2**63)]


class Experiment(Spec):
    """One pipeline from images to numbers. Only `data` and one of `objective`, `tasks`, `until` are required."""

    schema_version: Literal[1] = Field(alias="schema", description="Version of the language.")
    name: Name = Field("experiment", description="Name in tables and in MLflow; letters, digits, '_', '.', '-'.")
    data: DataSpec = Field(description="Where labelled images come from.")
    tokenizer: TokenizerSpec | None = Field(None, description="How an image becomes a grid of indices.")
    storage: StorageSpec = Field(StorageSpec(), description="What of the tokens is kept, and how it is written.")
    model: ModelSpec = Field(VitSpec(kind="vit"), description="The network.")
    augment: AugmentSpec = Field(AugmentSpec(), description="What training sees of the tokens (or pixels).")
    objective: ObjectiveSpec | None = Field(None, description="What the pre-training phase learns from.")
    tasks: dict[PartName, TaskSpec] = Field({}, description="What the representation is used for, by name.")
    evaluate: dict[PartName, EvaluationSpec] = Field({}, description="What the tasks' models are tested on, by name.")
    seeds: tuple[RunSeed, ...] = Field((0,), min_length=1, description="One run of every random stage for each.")
    until: Literal["tokens"] | None = added(
        None, description="tokens: end when the tokens are stored, whatever is written to be done with them."
    )
    resources: ResourcesSpec = Field({}, description="What stages run on.")
    track: TrackSpec = Field(TrackSpec(), description="Where MLflow records this experiment.")

    @model_validator(mode="after")
    def _has_work(self) -> Self:
        if self.objective is None and not self.tasks and self.until is None:
            raise ValueError("nothing to do: an objective, or at least one task, is needed")
        return self

    def resources_for(self, stage_kind: str) -> Resources:
        """Return the resources of a stage kind: its own entry, else `default`, else the class's defaults."""
        named = {str(key): value for key, value in self.resources.items()}
        return named.get(stage_kind) or named.get("default") or Resources()
