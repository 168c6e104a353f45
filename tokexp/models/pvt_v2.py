"""timm's PVT v2: attention to keys that a convolution thins out, overlapping patches at every stage (Wang et al. 2022).

There are no positions: the convolutions within the MLPs tell places apart.
"""

from math import sqrt

from torch import Tensor, nn

from tokexp.models.hierarchical import Body, HierarchicalBackbone, check_positions
from tokexp.spec.hierarchical import PvtV2Spec
from tokexp.spec.stems import OverlapStem
from tokexp.torchvision_ops import ensure_torchvision

ensure_torchvision()
from timm.models.pvt_v2 import PyramidVisionTransformerV2  # noqa: E402 (timm imports torchvision)


class PvtV2(HierarchicalBackbone):
    """Stages that end with a layer norm each; the last of these is the final norm."""

    def __init__(self, spec: PvtV2Spec, in_channels: int, input_grid: tuple[int, int], drop_path: float = 0.0) -> None:
        """Take the sizes, what is read, and the last block's stochastic depth."""
        whole = PyramidVisionTransformerV2(
            in_chans=1,
            num_classes=0,
            depths=spec.depths,
            embed_dims=spec.widths,
            num_heads=spec.heads,
            sr_ratios=spec.reductions,
            mlp_ratios=spec.mlp_ratios,
            drop_path_rate=drop_path,
        )
        last = whole.stages[-1]
        final, last.norm = last.norm, nn.Identity()
        super().__init__(spec, in_channels, input_grid, Body(whole.patch_embed.norm, whole.stages, final))
        if isinstance(spec.stem, OverlapStem):
            _start_as_pvt(self.stem)

    def run_stages(self, maps: Tensor) -> Tensor:
        """Return (B, n, width) of the last stage for maps (B, rows, columns, stem_width)."""
        found: Tensor = self.stages(maps)
        return found.flatten(2).mT


def _start_as_pvt(stem: nn.Module) -> None:
    """Draw the model's own stem as the rest of it: N(0, 2 / fan out), no bias."""
    assert isinstance(stem, nn.Conv2d)
    nn.init.normal_(stem.weight, std=sqrt(2 / (stem.kernel_size[0] * stem.kernel_size[1] * stem.out_channels)))
    assert stem.bias is not None
    nn.init.zeros_(stem.bias)


def build(
    spec: PvtV2Spec,
    in_channels: int,
    input_grid: tuple[int, int],
    drop_path: float = 0.0,
    positions: str = "learned",
) -> PvtV2:
    """Return a new model with random weights (seed the global generator before)."""
    check_positions("pvt_v2", positions)
    return PvtV2(spec, in_channels, input_grid, drop_path)
