"""Small checkpoints with the published names: random weights, scaled so that tokens differ between images."""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from tokexp.registry import implementation
from tokexp.spec.published_tokenizers import FrozenTokenizer
from tokexp.tokenizers.base import Tokenizer


def random_tokenizer(spec: FrozenTokenizer, shape: tuple[int, int, int], seed: int = 0) -> Any:
    """Return a tokenizer whose weights, biases, norms and positions are all random and not small."""
    draws = torch.Generator().manual_seed(seed)
    tokenizer: Tokenizer = implementation("tokenizers", spec.kind)(spec, shape).eval()
    for name, value in tokenizer.state_dict().items():
        if value.is_floating_point():
            scale = 1.5 * value[0].numel() ** -0.5 if value.ndim in (2, 4) else 1.0 if value.ndim == 3 else 0.1
            value.copy_(torch.randn(value.shape, generator=draws) * scale)
            if value.ndim == 1 and name.endswith("weight"):
                value.add_(1)
    return tokenizer


def with_checkpoint(spec: FrozenTokenizer, shape: tuple[int, int, int], folder: Path, seed: int = 0) -> Any:
    """Return the spec with a random checkpoint, written as safetensors into `folder`; the dVAE's in its two files."""
    state = random_tokenizer(spec, shape, seed).state_dict()
    parts = {"checkpoint": "encoder.", "decoder": "decoder."} if spec.kind == "dalle_dvae" else {"checkpoint": ""}
    files = {}
    for field, prefix in parts.items():
        files[field] = str(folder / f"{spec.kind}-{field}-{seed}.safetensors")
        save_file(
            {name[len(prefix) :]: v.clone() for name, v in state.items() if name.startswith(prefix)}, files[field]
        )
    return spec.model_copy(update=files)
