"""Sizes of models as papers print them."""

from typing import Any

from tokexp.spec.models import VitSpec
from tokexp.stages.model_size import model_size


def printed_size(stem: dict[str, Any], size: str = "small", **fields: Any) -> tuple[float, float]:
    """Return millions of weights and GFLOPs of a model with a head of 1000 classes, for 3 x 224 x 224 pixels."""
    spec = VitSpec.model_validate({"kind": "vit", "size": size, "input": "pixels", "stem": stem, **fields})
    whole = model_size(spec, 3, (224, 224), 1000)[-1]
    return whole.parameters / 1e6, whole.multiplications / 1e9
