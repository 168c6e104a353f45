"""What `intra`, `local` and `inter` share: convolutions of several sizes, concatenated and projected.

Source: Qian et al. 2022 (MoTo), table 1 and appendix A.2, which combine CrossFormer's embedding (Wang et al. 2022,
several kernels at one stride), PVT v2's overlap (Wang et al. 2022, half the stride) and T2T-ViT's attention (Yuan et
al. 2021). Nothing was released; sizes are those that meet the printed numbers of parameters.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, pad

from tokexp.spec.stems import InterStem, IntraStem, LocalStem


class MultiScale(nn.Module):
    """Values (B, C, H, W) to (B, width, H // patch_size, W // patch_size).

    Every kernel stands in the middle of its patch. With a stride of half a patch there are four windows for each patch;
    `mixing`, where there is one, reads all of them as a sequence (B, n, width); then each four are averaged.
    """

    def __init__(
        self, spec: IntraStem | LocalStem | InterStem, in_channels: int, width: int, pooled: int = 1,
        mixing: nn.Module | None = None,
    ) -> None:  # fmt: skip
        """Take the kernels, the sizes, windows per patch and axis (1 or 2), and what mixes windows."""
        super().__init__()
        self.stride, self.pooled = spec.patch_size // pooled, pooled
        channels = spec.channels or max(1, round(width * 2 / 3))
        self.scales = nn.ModuleList(nn.Conv2d(in_channels, channels, size, stride=self.stride) for size in spec.sizes())
        self.project = nn.Conv2d(channels * len(self.scales), width, kernel_size=1)
        self.mixing = mixing

    def forward(self, values: Tensor) -> Tensor:
        """Return the patches."""
        windows = self.project(torch.cat([self._seen(values, scale) for scale in self.scales], dim=1))
        if self.mixing is not None:
            windows = self.mixing(windows.flatten(2).mT).mT.reshape_as(windows)
        return avg_pool2d(windows, self.pooled) if self.pooled > 1 else windows

    def _seen(self, values: Tensor, scale: nn.Module) -> Tensor:
        """Return one window's value for every stride: borders are padded for large kernels, and cut off for small."""
        beyond = int(scale.kernel_size[0]) - self.stride  # type: ignore[index]
        before = beyond // 2
        found: Tensor = scale(pad(values, (before, beyond - before, before, beyond - before)))
        return found
