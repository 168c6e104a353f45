"""k-means over the features of a frozen network of timm: a token is the nearest mean feature.

Sources: Baraldi et al. 2023 (MaPeT), section 4.2, which does so with CLIP; timm (Wightman) for the networks and their
normalisation. Distances are Euclidean, features are not normalised unless `spherical` says so; the sample is kept in
half precision, as MaPeT's release keeps it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from tokexp.errors import DataError, InputError
from tokexp.spec.feature_tokenizers import FeatureKMeans, KClip
from tokexp.tokenizers.base import Metric
from tokexp.tokenizers.checkpoints import load_published, read_tensors
from tokexp.tokenizers.clusters import clusters
from tokexp.tokenizers.feature_sample import Sample
from tokexp.tokenizers.published import PublishedTokenizer, resized
from tokexp.tokenizers.quantizers import nearest_codes
from tokexp.torchvision_ops import ensure_torchvision

ensure_torchvision()
import timm  # noqa: E402 (timm imports torchvision)

_HEADS = ("head.", "fc.", "head_dist.", "classifier.", "norm_head.", "fc_norm.")
"""Names of timm's parts behind the features."""


class FeatureKMeansTokenizer(PublishedTokenizer):
    """A network without its head, the statistics of its pixels, and the codes (K, d)."""

    DECODES = False
    mean: Tensor
    std: Tensor
    codes: Tensor

    def __init__(self, spec: FeatureKMeans | KClip, image_shape: tuple[int, int, int]) -> None:
        """Make the network with random weights and no codes. Raises InputError for what timm cannot build."""
        self.plan, self.angle = spec, isinstance(spec, FeatureKMeans) and spec.spherical
        super().__init__(spec, image_shape)
        self.backbone = _network(spec.backbone, self.side)
        statistics = self.backbone.pretrained_cfg
        for name in ("mean", "std"):
            self.register_buffer(name, torch.tensor(statistics[name], dtype=torch.float32).view(1, -1, 1, 1))
        self.register_buffer("codes", torch.zeros(spec.codebook_size, spec.width))

    def metric(self) -> Metric:
        """Return cosine for normalised features."""
        return "cosine" if self.angle else "euclidean"

    def outside_data(self) -> str:
        """Return what the network was trained on."""
        if self.plan.random:
            return "none"
        return "CLIP" if isinstance(self.plan, KClip) else self.plan.outside_data

    def codebook(self) -> Tensor:
        """Return the codes (K, d)."""
        return self.codes

    def features(self, pixels: Tensor) -> Tensor:
        """Return features (n, d, rows, columns) of pixels in [0, 1]. Raises InputError for another width or grid."""
        spec, normed = self.plan, (pixels - self.mean) / self.std
        layer, norm = (spec.layer, spec.norm) if isinstance(spec, FeatureKMeans) else (-1, False)
        found: Tensor = self.backbone.forward_intermediates(
            normed, indices=[layer], norm=norm, output_fmt="NCHW", intermediates_only=True, stop_early=True
        )[0]
        expected = (spec.width, *self.info.grid)
        if tuple(found.shape[1:]) != expected:
            raise InputError(
                f"tokenizer: {spec.backbone} gives features of width {found.shape[1]} on a grid of "
                f"{found.shape[2]} x {found.shape[3]}; width and stride say {expected[0]} on "
                f"{expected[1]} x {expected[2]}"
            )
        return normalize(found.float(), dim=1) if self.angle else found.float()

    def indices(self, pixels: Tensor) -> Tensor:
        """Return the nearest codes (n, rows, columns)."""
        features = self.features(pixels).permute(0, 2, 3, 1)
        codes = normalize(self.codes, dim=1) if self.angle else self.codes
        return nearest_codes(features.reshape(-1, features.shape[3]), codes).view(features.shape[:3])

    def train(self, mode: bool = True) -> Self:
        """Set the mode of all but the network, whose statistics never move."""
        super().train(mode)
        self.backbone.eval()
        return self

    @torch.no_grad()
    def fit(self, images: Iterable[Tensor]) -> dict[str, float]:
        """Load the network, sample its features, and fit the codes; return the error, and how many codes are used.

        Raises DataError for a file that does not fit, InputError without images.
        """
        spec = self.plan
        self.eval()
        self.load()
        sample = self._sample(images).rows
        found = clusters(
            sample, spec.codebook_size, rounds=spec.iterations, restarts=spec.restarts, seed=spec.seed,
            device=self.codes.device, batch=spec.batch if spec.method == "mini_batch" else None,
        )  # fmt: skip
        self.codes.copy_(found.centres)
        return {"fit_mse": found.mse, "codes_used": float(found.used), "sample": float(len(sample))}

    def load(self) -> None:
        """Load the network's weights, unless they stay random. Raises DataError for a file that does not fit."""
        file = self.plan.checkpoint
        if file is None:
            return
        state = {name: value for name, value in read_tensors(file).items() if not name.startswith("text.")}
        convert = getattr(sys.modules[type(self.backbone).__module__], "checkpoint_filter_fn", None)
        if convert is not None:
            try:
                state = convert(state, self.backbone)
            except Exception as error:  # timm's conversions take the layout for granted, and fail on any other.
                raise DataError(
                    f"{file!r} is no checkpoint of the kind {self.plan.kind}, {self.plan.backbone}: timm cannot bring "
                    f"its {len(state)} tensors ({', '.join(list(state)[:3])}, ...) under that network's names ({error})"
                ) from error
        load_published(self.backbone, state, file, f"{self.plan.kind}, {self.plan.backbone}", _HEADS)

    def _sample(self, images: Iterable[Tensor]) -> Sample:
        """Return features in float16: the same ones however images are batched, on the CPU.

        Every feature has a random 64-bit key; it is taken if that is in the lowest `sample` of all keys and among the
        smallest `per_code` times K. Raises InputError without any.
        """
        spec = self.plan
        bits, limit = np.random.PCG64(np.random.SeedSequence([spec.seed, 2])), int(spec.sample * 2.0**64) - 1
        found = Sample(spec.per_code * spec.codebook_size, spec.width)
        for batch in images:
            for chunk in batch.split(self.chunk):
                drawn = np.atleast_1d(bits.random_raw(len(chunk) * int(np.prod(self.info.grid))))
                taken = np.flatnonzero(drawn <= np.uint64(limit))
                features = self.features(resized(chunk.float(), self.side)).permute(0, 2, 3, 1).flatten(0, 2)
                rows = features[torch.from_numpy(taken).to(features.device)]
                found.add(drawn[taken], rows.half().cpu())
        if not len(found.rows):
            raise InputError("tokenizer.sample: no feature was sampled; give more images or a larger share")
        return found


def _network(name: str, side: tuple[int, int]) -> Any:
    """Return a network of timm without its head, for images of this size where it must be told."""
    if not timm.is_model(name.split(".")[0]):
        raise InputError(f"tokenizer.backbone: timm has no model {name!r}")
    try:
        try:
            network = timm.create_model(name, pretrained=False, num_classes=0, img_size=side)
        except TypeError:  # networks of convolutions alone need not be told the size
            network = timm.create_model(name, pretrained=False, num_classes=0)
    except (RuntimeError, TypeError, AssertionError, ValueError) as error:
        raise InputError(f"tokenizer.backbone: timm cannot build {name!r} for these images: {error}") from error
    if not hasattr(network, "forward_intermediates"):
        raise InputError(f"tokenizer.backbone: {name!r} does not give out the features of its layers")
    for part in _HEADS:
        if isinstance(getattr(network, part[:-1], None), nn.Module):
            setattr(network, part[:-1], nn.Identity())
    return network


def build(spec: FeatureKMeans, image_shape: tuple[int, int, int]) -> FeatureKMeansTokenizer:
    """Return the network with random weights; `fit` loads the checkpoint and fits the codes."""
    return FeatureKMeansTokenizer(spec, image_shape)
