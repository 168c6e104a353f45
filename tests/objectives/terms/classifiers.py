"""A small classifier of pixels, its batches, and terms beside it."""

from typing import Any

import torch
from torch import Tensor

from tokexp.data.base import Batch
from tokexp.models.pixel_input import PixelInput
from tokexp.objectives.base import ObjectiveContext
from tokexp.objectives.supervised import Classifier
from tokexp.objectives.supervised import build as build_supervised
from tokexp.objectives.with_terms import WithTerms
from tokexp.registry import implementation
from tokexp.spec.models import VitSpec
from tokexp.spec.objectives import Supervised

SMALL = {"kind": "token_prop", "grid": 4, "size": 8, "rows": (16, 8)}
MOTO = {"kind": "moto", "inner": {"kind": "patchify", "patch_size": 4}, "entities": 3}
CLASSES = 5


def classifier(stem: dict[str, Any] | None = None, **fields: Any) -> Classifier:
    """Return a classifier of 16 x 16 pictures in 4 x 4 patches, from a seeded start."""
    torch.manual_seed(3)
    stem = stem or {"kind": "patchify", "patch_size": 4}
    model = {"kind": "vit", "width": 16, "depth": 2, "heads": 2, "input": "pixels", "stem": stem, **fields}
    backbone = implementation("models", "vit")(VitSpec.model_validate(model), 3, (16, 16))
    spec = Supervised.model_validate({"kind": "supervised"})
    return build_supervised(spec, ObjectiveContext(backbone, PixelInput("half"), CLASSES))


def beside(*terms: dict[str, Any], stem: dict[str, Any] | None = None) -> WithTerms:
    """Return a classifier with terms, whose first weights do not depend on the terms before them."""
    objective = classifier(stem)
    spec = Supervised.model_validate({"kind": "supervised", "terms": terms})
    torch.manual_seed(4)
    return WithTerms(objective, spec.terms)


def batch(images: int = 6) -> Batch:
    """Return pictures, and labels of them."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(CLASSES, (images,), generator=generator)
    return Batch(labels, CLASSES, values=torch.rand(images, 3, 16, 16, generator=generator))


def gradients(objective: Any, given: Batch | None = None) -> dict[str, Tensor]:
    """Return the gradients of one step by name; drawn with the same seeds every time."""
    objective.zero_grad()
    torch.manual_seed(1)
    objective(given or batch(), torch.Generator().manual_seed(1)).loss.backward()
    return {name: p.grad.clone() for name, p in objective.named_parameters() if p.grad is not None}
