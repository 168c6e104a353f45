"""The `tasks` block: what the representation is used for.

Sources: SeiT appendix table B.1, SeiT++ supplement C (recipes); BEiT and MAE for layer decay and the linear probe.
"""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from tokexp.spec.base import Spec, added
from tokexp.spec.extensions import Kinds
from tokexp.spec.objectives import SUPERVISED_PRESETS
from tokexp.spec.terms import Terms
from tokexp.spec.train import TrainSpec

_FINETUNE = {"epochs": 100, "batch_size": 1024, "lr": 1e-3, "warmup": "5 epochs", "weight_decay": 0.1,
             "layer_decay": 0.65}  # fmt: skip


class Validation(Spec):
    """Training images that are kept out of a task's training and looked at meanwhile; never test images.

    What reads no labels (TokenAdapt, pre-training by masked tokens) still sees these images.
    """

    fraction: float = Field(0.1, gt=0, lt=1, description="Share of each class's training images that is held out.")
    every: int = Field(1, ge=1, description="Epochs from one look to the next; the end is always looked at.")


class Classify(Spec):
    """Train the whole model on class labels: from the pre-trained weights, or from scratch."""

    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "paper": {"train": _FINETUNE},
        "released": {
            "table_layer": "last", "train": {**_FINETUNE, "lr_scale": "sqrt_8", "schedule": {"min_lr": 1e-6}},
        },
        "scratch": {"head_std": 0.02, **SUPERVISED_PRESETS["paper"]},
        "scratch_released": {"head_std": 0.02, **SUPERVISED_PRESETS["released"]},
    }  # fmt: skip
    kind: Literal["classify"]
    preset: Literal["paper", "released", "scratch", "scratch_released"] = Field(
        "paper", description="paper, released: MTM's fine-tuning; scratch, scratch_released: SeiT's training."
    )
    init: Literal["auto", "pretrain", "scratch"] = Field(
        "auto", description="Where the weights come from; auto: the pre-training if the experiment has one."
    )
    label_smoothing: float = Field(0.1, ge=0, lt=1, description="Share of the target spread over all classes.")
    drop_path: float = Field(0.1, ge=0, lt=1, description="Stochastic depth of the last block, rising linearly.")
    head_std: float = Field(2e-5, ge=0, description="Deviation of the classifier's first weights.")
    table_layer: Literal["first", "last"] = Field(
        "first", description="Where layer decay counts the model's own token table: with the stem, or with the head."
    )
    final_norm: Literal["pretrained", "fresh"] = added(
        "pretrained", description="The norm before the classifier: that of the pre-training, which then reads pooled "
        "patches, or a new one, as in BEiT, MAE, MaPeT and DTM.",
    )  # fmt: skip
    train: TrainSpec = Field(TrainSpec(), description="The training phase.")
    terms: Terms = added((), description="Losses that are added to this one, each with its weight.")
    validation: Validation | None = Field(
        None, description="Training images to measure val_top1 and val_loss on; none if not given."
    )


class Probe(Spec):
    """A linear classifier on frozen, pooled features; several learning rates at once, on cached features.

    The reported learning rate is chosen on images cut from the training set, never on the test images.
    """

    kind: Literal["probe"]
    lrs: tuple[Annotated[float, Field(gt=0)], ...] = Field((0.01, 0.1, 1.0), min_length=1, description="Tried at once.")
    epochs: int = Field(50, ge=1, description="Passes over the cached features.")
    batch_size: int = Field(1024, ge=2, description="Features per update.")
    optimizer: Literal["sgd", "adamw"] = Field("sgd", description="Update rule of the classifiers.")
    weight_decay: float = Field(0.0, ge=0, description="Decay of the classifiers' weights.")
    normalize: bool = Field(True, description="Standardise features by the training images' mean and deviation.")
    features: Literal["mean", "cls"] = Field("mean", description="Pooled patches after the last norm, or class token.")
    select_fraction: float = Field(0.1, gt=0, lt=1, description="Share of the training images to choose the rate by.")
    init: Literal["auto", "pretrain", "scratch"] = Field("auto", description="As in classify; scratch: random weights.")


TaskSpec = Annotated[Classify | Probe, Kinds("tasks")]
