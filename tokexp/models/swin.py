"""timm's Swin Transformer: attention within windows, shifted in every second block (Liu et al. 2021)."""

from torch import Tensor

from tokexp.models.hierarchical import Body, HierarchicalBackbone, check_positions
from tokexp.spec.hierarchical import SwinSpec
from tokexp.torchvision_ops import ensure_torchvision

ensure_torchvision()
from timm.models.swin_transformer import SwinTransformer  # noqa: E402 (timm imports torchvision)


class Swin(HierarchicalBackbone):
    """Stages of windowed attention with learned relative positions; maps have their channels last."""

    def __init__(self, spec: SwinSpec, in_channels: int, input_grid: tuple[int, int], drop_path: float = 0.0) -> None:
        """Take the sizes, what is read, and the last block's stochastic depth."""
        # timm is told of pictures with one pixel for each patch: its own stem is not used, only the norm after it.
        whole = SwinTransformer(
            img_size=spec.patch_grid(input_grid),
            patch_size=1,
            in_chans=1,
            num_classes=0,
            embed_dim=spec.width,
            depths=spec.depths,
            num_heads=spec.heads,
            window_size=spec.window,
            mlp_ratio=spec.mlp_ratio,
            drop_path_rate=drop_path,
        )
        super().__init__(spec, in_channels, input_grid, Body(whole.patch_embed.norm, whole.layers, whole.norm))

    def run_stages(self, maps: Tensor) -> Tensor:
        """Return (B, n, width) of the last stage for maps (B, rows, columns, stem_width)."""
        found: Tensor = self.stages(maps)
        return found.flatten(1, 2)

    def undecayed(self) -> set[str]:
        """Return the tables of relative positions, as the paper's code does."""
        return {name for name, _ in self.named_parameters() if name.endswith("relative_position_bias_table")}


def build(
    spec: SwinSpec,
    in_channels: int,
    input_grid: tuple[int, int],
    drop_path: float = 0.0,
    positions: str = "learned",
) -> Swin:
    """Return a new model with random weights (seed the global generator before)."""
    check_positions("swin", positions)
    return Swin(spec, in_channels, input_grid, drop_path)
