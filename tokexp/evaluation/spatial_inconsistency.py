"""Spatial inconsistency: patches of an image that are told apart from its class (Kim et al. 2024, DTM, section 3).

Every patch token is given a class, by the text nearest to it or by a linear probe, without morphing and with its group
averaged first. Table 1 of the paper is `ensemble_top1`, an image's class by the scores averaged over its
patches; figure 2 counts the patches that are right by themselves. Tokens count by their direction alone, as text sees
them: with raw tokens averaging and a linear probe would change places, and morphing could change no ensemble.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, cross_entropy, normalize

from tokexp.data.base import Batch
from tokexp.errors import InputError
from tokexp.evaluation.base import Grouped, Measure, Measured, PatchTokens
from tokexp.objectives.base import Objective, StepOutput
from tokexp.spec.patch_predictions import SpatialInconsistency

LOGIT_SCALE = 100.0
"""CLIP's factor of cosines before they become probabilities (its largest, which its training reached)."""

_AT_ONCE = 64
"""Images whose scores, patches x classes each, are held at once."""


class Probes(Objective):
    """A linear classifier of tokens for every setting; a patch is an example, and a group as many as it has patches."""

    def __init__(self, tokens: PatchTokens, classes: int) -> None:
        """Take what gives the tokens, and the number of classes."""
        super().__init__()
        self.heads = nn.ModuleList(nn.Linear(tokens.width, classes) for _ in range(tokens.settings))
        self._tokens = (tokens,)  # in a tuple its network is no part of what is trained

    def logits(self, setting: int, rows: Tensor) -> Tensor:
        """Return scores (..., classes) of tokens (..., width)."""
        # Rows of length sqrt(d) have values of about 1, for which learning rates are made.
        scores: Tensor = self.heads[setting](normalize(rows, dim=-1) * math.sqrt(rows.shape[-1]))
        return scores

    def forward(self, batch: Batch, generator: torch.Generator) -> StepOutput:
        """Return the sum over settings of the mean cross entropy of a patch; nothing is drawn."""
        del generator
        losses = []
        for setting, grouped in enumerate(self._tokens[0](_values(batch))):
            scores = self.logits(setting, grouped.rows)
            wanted = batch.labels[:, None].expand(scores.shape[:2])
            each = cross_entropy(scores.transpose(1, 2), wanted, reduction="none")
            losses.append(each.gather(1, grouped.labels).mean())
        return StepOutput(torch.stack(losses).sum(), {})


class ZeroShot:
    """The cosine with a text of every class."""

    def __init__(self, texts: Tensor) -> None:
        """Take embeddings (classes, width)."""
        self._texts = normalize(texts.float(), dim=-1)

    def logits(self, setting: int, rows: Tensor) -> Tensor:
        """Return scores (..., classes) of tokens (..., width), the same for every setting."""
        del setting
        scores: Tensor = LOGIT_SCALE * normalize(rows, dim=-1) @ self._texts.to(rows).T
        return scores


def read_texts(file: str, classes: int, width: int) -> Tensor:
    """Return the only tensor of a file, (classes, width). Raises InputError where that is not what it holds."""
    try:
        found: list[Tensor] = list(load_file(Path(file).expanduser()).values())
    except (OSError, SafetensorError) as error:
        raise InputError(f"text: {file} is no safetensors file that can be read: {error}") from error
    shapes = [tuple(tensor.shape) for tensor in found]
    if shapes != [(classes, width)]:
        raise InputError(f"text: {file} holds {shapes}; one tensor of {classes} classes x {width} is needed")
    return found[0]


@dataclass
class _Tally:
    """What one setting found: counts over images, and maps of the images that are shown."""

    sums: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    predicted: list[Tensor] = field(default_factory=list)
    ranks: list[Tensor] = field(default_factory=list)


class PatchPredictions(Measure):
    """Scores every patch of a split's images."""

    def __init__(self, spec: SpatialInconsistency) -> None:
        """Take what is looked at, and how."""
        self.spec = spec

    def measure(self, model: Measured) -> dict[str, float]:
        """Return the shares named in the spec, with `_at_GROUPS` where patches were morphed; keep maps of some images.

        Raises InputError for images of one patch, and for texts that do not fit.
        """
        tokens = model.patch_tokens(self.spec)
        if math.prod(tokens.grid) < 2:
            raise InputError("spatial_inconsistency compares patches of an image; this encoder makes one")
        classes = next(model.batches(self.spec.split)).num_classes
        heads = self._heads(model, tokens, classes)
        tallies: dict[str, _Tally] = defaultdict(_Tally)
        shown, images = _Shown(self.spec.pictures), 0
        with torch.no_grad():
            for part in _parts(model, self.spec.split):
                chosen = shown.choose(part.labels, images)
                images += len(part)
                for setting, grouped in enumerate(tokens(_values(part))):
                    name = f"_at_{grouped.rows.shape[1]}" if setting else ""
                    scores = heads.logits(setting, grouped.rows)
                    self._count(tallies[name], scores, grouped, part.labels, tokens.grid, chosen)
        self._keep_maps(model, tallies, shown, tokens.grid)
        return {f"{what}{name}": total / images for name, each in tallies.items() for what, total in each.sums.items()}

    def _heads(self, model: Measured, tokens: PatchTokens, classes: int) -> Probes | ZeroShot:
        if self.spec.text is not None:
            return ZeroShot(read_texts(self.spec.text, classes, tokens.width))
        torch.manual_seed(self.spec.seed)
        probes = Probes(tokens, classes)
        model.fit(probes, self.spec.train, self.spec.seed)
        return probes

    def _count(
        self, tally: _Tally, scores: Tensor, grouped: Grouped, labels: Tensor, grid: tuple[int, int], chosen: list[int]
    ) -> None:
        """Add what the scores (B, groups, classes) of images say; keep maps of the chosen ones."""
        rank = (scores > scores.gather(2, labels[:, None, None].expand(*scores.shape[:2], 1))).sum(-1)
        predicted = scores.argmax(-1).gather(1, grouped.labels)
        tally.sums["ensemble_top1"] += float((self.ensemble(scores, grouped.labels) == labels).sum())
        tally.sums["patch_top1"] += float((predicted == labels[:, None]).double().mean(1).sum())
        maps = predicted.view(-1, *grid)
        tally.sums["agreement"] += float(neighbours(maps[..., None], lambda a, b: (a == b)[..., 0].double()).sum())
        spread = grouped.rows.take_along_dim(grouped.labels[:, :, None], dim=1).unflatten(1, grid)
        alike = neighbours(spread, lambda a, b: cosine_similarity(a, b, dim=-1).double())
        tally.sums["neighbour_cosine"] += float(alike.sum())
        tally.predicted.append(maps[chosen].cpu())
        tally.ranks.append(rank.gather(1, grouped.labels).view(-1, *grid)[chosen].cpu())

    def ensemble(self, scores: Tensor, labels: Tensor) -> Tensor:
        """Return the class (B,) of images by the average of groups' scores (B, groups, classes)."""
        if self.spec.scores == "probabilities":
            scores = scores.softmax(-1)
        sizes = torch.zeros_like(scores[..., 0]).scatter_add(1, labels, torch.ones_like(labels, dtype=scores.dtype))
        weights = sizes if self.spec.weighting == "tokens" else (sizes > 0).to(scores)
        return (scores * weights[..., None]).sum(1).argmax(-1)

    def _keep_maps(self, model: Measured, tallies: dict[str, _Tally], shown: "_Shown", grid: tuple[int, int]) -> None:
        if not shown.positions:
            return
        settings = [f"{name.removeprefix('_at_')} groups" if name else f"{math.prod(grid)} patches" for name in tallies]
        stacked = {
            what: np.stack([torch.cat(getattr(each, what)).numpy().astype(np.int32) for each in tallies.values()])
            for what in ("predicted", "ranks")
        }
        positions, labels = np.array(shown.positions), np.array(shown.labels)
        model.keep("patches", {"positions": positions, "labels": labels, "settings": np.array(settings), **stacked})


@dataclass
class _Shown:
    """The images whose maps are kept: the first of each class that comes, up to a number."""

    most: int
    positions: list[int] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)

    def choose(self, labels: Tensor, before: int) -> list[int]:
        """Return which of these images are shown; `before` images came earlier."""
        chosen = []
        for place, label in enumerate(labels.tolist()):
            if len(self.positions) < self.most and label not in self.labels:
                self.positions.append(before + place)
                self.labels.append(label)
                chosen.append(place)
        return chosen


def neighbours(maps: Tensor, compare: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Return the mean (B,) over all pairs of patches side by side, or one below the other, of maps (B, R, C, d)."""
    pairs = [compare(maps[:, :, 1:], maps[:, :, :-1]).flatten(1), compare(maps[:, 1:], maps[:, :-1]).flatten(1)]
    return torch.cat(pairs, dim=1).mean(1)


def _parts(model: Measured, split: str) -> Iterator[Batch]:
    for batch in model.batches(split):
        for start in range(0, len(batch), _AT_ONCE):
            yield batch.part(start, start + _AT_ONCE)


def _values(batch: Batch) -> Tensor:
    assert batch.values is not None
    return batch.values


def build(spec: SpatialInconsistency, image_shape: tuple[int, int, int]) -> PatchPredictions:
    """Return the measure for a spec."""
    del image_shape
    return PatchPredictions(spec)
