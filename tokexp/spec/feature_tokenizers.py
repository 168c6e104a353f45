"""Tokenizers that are a frozen network's features and k-means over them.

Source: Baraldi et al. 2023 (MaPeT), section 4.2, for k-CLIP; any network of timm for the general kind.
"""

from typing import Literal

from pydantic import Field

from tokexp.spec.base import neutral
from tokexp.spec.published_tokenizers import FrozenTokenizer, Shape


class _Clusters(FrozenTokenizer):
    """Fields that both kinds share: how the codes are fitted."""

    checkpoint: str | None = neutral(
        None, min_length=1, description="File of the network's weights (timm's or, for CLIP, OpenAI's names): "
        "safetensors or a torch file. Its content enters the key."
    )  # fmt: skip
    random: bool = Field(False, description="Leave the network's weights random: for tests, or as a baseline.")
    codebook_size: int = Field(8192, ge=2, le=65536, description="Number of codes.")
    method: Literal["lloyd", "mini_batch"] = Field(
        "lloyd", description="lloyd: every round sees the whole sample; mini_batch: a batch of it (Sculley 2010)."
    )
    iterations: int = Field(20, ge=1, le=100_000, description="Rounds, or batches of mini_batch.")
    restarts: int = Field(5, ge=1, le=100, description="Starts of k-means; the smallest error is kept.")
    batch: int = Field(65_536, ge=1, description="Features in a batch of mini_batch.")
    sample: float = Field(0.02, gt=0, le=1, description="Share of all features that the codes are fitted on.")
    per_code: int = Field(512, ge=1, description="Most features of the sample per code; a further cap on the sample.")
    seed: int = Field(0, ge=0, lt=2**63, description="Seed of the sample, the starts, and of random weights.")

    def weights_fault(self) -> str:
        """Return what is wrong with where the weights come from; nothing where that is clear."""
        if (self.checkpoint is None) != self.random:
            return "give checkpoint (a file of the network's weights), or random: true; one of the two"
        return ""

    def fault(self, image_shape: Shape) -> str:
        """Return why this cannot work for such images; nothing where it can."""
        return self.weights_fault() or super().fault(image_shape)

    def num_codes(self) -> int:
        """Return the number of codes."""
        return self.codebook_size


class FeatureKMeans(_Clusters):
    """k-means over the features of any network and layer of timm; a code is a mean feature, there is no decoder."""

    kind: Literal["feature_kmeans"]
    backbone: str = Field(min_length=1, description="timm's name of the network; a tag after a dot names its weights.")
    layer: int = Field(-1, ge=-256, le=255, description="The block or stage whose output is taken; -1 is the last.")
    norm: bool = Field(True, description="Apply the network's last norm to it (transformers).")
    width: int = Field(ge=1, le=65536, description="Width of a feature, as the layer gives it.")
    stride: int = Field(ge=1, le=256, description="Pixels per feature and axis, as the layer has it.")
    spherical: bool = Field(False, description="Normalise features; tokens are then codes of the smallest angle.")
    outside_data: str = Field("unknown", min_length=1, description="What the network was trained on, for the record.")

    def pixels_per_side(self) -> int:
        """Return the stride."""
        return self.stride

    def code_width(self, image_shape: Shape) -> int:
        """Return the width of a feature."""
        return self.width


class KClip(_Clusters):
    """k-CLIP: k-means over the last map of CLIP's RN50x64 at 448 x 448 pixels, 14 x 14 features of 4096 channels."""

    kind: Literal["kclip"]
    backbone: str = Field(
        "resnet50x64_clip.openai", min_length=1, description="CLIP's residual network, by timm's name."
    )
    input_size: int | None = Field(
        448, ge=32, le=4096, description="Side in pixels that images are resized to (bicubic); 224 gives 7 x 7 tokens."
    )
    width: int = Field(4096, ge=1, le=65536, description="Channels of the last map.")

    def pixels_per_side(self) -> int:
        """Return 32: the network halves five times."""
        return 32

    def code_width(self, image_shape: Shape) -> int:
        """Return the channels of the last map."""
        return self.width
