"""How large a model is: weights and multiplications of its parts, counted by torch without doing the arithmetic."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from tokexp.models.base import Backbone
from tokexp.registry import implementation
from tokexp.spec.backbones import BackboneSpec
from tokexp.spec.token_prop import TokenProp


@dataclass(frozen=True)
class PartSize:
    """A part of a model: its weights, frozen ones included, and the multiplications (each with its addition) per image.

    Papers call this number of multiplications FLOPs.
    """

    name: str
    parameters: int
    multiplications: int


def model_size(
    model: BackboneSpec, channels: int, input_grid: tuple[int, int], classes: int | None = None,
    decoders: Iterable[TokenProp] = (),
) -> list[PartSize]:  # fmt: skip
    """Return the parts of a model that reads (channels, rows, columns), the whole of them, and decoders of TokenProp.

    With `classes`, a linear head belongs to the whole. Decoders do not: they are there in training alone.
    """
    with torch.device("meta"):
        # timm's constructors ask tensors for numbers, which fake ones do not have and those on "meta" need not.
        backbone: Backbone = implementation("models", model.kind)(model, channels, input_grid).eval()
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        backbone = backbone.to_empty(device="cpu")
        values = torch.zeros(1, channels, *input_grid)
        stem, patches = _part("stem", backbone.stem, values)
        whole, _ = _part("model", backbone, values)
        head = 0 if classes is None else backbone.width * classes
        body = PartSize("blocks", whole.parameters - stem.parameters, whole.multiplications - stem.multiplications)
        parts = [stem, body]
        if classes is not None:
            parts.append(PartSize("head", head + classes, head))
        parts.append(PartSize("model", *(sum(getattr(part, what) for part in parts) for what in _COUNTS)))
        for spec in decoders:
            decoder = implementation("terms", spec.kind)(spec, backbone).decoder
            parts.append(_part("token_prop, in training alone", decoder, patches)[0])
    return parts


_COUNTS = ("parameters", "multiplications")


def _part(name: str, module: nn.Module, values: Tensor) -> tuple[PartSize, Tensor]:
    """Return the size of a module and what it makes of values."""
    with FlopCounterMode(display=False) as counter:
        found: Tensor = module(values)
    # Frozen weights are buffers; so are running statistics, which are no weights.
    frozen = [value for key, value in module.named_buffers() if key.rpartition(".")[2] in ("weight", "bias")]
    weights = sum(value.numel() for value in [*module.parameters(), *frozen])
    return PartSize(name, weights, counter.get_total_flops() // 2), found
