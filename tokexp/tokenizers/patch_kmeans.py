"""Tokens by k-means over pixel patches: the laptop default.

One codebook for all places; a patch's token is the nearest code, a code decodes to the mean patch that it stands for.
Source: vector quantisation of blocks (Linde, Buzo and Gray 1980); k-means in `kmeans.py`.
"""

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from tokexp.errors import InputError
from tokexp.spec.tokenizers import PatchKMeans
from tokexp.tokenizers.base import Tokenizer, TokenizerInfo
from tokexp.tokenizers.kmeans import kmeans
from tokexp.tokenizers.quantizers import nearest_codes

_NUMBERS = 1 << 26
"""Most numbers that are cut into patches at once."""


class PatchKMeansTokenizer(Tokenizer):
    """Codes are patches (channels, rows, columns) in one row of numbers, pixels in [0, 1]."""

    codes: Tensor
    fitted: Tensor

    def __init__(self, spec: PatchKMeans, image_shape: tuple[int, int, int]) -> None:
        """Make an unfitted tokenizer. Raises InputError if patches do not fill the image."""
        super().__init__()
        channels, height, width = image_shape
        side = spec.patch_size
        if height % side or width % side:
            raise InputError(
                f"tokenizer.patch_size: {side} does not divide the image's {height} x {width} pixels; "
                "choose another patch or image size"
            )
        self.spec = spec
        self.info = TokenizerInfo(image_shape, spec.grid(image_shape), pixels_per_token=side**2)
        self.register_buffer("codes", torch.zeros(spec.codebook_size, channels * side**2))
        self.register_buffer("fitted", torch.zeros((), dtype=torch.bool))

    def codebook(self) -> Tensor:
        """Return the codes (K, C * side * side), float32."""
        return self.codes

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """Return int64 indices (n, rows, columns). Raises InputError before `fit`."""
        if not bool(self.fitted):
            raise InputError("this tokenizer has not been fitted; run its tokenizer stage first")
        grids = [self._encoded(chunk) for chunk in images.split(self._chunk(images))]
        return torch.cat(grids)

    @torch.no_grad()
    def decode(self, indices: Tensor) -> Tensor:
        """Return images (n, C, H, W) in [0, 1]: every token's code in its place."""
        (channels, height, width), side = self.info.image_shape, self.spec.patch_size
        patches = self.codes[indices].view(*indices.shape, channels, side, side)
        return patches.permute(0, 3, 1, 4, 2, 5).reshape(-1, channels, height, width).clamp(0, 1)

    @torch.no_grad()
    def decode_values(self, values: Tensor) -> Tensor:
        """Return images (n, C, H, W) in [0, 1]: every vector (n, d, rows, columns) as the patch that it is."""
        (channels, height, width), side = self.info.image_shape, self.spec.patch_size
        patches = values.permute(0, 2, 3, 1).reshape(len(values), *self.info.grid, channels, side, side)
        return patches.permute(0, 3, 1, 4, 2, 5).reshape(-1, channels, height, width).clamp(0, 1)

    @torch.no_grad()
    def fit(self, images: Iterable[Tensor]) -> dict[str, float]:
        """Fit the codes on a sample of the patches, the same however the images are batched.

        Returns the sample's fit_psnr (dB), fit_mse, rounds and codes_used. Raises InputError without images.
        """
        sample = self._sample(images)
        result = kmeans(sample, self.spec.codebook_size, self.spec.iterations, self.spec.seed)
        self.codes.copy_(result.centres)
        self.fitted.fill_(True)
        psnr = -10 * float(np.log10(max(result.mse, 1e-12)))
        return {"fit_psnr": psnr, "fit_mse": result.mse, "rounds": result.rounds, "codes_used": result.used}

    def _encoded(self, images: Tensor) -> Tensor:
        patches = self._patches(images)
        return nearest_codes(patches.reshape(-1, self.codes.shape[1]), self.codes).view(patches.shape[:3])

    def _patches(self, images: Tensor) -> Tensor:
        """Return a view (n, rows, columns, C, side, side) of images."""
        (rows, columns), side = self.info.grid, self.spec.patch_size
        channels = self.info.image_shape[0]
        return images.reshape(len(images), channels, rows, side, columns, side).permute(0, 2, 4, 1, 3, 5)

    def _chunk(self, images: Tensor) -> int:
        return max(1, _NUMBERS // max(1, images[:1].numel()))

    def _sample(self, images: Iterable[Tensor]) -> Tensor:
        """Return the patches (m, d) with the smallest random keys, in the order in which they came.

        One pass, as the number of images is not known before; only chosen patches are copied.
        """
        bits = np.random.PCG64(np.random.SeedSequence([self.spec.seed, 1]))
        keys, kept = np.empty(0, dtype=np.uint64), self.codes.new_empty((0, self.codes.shape[1]))
        for batch in images:
            patches = self._patches(batch)
            new = np.atleast_1d(bits.random_raw(int(np.prod(patches.shape[:3]))))
            every = np.concatenate([keys, new])
            chosen = np.sort(np.argsort(every, kind="stable")[: self.spec.sample])
            old = torch.from_numpy(chosen[chosen < len(keys)]).to(kept.device)
            places = np.unravel_index(chosen[chosen >= len(keys)] - len(keys), tuple(patches.shape[:3]))
            taken = patches[tuple(torch.from_numpy(place).to(batch.device) for place in places)]
            kept = torch.cat([kept[old], taken.reshape(len(taken), kept.shape[1]).to(kept)])
            keys = every[chosen]
        if not len(kept):
            raise InputError("there are no training images to fit the tokenizer on; check data.root")
        return kept


def build(spec: PatchKMeans, image_shape: tuple[int, int, int]) -> PatchKMeansTokenizer:
    """Return an unfitted tokenizer for images (channels, height, width)."""
    return PatchKMeansTokenizer(spec, image_shape)
