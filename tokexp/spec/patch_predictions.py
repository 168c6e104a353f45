"""The evaluation `spatial_inconsistency`: which patches of an image tell its class, as they are and morphed.

Source: Kim et al. 2024 (DTM, arXiv 2401.00254), section 3, table 1 and figure 2. What the text leaves open (how scores
are averaged, how the probe is trained) is a field.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from tokexp.spec.base import Spec, neutral
from tokexp.spec.morphing import Bipartite, Count, GrouperSpec, Share
from tokexp.spec.teachers import TimmTarget
from tokexp.spec.train import TrainSpec

_PROBE: Mapping[str, Any] = {
    "epochs": 25, "lr": 1e-3, "weight_decay": 0.0, "optimizer": {"name": "adam"}, "schedule": {"name": "cosine"},
}  # fmt: skip


class SpatialInconsistency(Spec):
    """How many patches of an image are given its class, and how alike neighbours are, without and with morphing (DTM).

    Reported without and, with `_at_GROUPS` behind, with morphing: `ensemble_top1` (scores averaged over an image's
    patches, table 1), `patch_top1` (patches by themselves, figure 2), `agreement` (neighbours that are given the same
    class) and `neighbour_cosine`.
    """

    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {"paper": {"train": _PROBE}}
    kind: Literal["spatial_inconsistency"]
    preset: Literal["paper"] = Field("paper", description="Where the values not written come from.")
    encoder: TimmTarget | None = Field(
        None, description="A frozen tower of timm, such as CLIP's, whose patches are tested; the trained model if none."
    )
    text: str | None = neutral(
        None, min_length=1, description="File with one embedding of text for every class, in the data's order "
        "(safetensors, one tensor, classes x width): zero-shot. A linear probe is trained if not given. Its content "
        "enters the key."
    )  # fmt: skip
    grouper: GrouperSpec = Field(Bipartite(kind="bipartite"), description="How patches are morphed.")
    removed: tuple[Share, ...] = Field(
        (0.5,), min_length=1, max_length=16, description="Shares of the tokens that morphing removes, each tested; for "
        "bipartite and kmeans, others have one number of groups."
    )  # fmt: skip
    iterations: Count = Field(7, description="Steps in which bipartite removes them, equally many in each; or updates "
                              "of kmeans.")  # fmt: skip
    scores: Literal["logits", "probabilities"] = Field(
        "logits", description="What is averaged over an image's patches. Text's probabilities are at CLIP's scale, 100."
    )
    weighting: Literal["tokens", "groups"] = Field(
        "tokens", description="Whether a group counts in that average as often as it has patches, or once."
    )
    train: TrainSpec = Field(TrainSpec(), description="The probes' training phase, on unchanged training images.")
    seed: int = Field(0, ge=0, lt=2**63, description="Seed of the probes' training, of k-means' first tokens, and of a "
                      "random tower.")  # fmt: skip
    pictures: int = Field(6, ge=0, le=64, description="Images, each of another class, whose maps the report shows.")
    split: Literal["test", "select"] = Field("test", description="Which images.")

    @model_validator(mode="after")
    def _text_has_an_encoder(self) -> Self:
        if self.text is not None and self.encoder is None:
            raise ValueError("text is compared with a tower that was trained beside it; name that in encoder")
        if self.text is not None and self.encoder is not None and not self.encoder.project:
            raise ValueError("text is compared after the tower's projection; write project: true")
        return self
