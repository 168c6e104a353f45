"""How features become indices: nearest code with moving averages, or rounding without a codebook.

Features and quantised values are (B, d, H, W), indices (B, H, W) int64, codes (K, d) float32.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from math import atanh, prod

import torch
from torch import Tensor, distributed, nn
from torch.nn.functional import logsigmoid, mse_loss

from tokexp.spec.tokenizers import EmaQuantizer as EmaSpec
from tokexp.spec.tokenizers import FsqQuantizer as FsqSpec
from tokexp.spec.tokenizers import LfqQuantizer as LfqSpec
from tokexp.spec.tokenizers import QuantizerSpec

_SCORES = 1 << 24
"""Most numbers that a search for the nearest code holds at once."""

_TINY = 1e-12

_TINY_SHARE = 1e-6
"""Least share of a sign in a batch, below which its logarithm has no slope."""


def nearest_codes(vectors: Tensor, codes: Tensor) -> Tensor:
    """Return int64 places (N,) of the codes (K, d) nearest to vectors (N, d) by Euclidean distance.

    The first of equals; in float32, chunk by chunk.
    """
    with torch.autocast(vectors.device.type, enabled=False):
        codes = codes.float()
        table, offset = codes.T.contiguous(), 0.5 * codes.square().sum(1)
        chunks = vectors.split(max(1, _SCORES // len(codes)))
        return torch.cat([(chunk.float() @ table - offset).argmax(1) for chunk in chunks])


@dataclass
class Quantized:
    """values: with the gradient passed straight through. indices. loss: what pulls the encoder to its codes."""

    values: Tensor
    indices: Tensor
    loss: Tensor


class Quantizer(nn.Module, ABC):
    """Between an encoder and a decoder. `forward` is for training; `indices` and `codebook` change nothing."""

    width: int

    @abstractmethod
    def forward(self, features: Tensor, generator: torch.Generator) -> Quantized:
        """Return the quantised features; while training, remember what `update` needs."""

    @abstractmethod
    def indices(self, features: Tensor) -> Tensor:
        """Return the indices of features."""

    @abstractmethod
    def codebook(self) -> Tensor:
        """Return the codes (K, d)."""

    def update(self) -> Tensor:
        """Follow an optimizer update: move the codes. Return how many were started anew."""
        return torch.zeros(())


class EmaCodes(Quantizer):
    """Nearest code; codes are moving averages of the features that chose them.

    Source: van den Oord et al. 2017 (VQ-VAE), appendix A.1: N <- g N + (1 - g) n, m <- g m + (1 - g) sum of features,
    code = m / N, with n counted over an update. Codes start as features of the first batch; a code with N below
    `restart_below` is set to a feature of the update's first micro-batch (as in Dhariwal et al. 2020). Counts are
    summed over micro-batches and processes, so their number changes nothing.
    """

    codes: Tensor
    counts: Tensor
    sums: Tensor
    started: Tensor

    def __init__(self, spec: EmaSpec) -> None:
        """Make empty codes; the first training batch fills them."""
        super().__init__()
        self.spec, self.width = spec, spec.code_dim
        shape = (spec.codebook_size, spec.code_dim)
        self.register_buffer("codes", torch.zeros(shape))
        self.register_buffer("counts", torch.zeros(spec.codebook_size))
        self.register_buffer("sums", torch.zeros(shape))
        self.register_buffer("started", torch.zeros((), dtype=torch.bool))
        # Not buffers: they are empty between updates, and data-parallel training would overwrite buffers.
        self._new_counts: Tensor | None = None
        self._new_sums: Tensor | None = None
        self._spare: Tensor | None = None

    def forward(self, features: Tensor, generator: torch.Generator) -> Quantized:
        """Return the nearest codes; while training, count them."""
        vectors = _as_rows(features)
        if self.training:
            self._prepare(vectors.detach(), generator)
        places = nearest_codes(vectors.detach(), self.codes)
        if self.training:
            self._count(vectors.detach(), places)
        indices = _as_grid(places, features)
        values = self.codes[indices].permute(0, 3, 1, 2)
        loss = self.spec.commitment * mse_loss(features.float(), values)
        return Quantized(features + (values - features).detach(), indices, loss)

    def indices(self, features: Tensor) -> Tensor:
        """Return the indices of features."""
        return _as_grid(nearest_codes(_as_rows(features), self.codes), features)

    def codebook(self) -> Tensor:
        """Return the codes (K, d)."""
        return self.codes

    @torch.no_grad()
    def _prepare(self, vectors: Tensor, generator: torch.Generator) -> None:
        """Choose features to start or restart codes with, once per update."""
        if self._spare is not None:
            return
        number = len(self.codes)
        # Without repetition as far as the features go.
        rounds = -(-number // len(vectors))
        order = [torch.randperm(len(vectors), generator=generator, device=vectors.device) for _ in range(rounds)]
        self._spare = _from_first(vectors.float()[torch.cat(order)[:number]])
        if not bool(self.started):
            self._restart(torch.ones_like(self.counts, dtype=torch.bool))
            self.started.fill_(True)

    @torch.no_grad()
    def _count(self, vectors: Tensor, places: Tensor) -> None:
        if self._new_counts is None or self._new_sums is None:
            self._new_counts, self._new_sums = torch.zeros_like(self.counts), torch.zeros_like(self.sums)
        self._new_counts += torch.bincount(places, minlength=len(self.codes)).to(self.counts)
        self._new_sums.index_add_(0, places, vectors.float())

    @torch.no_grad()
    def update(self) -> Tensor:
        """Move the codes to their averages and restart those that are hardly used; return how many those are."""
        if self._new_counts is None or self._new_sums is None:
            return self.counts.new_zeros(())
        if distributed.is_initialized():
            distributed.all_reduce(self._new_counts)
            distributed.all_reduce(self._new_sums)
        self.counts.lerp_(self._new_counts, 1 - self.spec.decay)
        self.sums.lerp_(self._new_sums, 1 - self.spec.decay)
        live = self.counts > _TINY
        self.codes[live] = self.sums[live] / self.counts[live, None]
        dead = self.counts < self.spec.restart_below
        self._restart(dead)
        self._new_counts = self._new_sums = self._spare = None
        return dead.sum().float()

    def _restart(self, which: Tensor) -> None:
        if self._spare is None or not bool(which.any()):
            return
        self.codes[which] = self._spare[which]
        # High enough not to be restarted at once.
        self.counts[which] = 1 + self.spec.restart_below
        self.sums[which] = self.codes[which] * self.counts[which, None]


class FiniteScalar(Quantizer):
    """Every dimension is squeezed to a few levels and rounded; codes follow from the index, none is stored.

    Source: Mentzer et al. 2023 (FSQ), section 3 and appendix A.1. With L levels, values are whole numbers divided by
    L // 2: -1 to 1 for odd L, -1 to 1 - 2 / L for even L. The first dimension changes fastest with the index.
    """

    levels: Tensor
    basis: Tensor
    reach: Tensor
    shift: Tensor

    def __init__(self, spec: FsqSpec) -> None:
        """Take the levels of every dimension."""
        super().__init__()
        self.width = len(spec.levels)
        # Slightly wider than the levels, so that the outer ones are reached.
        reach = [(level - 1) * (1 + 1e-3) / 2 for level in spec.levels]
        shift = [0.0 if level % 2 else atanh(0.5 / bound) for level, bound in zip(spec.levels, reach, strict=True)]
        basis = [prod(spec.levels[:place]) for place in range(self.width)]
        # Not in the state: all follow from the spec.
        self.register_buffer("levels", torch.tensor(spec.levels), persistent=False)
        self.register_buffer("basis", torch.tensor(basis), persistent=False)
        self.register_buffer("reach", torch.tensor(reach), persistent=False)
        self.register_buffer("shift", torch.tensor(shift), persistent=False)

    def forward(self, features: Tensor, generator: torch.Generator) -> Quantized:
        """Return the rounded features; there is nothing to pull."""
        del generator
        steps = self._bounded(features)
        rounded = steps + (steps.round() - steps).detach()
        values = (rounded / (self.levels // 2)).permute(0, 3, 1, 2)
        return Quantized(values, self._to_indices(rounded.detach()), features.new_zeros(()))

    def indices(self, features: Tensor) -> Tensor:
        """Return the indices of features."""
        return self._to_indices(self._bounded(features).round())

    def codebook(self) -> Tensor:
        """Return the codes (K, d) of all indices in order."""
        places = torch.arange(int(self.levels.prod()), device=self.levels.device)
        digits = (places[:, None] // self.basis) % self.levels
        return (digits - self.levels // 2) / (self.levels // 2)

    def _bounded(self, features: Tensor) -> Tensor:
        """Return (B, H, W, d) float32, each dimension within its levels (before rounding)."""
        rows = features.float().permute(0, 2, 3, 1)
        offset = torch.where(self.levels % 2 == 0, 0.5, 0.0)
        return (rows + self.shift).tanh() * self.reach - offset

    def _to_indices(self, rounded: Tensor) -> Tensor:
        digits = rounded.long() + self.levels // 2
        return (digits * self.basis).sum(-1)


class SignBits(Quantizer):
    """Every dimension becomes its sign, -1 or 1; the index is the bits, first dimension lowest; none is stored.

    Source: Yu et al. 2024 (MAGVIT-v2), section 3.1: codes' probabilities are the softmax of -|z - c|^2 / temperature,
    and the entropy loss is the mean entropy of a token less `diversity` times that of the mean token (equation 5).
    Both factor over dimensions for one token; the mean token's entropy is taken dimension by dimension too, an upper
    bound that avoids 2^bits probabilities. Loss: commitment times squared distance, entropy times the entropy loss.
    """

    basis: Tensor

    def __init__(self, spec: LfqSpec) -> None:
        """Take the number of dimensions and the weights of the losses."""
        super().__init__()
        self.spec, self.width = spec, spec.bits
        self.register_buffer("basis", 2 ** torch.arange(spec.bits), persistent=False)

    def forward(self, features: Tensor, generator: torch.Generator) -> Quantized:
        """Return the signs, with the gradient passed straight through."""
        del generator
        values = _signs(features.detach())
        loss = self.spec.commitment * mse_loss(features.float(), values)
        loss = loss + self.spec.entropy * self._entropy_loss(features.float())
        return Quantized(features + (values - features).detach(), self.indices(features), loss)

    def indices(self, features: Tensor) -> Tensor:
        """Return the indices of features."""
        return ((features.permute(0, 2, 3, 1) > 0) * self.basis).sum(-1)

    def codebook(self) -> Tensor:
        """Return the codes (K, d) of all indices in order."""
        places = torch.arange(2**self.width, device=self.basis.device)
        return ((places[:, None] // self.basis) % 2 * 2 - 1).float()

    def _entropy_loss(self, features: Tensor) -> Tensor:
        """Return the mean over tokens of their entropy less that of the mean token, in nats, summed over dimensions."""
        # |z + 1|^2 - |z - 1|^2 = 4 z: the log odds of the sign 1.
        odds = 4 * _as_rows(features) / self.spec.temperature
        sure = -(odds.sigmoid() * logsigmoid(odds) + (-odds).sigmoid() * logsigmoid(-odds)).sum(1).mean()
        mean = odds.sigmoid().mean(0).clamp(_TINY_SHARE, 1 - _TINY_SHARE)
        used = -(mean * mean.log() + (1 - mean) * (1 - mean).log()).sum()
        return sure - self.spec.diversity * used


def build_quantizer(spec: QuantizerSpec) -> Quantizer:
    """Return the quantizer of a spec."""
    if isinstance(spec, LfqSpec):
        return SignBits(spec)
    return EmaCodes(spec) if isinstance(spec, EmaSpec) else FiniteScalar(spec)


def _signs(features: Tensor) -> Tensor:
    return torch.where(features > 0, 1.0, -1.0)


def _as_rows(features: Tensor) -> Tensor:
    return features.permute(0, 2, 3, 1).reshape(-1, features.shape[1])


def _as_grid(places: Tensor, features: Tensor) -> Tensor:
    return places.view(features.shape[0], *features.shape[2:])


def _from_first(values: Tensor) -> Tensor:
    """Return the first process's values on every process."""
    if distributed.is_initialized():
        values = values.contiguous()
        distributed.broadcast(values, 0)
    return values
