"""What a pre-training takes for an image: its encoder, what stands behind it, and the networks that it learns from.

Left out are heads, stems, the tokenizer of `targets: encoded`, and terms that decode the picture.
"""

from collections.abc import Callable
from math import prod

from tokexp.spec.backbones import BackboneSpec
from tokexp.spec.bootstrap import Byol
from tokexp.spec.context_autoencoding import Cae
from tokexp.spec.masked_autoencoding import Mae
from tokexp.spec.models import VitSpec
from tokexp.spec.morphing_terms import target_of
from tokexp.spec.permuted import Mapet, Pim
from tokexp.spec.self_distillation import Data2vec
from tokexp.spec.stages import PretrainStage
from tokexp.spec.stems import Grid
from tokexp.spec.teachers import TeacherTarget, TimmTarget

TRAINING = 3.0
"""Training over a forward pass."""

_VISIBLE = 0.7  # of mtm's masked encoder and its decoder, over a full encoder
_TOWER = (12, 768)  # depth and width of a network of timm; most are a ViT-B

Patches = Callable[[BackboneSpec], Grid]
"""Model to its grid of patches."""


def forward_like(payload: PretrainStage, patches: Patches) -> float:
    """Return the operations for one image that training multiplies by TRAINING; passes without gradient count less."""
    return _trained(payload, patches) + _only_forward(payload, patches) / TRAINING


def blocks(depth: int, rows: int, width: int, mlp_ratio: float = 4.0) -> float:
    """Return the operations of transformer blocks over so many rows."""
    return depth * ((8 + 4 * mlp_ratio) * rows * width**2 + 4 * rows**2 * width)


def _trained(payload: PretrainStage, patches: Patches) -> float:
    model, objective, grid = payload.model, payload.objective, patches(payload.model)
    plain, count = model.operations(grid), prod(grid)
    if isinstance(objective, (Pim, Mapet)) and isinstance(model, VitSpec):
        return _two_streams(objective, model, count)
    if isinstance(objective, Mae):
        decoder = objective.decoder
        seen = model.operations((count - objective.predicted(count), 1))
        return seen + blocks(decoder.depth, count + 1, decoder.width)
    if isinstance(objective, Cae):
        return model.operations((count - objective.predicted(count), 1)) + _neck(objective, model, count)
    if isinstance(objective, Byol):
        return 2 * plain
    return _VISIBLE * plain if objective.kind == "mtm" else plain


def _two_streams(objective: Pim | Mapet, model: VitSpec, count: int) -> float:
    """Return the operations of blocks in which the queries are nobody's keys, and the last of which has them alone."""
    targets, width = max(0, objective.predicted(count)), model.width
    free = 1 + count - targets + (targets if isinstance(objective, Mapet) else 0)
    keys = free + targets

    def block(rows: int, scores: int) -> float:
        return ((4 + 4 * model.mlp_ratio) * rows + 4 * keys) * width**2 + 4 * scores * width

    others = block(keys + targets, free**2 + 2 * targets * keys)
    return (model.depth - 1) * others + block(targets, targets * keys)


def _neck(objective: Cae, model: BackboneSpec, count: int) -> float:
    """Return the operations of CAE's regressor, whose m rows look at all N, and of its decoder over m."""
    neck, hidden = objective.neck, objective.predicted(count)
    width = neck.width or model.stem_width
    rows = 2 * width**2 * ((2 + 8) * hidden + 2 * count)
    return neck.regressor * (rows + 4 * hidden * count * width) + blocks(neck.decoder, hidden, width)


def _only_forward(payload: PretrainStage, patches: Patches) -> float:
    """Return the operations of what is learned from: a target, an average, or the encoder on the masked patches."""
    model, objective, grid = payload.model, payload.objective, patches(payload.model)
    target, found = target_of(objective), 0.0
    if isinstance(target, TimmTarget):
        depth, width = _TOWER
        found = blocks(depth, prod(grid) + 1, width)
    elif target is not None:
        trained = payload.target.model if isinstance(target, TeacherTarget) and payload.target is not None else None
        other = model if trained is None else trained
        found = other.operations(patches(other))
    if isinstance(objective, Byol):
        found += 2 * model.operations(grid)
    if isinstance(objective, Data2vec):
        found += model.operations(grid)
    if isinstance(objective, Cae) and objective.align_weight:
        found += model.operations((objective.predicted(prod(grid)), 1))
    return found
