"""Reads torch files whose pickle holds more than tensors, and runs nothing of what they name.

Two published tokenizers are whole pickled modules (DALL-E's encoder and decoder, SeiT's tokenizer), and Lightning's
files may hold settings beside the tensors. Of a pickle's globals a handful become functions of this file (tensors,
storages, plain containers), those of packages that such files are known to name become `Inert` objects, which only
keep what they are given, and any other is refused by name. Own design; layout of the files: torch's serialization.
"""

from __future__ import annotations

import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from tokexp.errors import DataError
from tokexp.tokenizers.pickle_bounds import require_bounded

DTYPES = {
    "FloatStorage": torch.float32, "HalfStorage": torch.float16, "BFloat16Storage": torch.bfloat16,
    "DoubleStorage": torch.float64, "LongStorage": torch.int64, "IntStorage": torch.int32,
    "ShortStorage": torch.int16, "CharStorage": torch.int8, "ByteStorage": torch.uint8, "BoolStorage": torch.bool,
}  # fmt: skip
"""torch's typed storages, as pickles name them."""

_DTYPE_NAMES = {str(dtype).removeprefix("torch."): dtype for dtype in DTYPES.values()}

KNOWN = (
    "torch.nn", "torch.optim", "dall_e", "enhancing", "taming", "ldm", "einops", "omegaconf", "pytorch_lightning",
    "lightning", "lightning_utilities", "numpy", "timm",
)  # fmt: skip
"""Packages whose objects may lie in a published file; none of them is imported."""

_SINGLE = {
    ("torch", "device"), ("torch", "Size"), ("functools", "partial"), ("argparse", "Namespace"), ("typing", "Any"),
    ("pathlib", "PosixPath"), ("_codecs", "encode"), ("collections", "defaultdict"),
}  # fmt: skip
_MAGIC = 0x1950A86A20F9469CFC6C
_DEEPEST = 64
_MOST_TENSORS = 100_000


class Inert:
    """Stands for an object of a class that is not loaded. `state` is what its pickle would have restored it from."""

    origin = ""
    state: Any = None

    def __new__(cls, *args: Any, **kwargs: Any) -> Inert:
        """Make it, whatever the arguments, which are forgotten."""
        return super().__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Forget the arguments."""

    def __setstate__(self, state: Any) -> None:
        """Keep the state."""
        self.state = state

    def __setitem__(self, key: Any, value: Any) -> None:
        """Forget an entry: classes derived from dict are filled so."""

    def append(self, value: Any) -> None:
        """Forget an element: classes derived from list are filled so."""


def read_pickled(file: Path) -> Any:
    """Return what a torch file holds: tensors and containers as they are, all other objects `Inert`.

    Both layouts of torch are read: the zip archive and the older single stream. Raises DataError for a file that is
    neither, is damaged, or names something that is not known here; nothing that it names is ever called.
    """
    require_bounded(file)
    try:
        if zipfile.is_zipfile(file):
            return _read_archive(file)
        with file.open("rb") as stream:
            return _read_stream(stream)
    except DataError as error:
        raise DataError(f"{str(file)!r}: {error}") from error
    except Exception as error:  # A pickle that is not what it claims raises nearly anything.
        raise DataError(f"{str(file)!r} cannot be read as a torch file ({_brief(error)}); fetch it again") from error


def tensors_of_module(module: Inert) -> dict[str, Tensor]:
    """Return parameters and buffers of a pickled module under the names that its `state_dict` would have."""
    found: dict[str, Tensor] = {}
    _collect(module, "", found, 0)
    return found


def _collect(module: Any, prefix: str, found: dict[str, Tensor], depth: int) -> None:
    state = module.state if isinstance(module, Inert) else None
    if not isinstance(state, Mapping):
        return
    if depth > _DEEPEST or len(found) > _MOST_TENSORS:
        raise DataError("a module that is nested too deep, or within itself")
    for group in ("_parameters", "_buffers"):
        for name, value in _named(state.get(group)):
            if isinstance(value, Tensor):
                found[prefix + name] = value
    for name, child in _named(state.get("_modules")):
        _collect(child, f"{prefix}{name}.", found, depth + 1)


def _named(group: Any) -> list[tuple[str, Any]]:
    return [(str(name), value) for name, value in group.items()] if isinstance(group, Mapping) else []


class _Fixed:
    """What a pickle may use, and not change: a pickle can set the attributes of any object that it has."""

    def __setstate__(self, state: Any) -> None:
        raise DataError("it changes what reads it; it is not loaded")


class _Function(_Fixed):
    """A function of this file, as a pickle calls it."""

    __slots__ = ("_run",)

    def __init__(self, run: Callable[..., Any]) -> None:
        self._run = run

    def __call__(self, *arguments: Any) -> Any:
        return self._run(*arguments)


class _Storage(_Fixed):
    """A storage that is filled before (archive) or after (stream) tensors are made of it."""

    def __init__(self, dtype: torch.dtype, size: int, content: Tensor | None = None) -> None:
        if not 0 <= size < 1 << 40:
            raise DataError("a storage of impossible size")
        self.dtype, self.size = dtype, size
        self.content = torch.empty(0, dtype=dtype) if content is None else content

    def fill(self, data: bytes) -> None:
        expected = self.size * self.dtype.itemsize
        if len(data) != expected:
            raise DataError(f"{len(data)} bytes where a storage of {expected} is named; fetch the file again")
        content = torch.frombuffer(bytearray(data), dtype=self.dtype) if data else torch.empty(0, dtype=self.dtype)
        self.content.set_(content)  # type: ignore[call-overload]


class _Pending(_Fixed):
    """A tensor of a storage that is not filled yet."""

    def __init__(self, storage: _Storage, offset: int, shape: tuple[int, ...], stride: tuple[int, ...]) -> None:
        self.storage, self.offset, self.shape, self.stride = storage, offset, shape, stride

    def tensor(self) -> Tensor:
        last = self.offset + sum((side - 1) * step for side, step in zip(self.shape, self.stride, strict=True))
        if prod(self.shape) and not (0 <= self.offset <= last < self.storage.size and min(self.stride, default=0) >= 0):
            raise DataError("a tensor lies outside its storage; fetch the file again")
        return torch.as_strided(self.storage.content, self.shape, self.stride, self.offset)


def _tensor(storage: Any, offset: Any, shape: Any, stride: Any, *ignored: Any) -> _Pending:
    numbers = [offset, *shape, *stride]
    if not isinstance(storage, _Storage) or not all(type(number) is int for number in numbers):
        raise DataError("a tensor without a storage")
    return _Pending(storage, offset, tuple(shape), tuple(stride))


def _parameter(data: Any, *ignored: Any) -> Any:
    return data


_FUNCTIONS: dict[tuple[str, str], Callable[..., Any]] = {
    ("torch._utils", "_rebuild_tensor"): _Function(_tensor),
    ("torch._utils", "_rebuild_tensor_v2"): _Function(_tensor),
    ("torch._utils", "_rebuild_parameter"): _Function(_parameter),
    ("torch._utils", "_rebuild_parameter_with_state"): _Function(_parameter),
    ("torch.nn.parameter", "Parameter"): _Function(_parameter),
    ("collections", "OrderedDict"): OrderedDict,
    ("builtins", "set"): set,
    ("__builtin__", "set"): set,
    ("builtins", "frozenset"): frozenset,
    ("__builtin__", "frozenset"): frozenset,
}


class _Reader(pickle.Unpickler):
    """An unpickler that imports nothing: `find_class` answers from the tables of this file."""

    def __init__(self, stream: BinaryIO, storage: Callable[[torch.dtype, str, int], _Storage]) -> None:
        super().__init__(stream)
        self._storage = storage

    def find_class(self, module: str, name: str) -> Any:
        """Return what stands for a global. Raises DataError for one that is not known."""
        if (module, name) in _FUNCTIONS:
            return _FUNCTIONS[module, name]
        if module == "torch" and name in DTYPES:
            return DTYPES[name]
        if module == "torch" and name in _DTYPE_NAMES:
            return _DTYPE_NAMES[name]
        if (module, name) in _SINGLE or any(f"{module}.".startswith(f"{package}.") for package in KNOWN):
            return type("Inert", (Inert,), {"origin": f"{module}.{name}"})
        raise DataError(f"it names {module}.{name}, which no checkpoint of a tokenizer needs; it is not loaded")

    def persistent_load(self, pid: Any) -> Any:
        """Return the storage that a persistent id names, or the class of a module in the older layout."""
        word = pid[0] if isinstance(pid, tuple) and pid else None
        if word == "module":
            return pid[1]
        if word == "storage" and isinstance(pid[1], torch.dtype) and type(pid[2]) in (str, int) and type(pid[4]) is int:
            return self._storage(pid[1], str(pid[2]), pid[4])
        raise DataError("a persistent id that is no storage")


def _read_archive(file: Path) -> Any:
    with zipfile.ZipFile(file) as archive:
        names = archive.namelist()
        root = next((name.removesuffix("data.pkl") for name in names if name.endswith("data.pkl")), None)
        if root is None:
            raise DataError("a zip archive that torch has not written")
        if f"{root}constants.pkl" in names:
            raise DataError("a TorchScript archive, whose program is not run; save its state dict as safetensors")
        if f"{root}byteorder" in names and archive.read(f"{root}byteorder") != b"little":
            raise DataError("written on a big-endian machine; save it again as safetensors")
        known: dict[str, _Storage] = {}

        def storage(dtype: torch.dtype, key: str, size: int) -> _Storage:
            if key not in known:
                known[key] = _Storage(dtype, size)
                known[key].fill(archive.read(f"{root}data/{key}"))
            return known[key]

        with archive.open(f"{root}data.pkl") as stream:
            return _finished(_Reader(stream, storage).load())  # type: ignore[arg-type]


def _read_stream(stream: BinaryIO) -> Any:
    known: dict[str, _Storage] = {}

    def storage(dtype: torch.dtype, key: str, size: int) -> _Storage:
        return known.setdefault(key, _Storage(dtype, size))

    def load() -> Any:
        return _Reader(stream, storage).load()

    if load() != _MAGIC or load() != 1001:
        raise DataError("no file that torch has written")
    load()
    content, order = load(), load()
    for key in order:
        count = int.from_bytes(stream.read(8), "little")
        if count != known[key].size:
            raise DataError(f"a storage of {count} numbers where {known[key].size} are named; fetch the file again")
        known[key].fill(stream.read(count * known[key].dtype.itemsize))
    return _finished(content)


def _finished(value: Any, seen: dict[int, Any] | None = None) -> Any:
    """Return a value with its tensors made, now that all storages are filled.

    Each object is looked at once, so that neither cycles nor many references to one object take longer.
    """
    seen = {} if seen is None else seen
    if isinstance(value, _Pending):
        return value.tensor()
    if id(value) in seen:
        return seen[id(value)]
    if isinstance(value, Mapping):
        mapping: dict[Any, Any] = {}
        seen[id(value)] = mapping
        mapping.update((key, _finished(item, seen)) for key, item in value.items())
        return mapping
    if isinstance(value, (list, tuple)):
        rows: list[Any] = []
        seen[id(value)] = rows
        rows.extend(_finished(item, seen) for item in value)
        return rows
    if isinstance(value, Inert):
        seen[id(value)] = value
        value.state = _finished(value.state, seen)
    return value


def _brief(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0] or type(error).__name__
