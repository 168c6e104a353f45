"""Checkpoint files: what is read, what is refused, and that nothing in them is ever run."""

import os
import pickle
import sys
import zipfile
from collections import OrderedDict
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from tokexp.errors import DataError
from tokexp.tokenizers.checkpoints import load_published, read_tensors
from tokexp.tokenizers.pickled import Inert, read_pickled, tensors_of_module


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Sequential(nn.Linear(4, 2, bias=False)))


def assert_same(found: dict[str, torch.Tensor], module: nn.Module) -> None:
    expected = module.state_dict()
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(found[name], value), name
        assert found[name].dtype == value.dtype


class Foreign(nn.Module):
    """A module of a package that is not installed where its file is read."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = network()
        self.w = nn.Parameter(torch.arange(6.0).view(2, 3).T)
        self.options = {"device": torch.device("cpu"), "dtype": torch.float32}


@pytest.fixture
def pickled_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, nn.Module]:
    package = ModuleType("dall_e")
    package.Foreign = Foreign  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "dall_e", package)
    monkeypatch.setattr(Foreign, "__module__", "dall_e")
    module = Foreign()
    torch.save(module, tmp_path / "module.pkl")
    torch.save(module, tmp_path / "old.pkl", _use_new_zipfile_serialization=False)
    monkeypatch.delitem(sys.modules, "dall_e")
    return tmp_path / "module.pkl", module


@pytest.mark.parametrize("wrapper", [None, "state_dict", "model"])
@pytest.mark.parametrize("zipped", [True, False])
def test_a_torch_file_of_tensors_is_read_also_where_they_are_wrapped(
    wrapper: str | None, zipped: bool, tmp_path: Path
) -> None:
    state: Any = network().state_dict()
    content = state if wrapper is None else {wrapper: state, "epoch": 3}
    torch.save(content, tmp_path / "a.ckpt", _use_new_zipfile_serialization=zipped)
    assert_same(read_tensors(tmp_path / "a.ckpt"), network())


@pytest.mark.parametrize("name", ["a.safetensors", "weights.bin"])
def test_safetensors_are_read_under_any_name(name: str, tmp_path: Path) -> None:
    save_file(network().state_dict(), tmp_path / name)
    assert_same(read_tensors(tmp_path / name), network())


@pytest.mark.parametrize("file", ["module.pkl", "old.pkl"])
def test_a_pickled_module_of_an_unknown_package_gives_its_tensors(
    file: str, pickled_module: tuple[Path, nn.Module]
) -> None:
    path, module = pickled_module
    assert "dall_e" not in sys.modules
    assert_same(read_tensors(path.with_name(file)), module)
    assert "dall_e" not in sys.modules


def test_objects_beside_the_tensors_of_lightning_become_inert(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = ModuleType("pytorch_lightning")
    package.Foreign = Foreign  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pytorch_lightning", package)
    monkeypatch.setattr(Foreign, "__module__", "pytorch_lightning")
    torch.save({"state_dict": network().state_dict(), "callbacks": [Foreign()]}, tmp_path / "a.ckpt")
    monkeypatch.delitem(sys.modules, "pytorch_lightning")
    assert_same(read_tensors(tmp_path / "a.ckpt"), network())
    found = read_pickled(tmp_path / "a.ckpt")["callbacks"][0]
    assert isinstance(found, Inert)
    assert found.origin == "pytorch_lightning.Foreign"
    assert set(tensors_of_module(found)) == set(Foreign().state_dict())


class Evil:
    """Runs a command when it is unpickled by the ordinary way."""

    def __init__(self, call: Any, *arguments: Any) -> None:
        self.call, self.arguments = call, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call, self.arguments


def attacks(mark: Path) -> dict[str, Any]:
    import builtins
    import functools
    import subprocess

    write = f"open({str(mark)!r}, 'w').close()"
    return {
        "os.system": Evil(os.system, f"touch {mark}"),
        "subprocess": Evil(subprocess.check_output, ["touch", str(mark)]),
        "exec": Evil(builtins.exec, write),
        "eval": Evil(builtins.eval, write),
        "getattr": Evil(builtins.getattr, "text", "upper"),
        "import": Evil(builtins.__import__, "os"),
        "open": Evil(builtins.open, str(mark), "w"),
        "partial": Evil(functools.partial(os.system, f"touch {mark}")),
        "torch.load": Evil(torch.load, str(mark)),
        "torch.hub": Evil(torch.hub.load, "a", "b"),
    }


ATTACKS = [
    "os.system", "subprocess", "exec", "eval", "getattr", "import", "open", "partial", "torch.load", "torch.hub",
]  # fmt: skip


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("zipped", [True, False])
def test_a_malicious_file_is_refused_and_runs_nothing(attack: str, zipped: bool, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    content = {"state_dict": network().state_dict(), "x": attacks(mark)[attack]}
    torch.save(content, tmp_path / "a.ckpt", _use_new_zipfile_serialization=zipped)
    with pytest.raises(DataError, match=r"it names .*which no checkpoint of a tokenizer needs"):
        read_tensors(tmp_path / "a.ckpt")
    assert not mark.exists()


def test_the_attacks_would_work_on_an_ordinary_unpickler(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    pickle.loads(pickle.dumps(attacks(mark)["os.system"]))
    assert mark.exists()


def test_a_known_package_name_does_not_lend_its_callables(tmp_path: Path) -> None:
    # numpy's functions are named by a package that is known: they too become inert.
    import numpy as np

    torch.save({"state_dict": network().state_dict(), "x": Evil(np.save, str(tmp_path / "mark"), 1)}, tmp_path / "a")
    assert_same(read_tensors(tmp_path / "a"), network())
    assert not (tmp_path / "mark.npy").exists()


def test_a_tensor_outside_its_storage_is_refused(tmp_path: Path) -> None:
    class Bad:
        def __reduce__(self) -> tuple[Any, ...]:
            storage = torch.zeros(4).untyped_storage()
            typed = torch.storage.TypedStorage(wrap_storage=storage, dtype=torch.float32, _internal=True)
            return torch._utils._rebuild_tensor_v2, (typed, 2, (4,), (1,), False, OrderedDict())

    torch.save({"a": Bad()}, tmp_path / "a.ckpt")
    with pytest.raises(DataError, match="outside its storage"):
        read_tensors(tmp_path / "a.ckpt")


def test_objects_within_themselves_take_no_time(pickled_module: tuple[Path, nn.Module], tmp_path: Path) -> None:
    inside: list[Any] = []
    inside += [inside] * 50
    torch.save({"state_dict": network().state_dict(), "x": [[inside] * 50] * 50}, tmp_path / "a.ckpt")
    read_pickled(tmp_path / "a.ckpt")
    module = read_pickled(pickled_module[0])
    module.state["_modules"] = dict.fromkeys("abc", module)
    module.state["_parameters"] = {"w": torch.zeros(1)}
    with pytest.raises(DataError, match="within itself"):
        tensors_of_module(module)


def test_a_file_that_is_cut_short_is_refused(tmp_path: Path) -> None:
    for zipped in (True, False):
        torch.save(network().state_dict(), tmp_path / "a.ckpt", _use_new_zipfile_serialization=zipped)
        (tmp_path / "b.ckpt").write_bytes((tmp_path / "a.ckpt").read_bytes()[:-60])
        with pytest.raises(DataError, match=r"b\.ckpt"):
            read_tensors(tmp_path / "b.ckpt")


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 broken"])
def test_another_file_is_refused_by_name(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.ckpt").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.ckpt"):
        read_tensors(tmp_path / "a.ckpt")


def test_a_zip_of_something_else_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.ckpt", "w") as archive:
        archive.writestr("readme", "hello")
    with pytest.raises(DataError, match="torch has not written"):
        read_tensors(tmp_path / "a.ckpt")


def test_a_bare_tensor_and_a_missing_file_say_what_they_are(tmp_path: Path) -> None:
    torch.save(torch.zeros(2, 3), tmp_path / "a.ckpt")
    with pytest.raises(DataError, match=r"one bare tensor of shape \(2, 3\)"):
        read_tensors(tmp_path / "a.ckpt")
    with pytest.raises(DataError, match="no such checkpoint file"):
        read_tensors(tmp_path / "b.ckpt")


def test_a_checkpoint_of_another_kind_lists_what_was_found_and_expected() -> None:
    state = dict(network().state_dict())
    state["0.weight"] = torch.zeros(5, 3)
    state["head.bias"] = state.pop("0.bias")
    with pytest.raises(DataError) as caught:
        load_published(network(), state, "a.ckpt", "vit_vqgan")
    text = str(caught.value)
    assert "'a.ckpt' is no checkpoint of the kind vit_vqgan" in text
    assert "it lacks 0.bias (4,)" in text
    assert "should not, head.bias (4,)" in text
    assert "0.weight is (5, 3) and not (4, 3)" in text
    assert "8 tensors found, 8 expected" in text


def test_dropped_prefixes_are_left_out_and_nothing_else() -> None:
    module, state = network(), {**network().state_dict(), "loss.a": torch.zeros(1), "lossless": torch.zeros(1)}
    with pytest.raises(DataError, match="lossless"):
        load_published(module, state, "a", "k", drop=("loss.",))
    del state["lossless"]
    load_published(module, state, "a", "k", drop=("loss.",))
