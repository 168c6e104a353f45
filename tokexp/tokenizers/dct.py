"""Tokens that are quantised cosine coefficients, as in a JPEG: one level per coefficient of every block.

Pixels of 8 bits, YCbCr, colour at full or half resolution, orthonormal DCT of every block, division by the tables of a
quality, rounding, the first coefficients in zig-zag order. With blocks of 8 these are the numbers that libjpeg writes.
Levels that the alphabet does not hold are clipped, which the fit counts; with the 2048 of its default and blocks of up
to 8 none is. Fitting finds the deviations by which coefficients are divided for the model.
Sources: SeiT++ (Kim et al. 2024), section 4.6, for the input; ITU-T T.81 and T.871 (JFIF) for transform and colours.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from tokexp.errors import InputError
from tokexp.spec.coefficients import Dct
from tokexp.tokenizers.base import Tokenizer, TokenizerInfo
from tokexp.tokenizers.coefficient_maps import FACT, CoefficientLayout, book_of, coefficient_steps
from tokexp.tokenizers.jpeg_tables import cosines, zigzag
from tokexp.tokenizers.ycbcr import halved, to_rgb, to_ycbcr

_NUMBERS = 1 << 24
"""Most pixels that are transformed at once, in float64."""

_TIE = 1e-9
"""Above what float64 errs by: a coefficient half-way between two levels goes to the larger one, as in libjpeg."""

_MIDDLE = 128


class DctTokenizer(Tokenizer):
    """Levels in the stored grid of `CoefficientLayout`; code k stands for level k - levels / 2."""

    deviations: Tensor
    fitted: Tensor
    basis: Tensor
    order: Tensor
    steps: Tensor

    def __init__(self, spec: Dct, image_shape: tuple[int, int, int]) -> None:
        """Make a tokenizer. Raises InputError if its fields do not go with the image."""
        super().__init__()
        fault = spec.fault(image_shape)
        if image_shape[1] % spec.block or image_shape[2] % spec.block:
            fault = "block", f"{spec.block} does not divide the image's {image_shape[1]} x {image_shape[2]} pixels"
        if fault is not None:
            raise InputError(f"tokenizer.{fault[0]}: {fault[1]}")
        self.spec, (rows, columns) = spec, spec.grid(image_shape)
        self.layout = CoefficientLayout(*spec.kept(image_shape), half=spec.chroma == "half" and image_shape[0] == 3)
        pixels = image_shape[1] * image_shape[2]
        self.info = TokenizerInfo(image_shape, (rows, columns), pixels // (rows * columns), implicit_codebook=True)
        self.register_buffer("deviations", torch.zeros(self.layout.channels, dtype=torch.float64))
        self.register_buffer("fitted", torch.zeros((), dtype=torch.bool))
        # What follows from the spec is on the device but in no file.
        self.register_buffer("basis", cosines(spec.block), persistent=False)
        self.register_buffer("order", zigzag(spec.block), persistent=False)
        self.register_buffer("steps", coefficient_steps(self.layout, spec.quality, spec.block), persistent=False)

    def codebook(self) -> Tensor:
        """Return the levels (K, 1), ascending."""
        half = self.spec.levels // 2
        return torch.arange(-half, half, dtype=torch.float32, device=self.deviations.device)[:, None]

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """Return int64 indices (n, *info.grid) of levels."""
        half = self.spec.levels // 2
        chunks = [self.unclipped(chunk).clamp(-half, half - 1) for chunk in images.split(self._chunk())]
        return torch.cat(chunks).long() + half

    def unclipped(self, images: Tensor) -> Tensor:
        """Return the levels (n, *info.grid), float64, of images (n, C, H, W) in [0, 1], however large they are."""
        planes = to_ycbcr(images, self.layout.chroma > 0)
        luma = self._coefficients(planes[:, :1], self.layout.luma)
        maps = [luma.flatten(1, 3)]
        if self.layout.chroma:
            colours = halved(planes[:, 1:]) if self.layout.half else planes[:, 1:]
            chroma = self._coefficients(colours, self.layout.chroma)
            # (n, 2, kept, rows, columns): the colours one after the other, or side by side where they are small.
            sides = chroma.permute(0, 2, 3, 1, 4).flatten(3).flatten(1, 2) if self.layout.half else chroma.flatten(1, 3)
            maps.append(sides)
        return self._rounded(torch.cat(maps, dim=1))

    def _coefficients(self, planes: Tensor, kept: int) -> Tensor:
        """Return (n, planes, kept, rows, columns) of planes (n, planes, H, W) of values from 0 to 255."""
        side = self.spec.block
        blocks = (planes.double() - _MIDDLE).unflatten(3, (-1, side)).unflatten(2, (-1, side)).transpose(3, 4)
        found: Tensor = self.basis @ blocks @ self.basis.T
        return found.flatten(-2)[..., self.order[:kept]].permute(0, 1, 4, 2, 3)

    def _rounded(self, stored: Tensor) -> Tensor:
        """Divide every map of stored coefficients by its step, and round half away from zero."""
        shares = self._by_row(self.steps, stored)
        return torch.sign(stored) * (stored.abs() / shares + 0.5 + _TIE).floor()

    def _by_row(self, each: Tensor, stored: Tensor) -> Tensor:
        """Return (rows, 1): for every row of stored grids the number of its coefficient, out of (channels,).

        Both colours have the same, so that pairs of half resolution do not matter.
        """
        rows = self.layout.map_grid((stored.shape[1], stored.shape[2]))[0]
        cut = self.layout.luma + self.layout.chroma
        if self.layout.half:
            luma, chroma = each[: self.layout.luma], each[self.layout.luma : cut]
            return torch.cat([luma.repeat_interleave(rows), chroma.repeat_interleave(rows // 2)])[:, None]
        return each.repeat_interleave(rows)[:, None]

    @torch.no_grad()
    def decode(self, indices: Tensor) -> Tensor:
        """Return images (n, C, H, W) in [0, 1] of indices (n, *info.grid), colour of half resolution repeated."""
        levels = self.layout.unfold(indices) - self.spec.levels // 2
        return self._pixels(levels.double() * self.steps[:, None, None])

    @torch.no_grad()
    def decode_values(self, values: Tensor) -> Tensor:
        """Return images (n, C, H, W) in [0, 1] of what a model reads (n, channels, rows, columns), not rounded."""
        gains = book_of(self.codebook(), self._note()).to(values.device).gains
        return self._pixels(values.double() / gains * self.steps[:, None, None])

    def _pixels(self, maps: Tensor) -> Tensor:
        luma, chroma = self.layout.planes(maps)
        planes = self._inverse(luma[:, None])
        if self.layout.chroma:
            colours = self._inverse(chroma)
            colours = colours.repeat_interleave(2, 2).repeat_interleave(2, 3) if self.layout.half else colours
            planes = torch.cat([planes, colours], dim=1)
        return (to_rgb(planes, self.info.image_shape[0]) / 255).clamp(0, 1).float()

    def _inverse(self, maps: Tensor) -> Tensor:
        """Return planes (n, planes, H, W) of coefficients (n, planes, kept, rows, columns)."""
        side, (count, planes, kept, rows, columns) = self.spec.block, maps.shape
        blocks = maps.new_zeros(count, planes, rows, columns, side * side)
        blocks[..., self.order[:kept]] = maps.permute(0, 1, 3, 4, 2)
        found: Tensor = self.basis.T @ blocks.unflatten(-1, (side, side)) @ self.basis
        return found.transpose(3, 4).reshape(count, planes, rows * side, columns * side) + _MIDDLE

    @torch.no_grad()
    def fit(self, images: Iterable[Tensor]) -> dict[str, float]:
        """Find the deviations of what the levels of images stand for.

        Returns the shares of levels that are `clipped` and `nonzero`. Raises InputError without images.
        """
        half, channels = self.spec.levels // 2, self.layout.channels
        sums, squares = torch.zeros(2, channels, dtype=torch.float64, device=self.steps.device)
        counts = {"places": 0, "levels": 0, "clipped": 0, "nonzero": 0}
        for batch in images:
            for chunk in batch.split(self._chunk()):
                levels = self.unclipped(chunk)
                kept = levels.clamp(-half, half - 1)
                maps = self.layout.unfold(kept) * self.steps[:, None, None]
                sums += maps.sum((0, 2, 3))
                squares += maps.square().sum((0, 2, 3))
                found = (maps.numel() // channels, kept.numel(), int((levels != kept).sum()), int((kept != 0).sum()))
                counts = {name: count + new for (name, count), new in zip(counts.items(), found, strict=True)}
        if not counts["places"]:
            raise InputError("there are no training images to fit the tokenizer on; check data.root")
        mean = sums / counts["places"]
        self._keep((squares / counts["places"] - mean.square()).clamp(min=0).sqrt())
        return {name: counts[name] / counts["levels"] for name in ("clipped", "nonzero")}

    def _keep(self, deviations: Tensor) -> None:
        """Keep four digits of deviations, which is what a store notes; at least half a step.

        A coefficient that is nearly always zero would else be huge where it is not.
        """
        least = torch.maximum(deviations, self.steps / 2)
        self.deviations.copy_(torch.tensor([float(f"{value:.4g}") for value in least.tolist()], dtype=torch.float64))
        self.fitted.fill_(True)

    def code_facts(self) -> dict[str, object]:
        """Return what the levels mean. Raises InputError before `fit`."""
        return {FACT: self._note()}

    def _note(self) -> dict[str, object]:
        if not bool(self.fitted):
            raise InputError("this tokenizer has not been fitted; run its tokenizer stage first")
        spec, layout = self.spec, self.layout
        return {
            "levels": spec.levels, "block": spec.block, "quality": spec.quality, "luma": layout.luma,
            "chroma": layout.chroma, "half": layout.half, "scale": spec.scale, "deviations": self.deviations.tolist(),
        }  # fmt: skip

    def _chunk(self) -> int:
        channels, rows, columns = self.info.image_shape
        return max(1, _NUMBERS // (channels * rows * columns))


def build(spec: Dct, image_shape: tuple[int, int, int]) -> DctTokenizer:
    """Return an unfitted tokenizer for images (channels, height, width)."""
    return DctTokenizer(spec, image_shape)
