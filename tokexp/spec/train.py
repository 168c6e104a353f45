"""The `train` block that every training phase shares: length, batch, optimizer, learning rate, precision."""

import math
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from tokexp.spec.base import Spec
from tokexp.spec.units import Warmup

OptimizerName = Literal["adamw", "adam", "sgd", "lamb", "lars", "lion", "muon", "nadamw", "rmsprop"]
LrScale = Literal["absolute", "linear_256", "linear_512", "sqrt_8"]

Beta = Annotated[float, Field(ge=0, lt=1)]


class OptimizerSpec(Spec):
    """An optimizer of timm, by its name there."""

    name: OptimizerName = Field("adamw", description="timm's name of the optimizer.")
    betas: tuple[Beta, Beta] = Field((0.9, 0.999), description="Decay rates of the Adam family.")
    eps: float = Field(1e-8, gt=0, description="Added to the denominator of the Adam family.")
    momentum: float = Field(0.9, ge=0, lt=1, description="Momentum of sgd, lars and rmsprop.")


class ScheduleSpec(Spec):
    """How the learning rate moves after the warm-up (timm's schedulers)."""

    name: Literal["cosine", "linear", "constant"] = Field("cosine", description="Shape after the warm-up.")
    min_lr: float = Field(0.0, ge=0, description="Learning rate at the end, before layer decay.")
    warmup_lr: float = Field(0.0, ge=0, description="Learning rate at the first step of the warm-up.")
    warmup_prefix: bool = Field(
        True, description="Whether the shape begins after the warm-up; if not, the warm-up covers its first part."
    )
    unit: Literal["step", "epoch", "epoch_lagged"] = Field(
        "step", description="When it moves. epoch_lagged (SeiT's release) keeps the first two epochs alike."
    )


class TrainSpec(Spec):
    """One training phase. Give `epochs` or `steps`, not both."""

    epochs: int | None = Field(None, ge=1, le=100_000, description="Passes over the training images.")
    steps: int | None = Field(None, ge=1, le=100_000_000, description="Optimizer updates.")
    batch_size: int = Field(256, ge=2, le=1_048_576, description="Images per update, over all processes.")
    accumulate: int = Field(
        1, ge=1, le=4096, description="Micro-batches that one update is cut into; processes share them."
    )
    optimizer: OptimizerSpec = Field(OptimizerSpec(), description="The update rule.")
    lr: float = Field(1e-3, gt=0, le=100, description="Base learning rate, before `lr_scale`.")
    lr_scale: LrScale = Field(
        "absolute", description="absolute: lr; linear_N: lr x batch / N; sqrt_8: lr x sqrt(batch) / 8."
    )
    schedule: ScheduleSpec = Field(ScheduleSpec(), description="The learning rate over time.")
    warmup: Warmup = Field(Warmup(), description="Linear rise: a fraction of the run, 'N epochs' or 'N steps'.")
    weight_decay: float = Field(0.05, ge=0, le=10, description="Decoupled decay; 1-D parameters are left out.")
    layer_decay: float | None = Field(None, gt=0, le=1, description="Learning-rate factor from block to block.")
    clip_grad: float | None = Field(None, gt=0, description="Largest gradient norm.")
    ema: float | None = Field(None, gt=0, lt=1, description="Decay of the weights' moving average.")
    precision: Literal["fp32", "bf16"] = Field("fp32", description="Number format of the forward pass.")
    compile: bool = Field(False, description="Compile the model with torch.compile.")

    @model_validator(mode="after")
    def _one_length(self) -> Self:
        if self.epochs is not None and self.steps is not None:
            raise ValueError("give epochs or steps, not both")
        if self.batch_size % self.accumulate:
            raise ValueError(f"accumulate ({self.accumulate}) must divide batch_size ({self.batch_size})")
        return self

    def peak_lr(self) -> float:
        """Return the learning rate at the end of the warm-up, with the scaling rule applied."""
        if self.lr_scale == "sqrt_8":
            return self.lr * math.sqrt(self.batch_size) / 8
        if self.lr_scale == "absolute":
            return self.lr
        return self.lr * self.batch_size / int(self.lr_scale.removeprefix("linear_"))

    def total_steps(self, num_images: int) -> int:
        """Return the number of updates for `num_images` training images (whole batches only, at least one)."""
        if self.steps is not None:
            return self.steps
        return (self.epochs or 1) * self.steps_per_epoch(num_images)

    def steps_per_epoch(self, num_images: int) -> int:
        """Return the whole batches in one pass; a set smaller than a batch gives one (smaller) batch."""
        return max(1, num_images // self.batch_size)

    def warmup_steps(self, num_images: int) -> int:
        """Return the length of the warm-up in updates."""
        if self.warmup.unit == "fraction":
            return round(self.warmup.amount * self.total_steps(num_images))
        per = self.steps_per_epoch(num_images) if self.warmup.unit == "epochs" else 1
        return round(self.warmup.amount * per)
