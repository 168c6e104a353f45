"""Published checkpoints: read as tensors alone, and loaded only where every name and shape fits.

Read are safetensors, torch files of tensors (`weights_only`), and, by the reader in `pickled.py`, torch files that hold
pickled modules or Lightning's settings beside the tensors. Own design, after the layouts of the published files.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from tokexp.errors import DataError
from tokexp.tokenizers.pickle_bounds import require_bounded
from tokexp.tokenizers.pickled import Inert, read_pickled, tensors_of_module

_WRAPPERS = ("state_dict", "model", "module")
"""Under what Lightning and timm's trainers keep the tensors."""

_NAMED = 4
"""Names that a message shows of each sort."""


def read_tensors(path: str | Path) -> dict[str, Tensor]:
    """Return the named tensors of a checkpoint file, on the CPU.

    Raises DataError if there is no such file, if it cannot be read safely, or if it holds no named tensor.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise DataError(f"{str(file)!r}: there is no such checkpoint file")
    if _is_safetensors(file):
        try:
            found: dict[str, Tensor] = load_file(file)
        except (SafetensorError, OSError) as error:
            raise DataError(f"{str(file)!r} cannot be read as safetensors ({error}); fetch it again") from error
    else:
        found = _unwrapped(_torch_content(file), file)
    if not found:
        raise DataError(f"{str(file)!r} holds no tensors")
    return found


def load_published(
    module: nn.Module, tensors: Mapping[str, Tensor], file: str | Path, kind: str, drop: Iterable[str] = ()
) -> None:
    """Copy tensors into a module whose names are those of the published file.

    Names that begin with one of `drop` are left out. Raises DataError, naming what was found and what was expected,
    unless all others fit name by name and shape by shape.
    """
    drop = tuple(drop)
    found = {name: value for name, value in tensors.items() if not name.startswith(drop)} if drop else dict(tensors)
    expected = module.state_dict()
    missing = [name for name in expected if name not in found]
    unexpected = [name for name in found if name not in expected]
    misshapen = [name for name, value in expected.items() if name in found and found[name].shape != value.shape]
    if missing or unexpected or misshapen:
        parts = [
            _part("it lacks", missing, expected),
            _part("it holds, and should not,", unexpected, found),
            _shapes(misshapen, found, expected),
        ]
        raise DataError(
            f"{str(file)!r} is no checkpoint of the kind {kind} with the sizes of this spec: "
            f"{'; '.join(part for part in parts if part)} ({len(found)} tensors found, {len(expected)} expected)"
        )
    module.load_state_dict(found)


def _is_safetensors(file: Path) -> bool:
    if file.suffix == ".safetensors":
        return True
    with file.open("rb") as stream:
        head = stream.read(9)
    return len(head) == 9 and head[8:] == b"{" and int.from_bytes(head[:8], "little") < file.stat().st_size


def _torch_content(file: Path) -> Any:
    require_bounded(file)
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except Exception:
        # What torch refuses or cannot read, for which it raises nearly anything, goes to the reader that says why, and
        # that knows pickled modules.
        return read_pickled(file)


def _unwrapped(content: Any, file: Path) -> dict[str, Tensor]:
    for name in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(name), (Mapping, Inert)):
            content = content[name]
    if isinstance(content, Inert):
        return tensors_of_module(content)
    if isinstance(content, Tensor):
        raise DataError(f"{str(file)!r} holds one bare tensor of shape {tuple(content.shape)}, not a network's tensors")
    if not isinstance(content, Mapping):
        raise DataError(f"{str(file)!r} holds no named tensors but a {type(content).__name__}")
    return {str(name): value for name, value in content.items() if isinstance(value, Tensor)}


def _part(words: str, names: list[str], tensors: Mapping[str, Tensor]) -> str:
    shown = [f"{name} {tuple(tensors[name].shape)}" for name in names[:_NAMED]]
    return f"{words} {_listed(shown, len(names))}" if names else ""


def _shapes(names: list[str], found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> str:
    shown = [f"{name} is {tuple(found[name].shape)} and not {tuple(expected[name].shape)}" for name in names[:_NAMED]]
    return _listed(shown, len(names))


def _listed(shown: list[str], count: int) -> str:
    return ", ".join(shown) + (f" and {count - len(shown)} more" if count > len(shown) else "")
