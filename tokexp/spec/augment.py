"""The `augment` block: policies of steps on token batches (or pixels), and the training of TokenAdapt.

Sources: SeiT++ section 3.3 and supplement C (TokenAdapt, ColorAdapt); SeiT appendix (Token-EDA, Emb-Noise,
Token-CutMix); where the released code differs from the paper, the preset `released` holds its values.
"""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar

from pydantic import Field, Tag, model_validator

from tokexp.spec.base import Spec
from tokexp.spec.extensions import Kinds
from tokexp.spec.train import TrainSpec

S = TypeVar("S", bound=Spec)
Probability = Annotated[float, Field(ge=0, le=1)]
Range = tuple[float, float]
Share = Annotated[float, Field(gt=0, le=1)]
Shares = tuple[Share, Share]
Preset = Literal["paper", "released"]
_PRESET: Any = Field("paper", description="Where the values that are not written come from.")


def _check_ranges(spec: S, **ranges: Range) -> S:
    for name, (low, high) in ranges.items():
        if not 0 < low <= high:
            raise ValueError(f"{name}: [{low}, {high}] given; two positive numbers, the smaller first, are needed")
    return spec


class TokenRrc(Spec):
    """Random resized crop of the embedding map, per sample, bicubic, to the model's grid (SeiT)."""

    kind: Literal["token_rrc"]
    scale: Shares = Field((0.08, 1.0), description="Range of the crop's share of the area.")
    ratio: Range = Field((0.75, 4 / 3), description="Range of the crop's aspect ratio, drawn log-uniformly.")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        return _check_ranges(self, scale=self.scale, ratio=self.ratio)


class TokenCrop(Spec):
    """Random crop to the model's grid without resizing, per sample."""

    kind: Literal["token_crop"]


class TokenEda(Spec):
    """Token-EDA on stored indices: synonym replacement, swap of two blocks, or neither; exclusive per image (SeiT)."""

    kind: Literal["token_eda"]
    synonym: Probability = Field(0.25, description="Probability that an image gets synonyms.")
    swap: Probability = Field(0.25, description="Probability that two blocks of an image are exchanged.")
    replace: Probability = Field(0.25, description="Probability that a token of such an image is replaced.")
    neighbours: int = Field(5, ge=1, le=1024, description="Neighbours in the codebook that a code draws from.")
    metric: Literal["cosine", "tokenizer"] = Field(
        "cosine",
        description="What makes a neighbour: the angle, or the tokenizer's own metric. Levels of "
        "coefficients (tokenizer dct) are neighbours by their difference, and zero has none.",
    )
    swap_scale: float = Field(0.25, gt=0, le=0.5, description="Upper bound of a block's side over the grid's.")

    @model_validator(mode="after")
    def _exclusive(self) -> Self:
        if self.synonym + self.swap > 1:
            raise ValueError("synonym and swap exclude one another: together at most 1")
        return self


class EmbNoise(Spec):
    """Emb-Noise: normal noise per channel plus normal noise per element, added to embeddings (SeiT)."""

    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {"paper": {}, "released": {"subset": "exact_count"}}
    kind: Literal["emb_noise"]
    preset: Preset = _PRESET
    channel_std: float = Field(1.0, ge=0, description="Standard deviation of the noise shared by a channel.")
    element_std: float = Field(1.0, ge=0, description="Standard deviation of the noise of every element.")
    relative: bool = Field(False, description="Multiply both by the mean row norm of the codebook over "
                           "sqrt(width), of coefficients by the deviation of each.")  # fmt: skip
    prob: Probability = Field(0.5, description="Share of samples that is touched.")
    subset: Literal["bernoulli", "exact_count"] = Field(
        "bernoulli", description="Each sample by itself, or exactly floor(batch x prob) samples."
    )


class ColorAdapt(Spec):
    """ColorAdapt: a sample takes the per-channel mean and deviation of another (SeiT++ eq. 4)."""

    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "paper": {},
        "released": {"subset": "exact_count", "partner": "reversed", "eps": 0.0, "prob": 0.5},
    }
    kind: Literal["color_adapt"]
    preset: Preset = _PRESET
    prob: Probability = Field(0.25, description="Share of samples that is touched.")
    subset: Literal["bernoulli", "exact_count"] = Field("bernoulli", description="As in emb_noise.")
    partner: Literal["random", "reversed"] = Field("random", description="A random other sample, or batch reversed.")
    eps: float = Field(1e-5, ge=0, description="Added to the deviation that is divided by; 0 keeps flat channels.")


class TokenCutmix(Spec):
    """CutMix on the embedding map: one box for the batch, partners by reversal, targets mixed by area (SeiT)."""

    kind: Literal["token_cutmix"]
    alpha: float = Field(1.0, gt=0, description="Parameter of the beta distribution of the kept share.")
    prob: Probability = Field(1.0, description="Probability that a batch is mixed.")


class Mixup(Spec):
    """Mixup: one weight for the batch, partners by reversal (Zhang et al. 2018)."""

    kind: Literal["mixup"]
    alpha: float = Field(0.8, gt=0, description="Parameter of the beta distribution of the weight.")
    prob: Probability = Field(1.0, description="Probability that a batch is mixed.")


class Geometry(Spec):
    """Flip, affine and crop in TokenAdapt's space (SeiT++ section 3.3; the released token_transform)."""

    hflip: Probability = Field(0.5, description="Probability of a horizontal flip.")
    affine: Probability = Field(0.5, description="Probability that the affine members below are considered at all.")
    member: Probability = Field(0.5, description="Probability of each affine member by itself.")
    rotate: float = Field(30.0, ge=0, le=180, description="Largest rotation in degrees, both ways.")
    translate: float = Field(0.2, ge=0, lt=1, description="Largest shift over the width, both ways and axes.")
    shear: float = Field(15.0, ge=0, lt=90, description="Largest shear in degrees, per axis.")
    shear_sign: Literal["symmetric", "positive"] = Field("symmetric", description="Both ways, or positive only.")
    rrc: Shares | None = Field((0.08, 1.0), description="Area range of the crop that ends the list; null for none.")
    scope: Literal["per_sample", "per_batch"] = Field(
        "per_sample", description="Whether flip and affine are drawn for each sample or once for the batch."
    )
    resample: Literal["once", "each"] = Field(
        "once", description="All affine members as one map; or each by itself, shifts and crops in whole cells."
    )

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        return self if self.rrc is None else _check_ranges(self, rrc=self.rrc)


class TokenAdapt(Spec):
    """TokenAdapt: f takes codes to a space where pixel geometry works, g takes the result back to codes (SeiT++)."""

    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "paper": {},
        "released": {
            "quantize": "argmax",
            "geometry": {"scope": "per_batch", "shear_sign": "positive", "resample": "each"},
        },
    }
    kind: Literal["token_adapt"]
    preset: Preset = _PRESET
    geometry: Geometry = Field(Geometry(), description="What is done to the map between f and g.")
    mixup: float = Field(0.0, ge=0, description="Alpha of Mixup in that space; 0 for none.")
    cutmix: float = Field(0.0, ge=0, description="Alpha of CutMix in that space; 0 for none.")
    switch_prob: Probability = Field(0.5, description="Probability of CutMix where both are given.")
    quantize: Literal["argmax", "nearest"] = Field(
        "nearest",
        description="Code of g's output: its largest logit, or the code nearest to the expected vector. "
        "Coefficients always go to their nearest levels.",
    )


class PixelRrc(Spec):
    """Random resized crop of pixels, per sample, bicubic, to the image size."""

    kind: Literal["pixel_rrc"]
    scale: Shares = Field((0.08, 1.0), description="Range of the crop's share of the area.")
    ratio: Range = Field((0.75, 4 / 3), description="Range of the crop's aspect ratio, drawn log-uniformly.")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        return _check_ranges(self, scale=self.scale, ratio=self.ratio)


class PixelFlip(Spec):
    """Horizontal flip of pixels, per sample."""

    kind: Literal["pixel_flip"]
    prob: Probability = Field(0.5, description="Probability that a sample is flipped.")


class ColorJitter(Spec):
    """Brightness, contrast and saturation of pixels, in a random order, per sample (torchvision's ColorJitter)."""

    kind: Literal["color_jitter"]
    strength: float = Field(0.4, ge=0, le=1, description="Each factor is uniform within 1 - strength and 1 + strength.")


class OneOf(Spec):
    """Exactly one of several steps, drawn once for the batch or for every sample."""

    one_of: "tuple[Step, ...]" = Field(min_length=1, description="The steps to draw from.")
    weights: tuple[Annotated[float, Field(ge=0)], ...] | None = Field(None, description="Weights; equal if not given.")
    per: Literal["batch", "sample"] = Field("batch", description="How often it is drawn.")

    @model_validator(mode="after")
    def _weights_fit(self) -> Self:
        if self.weights is not None and (len(self.weights) != len(self.one_of) or sum(self.weights) <= 0):
            raise ValueError(f"{len(self.one_of)} weights with a positive sum are needed, one for each step")
        return self


class Sometimes(Spec):
    """A list of steps that is applied to a batch with some probability."""

    sometimes: Probability = Field(description="Probability that the list is applied.")
    do: "tuple[Step, ...]" = Field(min_length=1, description="The steps.")


class Halves(Spec):
    """One list for the first half of the batch, one for the second; the results are concatenated (SeiT++ release)."""

    halves: "tuple[tuple[Step, ...], tuple[Step, ...]]" = Field(description="The two lists of steps.")


COMBINATORS = {"one_of": OneOf, "sometimes": Sometimes, "halves": Halves}


def _step_tag(value: Any) -> str | None:
    if isinstance(value, Spec):
        kind = getattr(value, "kind", None)
        return kind or next(name for name, cls in COMBINATORS.items() if isinstance(value, cls))
    if not isinstance(value, Mapping):
        return None
    named = next((name for name in COMBINATORS if name in value), None)
    return named or value.get("kind")


Step = Annotated[
    Annotated[TokenRrc, Tag("token_rrc")]
    | Annotated[TokenCrop, Tag("token_crop")]
    | Annotated[TokenEda, Tag("token_eda")]
    | Annotated[EmbNoise, Tag("emb_noise")]
    | Annotated[ColorAdapt, Tag("color_adapt")]
    | Annotated[TokenCutmix, Tag("token_cutmix")]
    | Annotated[Mixup, Tag("mixup")]
    | Annotated[TokenAdapt, Tag("token_adapt")]
    | Annotated[PixelRrc, Tag("pixel_rrc")]
    | Annotated[PixelFlip, Tag("pixel_flip")]
    | Annotated[ColorJitter, Tag("color_jitter")]
    | Annotated[OneOf, Tag("one_of")]
    | Annotated[Sometimes, Tag("sometimes")]
    | Annotated[Halves, Tag("halves")],
    Kinds("augment", _step_tag),
]


class AdaptSpec(Spec):
    """The networks f and g of TokenAdapt and their training (SeiT++ section 4.7).

    Trained on pairs of the tokens of an image and of its augmented pixels; the geometry here is the pixels'.
    """

    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "paper": {"train": {"epochs": 1, "batch_size": 128, "lr": 1e-3, "weight_decay": 0.05}}
    }
    preset: Literal["paper"] = Field("paper", description="Where the values that are not written come from.")
    width: int = Field(384, ge=4, le=4096, multiple_of=4, description="Width of both networks' block.")
    heads: int = Field(6, ge=1, le=64, description="Attention heads; must divide the width.")
    upscale: Literal[1, 2, 4] = Field(2, description="Side of the space between over the side of the token grid.")
    geometry: Geometry = Field(Geometry(), description="The augmentation that the pairs are made with.")
    images: int | None = Field(None, ge=2, description="Most images to train on (100 are nearly as good as all).")
    train: TrainSpec = Field(TrainSpec(), description="The training phase.")
    seed: int = Field(0, ge=0, description="Seed of weights, order and pairs.")

    @model_validator(mode="after")
    def _heads_divide(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"heads ({self.heads}) must divide width ({self.width})")
        return self


class AugmentSpec(Spec):
    """One policy for every training phase (a list), or one for `pretrain` and one for `task`; and `adapt`."""

    pretrain: tuple[Step, ...] = Field((), description="Policy of the objective's phase.")
    task: tuple[Step, ...] = Field((), description="Policy of the tasks' phases.")
    adapt: AdaptSpec = Field(AdaptSpec(), description="How TokenAdapt is trained, if a policy uses it.")

    @model_validator(mode="before")
    @classmethod
    def _one_policy(cls, given: Any) -> Any:
        return {"pretrain": given, "task": given} if isinstance(given, (tuple, list)) else given


def walk_steps(policy: tuple[Any, ...]) -> list[Spec]:
    """Return all steps of a policy in writing order, combinators and what they hold included."""
    found: list[Spec] = []
    for step in policy:
        found.append(step)
        for part in inner_lists(step):
            found += walk_steps(part)
    return found


def inner_lists(step: Spec) -> tuple[tuple[Any, ...], ...]:
    """Return the lists of steps inside a combinator, none of a plain step.

    Told by class: a field that a spec does not have is slow to ask for.
    """
    if isinstance(step, OneOf):
        return (step.one_of,)
    if isinstance(step, Sometimes):
        return (step.do,)
    return step.halves if isinstance(step, Halves) else ()
