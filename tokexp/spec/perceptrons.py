"""The model `mlp`: every token by itself through a small network, and the mean of them.

Source: Baraldi et al. 2025 (MaPeT), section 5.3 and table 7: embedding of tokens, linear layer, ReLU, mean, classifier.
"""

from math import prod
from typing import Literal

from pydantic import Field

from tokexp.spec.backbones import BackboneSpec
from tokexp.spec.stems import Grid, PatchifyStem, StemSpec


class MlpSpec(BackboneSpec):
    """A linear layer and ReLU on every patch alone, then the mean over patches: no positions, no attention.

    The linear layer is the stem, on single tokens by default; `depth` further ones may follow.
    """

    kind: Literal["mlp"]
    width: int = Field(192, ge=1, le=8192, description="Width of the linear layers.")
    depth: int = Field(0, ge=0, le=64, description="Linear layers with ReLU after the stem and its ReLU.")
    stem: StemSpec = Field(
        PatchifyStem(kind="patchify", patch_size=1),
        description="The first linear layer, on patches of tokens (or pixels).",
    )

    @property
    def stem_width(self) -> int:
        """Width of the linear layers."""
        return self.width

    @property
    def blocks(self) -> int:
        """Number of layers after the stem."""
        return self.depth

    def label(self) -> str:
        """Return such as `mlp-192`."""
        return f"mlp-{self.width}x{self.depth}" if self.depth else f"mlp-{self.width}"

    def operations(self, patches: Grid) -> float:
        """Return those of the layers after the stem."""
        return 2.0 * self.depth * prod(patches) * self.width**2

    def weights(self, patches: Grid) -> int:
        """Return those of the layers after the stem."""
        del patches
        return self.depth * (self.width + 1) * self.width
