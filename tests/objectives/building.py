"""Small models, codes and batches that the tests of objectives share."""

from typing import Any

import torch
from pydantic import TypeAdapter
from torch import Tensor

from tokexp.data.base import Batch
from tokexp.models.pixel_input import PixelInput
from tokexp.models.token_input import TokenInput
from tokexp.models.vit import build as build_vit
from tokexp.objectives.base import ObjectiveContext
from tokexp.objectives.mtm import MaskedTokenModelling
from tokexp.objectives.mtm import build as build_mtm
from tokexp.registry import implementation
from tokexp.spec.models import VitSpec
from tokexp.spec.objectives import Mtm, ObjectiveSpec
from tokexp.tokenizers.base import Codebook

CLASSES = 7


def vit_spec(stem: str | dict[str, Any] = "conv2x2", **fields: Any) -> VitSpec:
    """Return a small transformer's spec, or a published size where `size` is given."""
    sizes = {} if "size" in fields else {"width": 24, "depth": 2, "heads": 2}
    return VitSpec.model_validate(
        {"kind": "vit", "stem": {"kind": stem} if isinstance(stem, str) else stem, **sizes, **fields}
    )


def context(
    vit: VitSpec, how: str = "codebook", codes: Tensor | None = None, grid: tuple[int, int] = (8, 12), **options: Any
) -> ObjectiveContext:
    """Return a context with a new backbone; 13 random codes of width 6 and cosine search unless codes are given."""
    codebook = Codebook(torch.randn(13, 6) if codes is None else codes, "cosine")
    dropout = options.pop("dropout", 0.0)
    backbone = build_vit(vit, codebook.width, grid, **options)
    return ObjectiveContext(backbone, TokenInput(codebook, how, dropout), CLASSES, codebook)  # type: ignore[arg-type]


def mtm(preset: str, vit: VitSpec | None = None, fields: dict[str, Any] | None = None, **options: Any) -> Any:
    """Return MTM in one of its presets, with no dropout and positions of fixed sines, and a seeded start."""
    torch.manual_seed(3)
    without = {"input_dropout": 0.0, "decoder": {"dropout": 0.0}}
    spec = Mtm.model_validate({"kind": "mtm", "preset": preset, **without, **(fields or {})})
    built = build_mtm(spec, context(vit or vit_spec(), spec.input, positions="sincos", **options))
    assert isinstance(built, MaskedTokenModelling)
    return built


def stir(module: torch.nn.Module) -> None:
    """Move every trained parameter away from its start, so that zeros and ones hide nothing."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.1)


def token_batch(objective: Any, samples: int = 4, seed: int = 0) -> tuple[Tensor, Batch]:
    """Return random indices (B, H, W) and the batch of their codes."""
    generator = torch.Generator().manual_seed(seed)
    codebook, (rows, columns) = objective.token_input.codebook, objective.backbone.input_grid
    indices = torch.randint(len(codebook), (samples, rows, columns), generator=generator)
    labels = torch.randint(CLASSES, (samples,), generator=generator)
    return indices, Batch(labels, CLASSES, values=codebook.lookup(indices))


def predictor(kind: str, pixels: bool = False, vit: VitSpec | None = None, codes: int = 13, **fields: Any) -> Any:
    """Return an objective that predicts tokens, seeded, without stochastic depth.

    Of tokens on a grid of 8 x 12 with patches of 2 x 2; or, on pixels of 8 x 12, of tokens that come beside them, one
    for each patch of 2 x 2.
    """
    torch.manual_seed(3)
    spec: Any = TypeAdapter(ObjectiveSpec).validate_python({"kind": kind, "drop_path": 0.0, **fields})
    vit = vit or vit_spec()
    if pixels:
        backbone = build_vit(vit, 3, (8, 12))
        made = ObjectiveContext(backbone, PixelInput("half"), CLASSES, target_codes=codes)
    else:
        made = context(vit, codes=torch.randn(codes, 6))
    return implementation("objectives", kind)(spec, made)


def pixel_batch(samples: int = 4, codes: int = 13, seed: int = 0) -> Batch:
    """Return random pixels (B, 3, 8, 12) with tokens to predict (B, 4, 6)."""
    generator = torch.Generator().manual_seed(seed)
    beside = torch.randint(codes, (samples, 4, 6), generator=generator)
    values = torch.rand(samples, 3, 8, 12, generator=generator)
    return Batch(torch.zeros(samples, dtype=torch.int64), CLASSES, values=values, target_indices=beside)
