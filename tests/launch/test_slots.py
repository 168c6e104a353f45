import pytest

from tokexp.launch import slots
from tokexp.launch.slots import Slots
from tokexp.spec.resources import Resources


def test_attempts_share_the_cores_until_they_are_taken():
    machine = Slots(cpus=4, gpus=())
    first, second = machine.take(Resources(cpus=2)), machine.take(Resources(cpus=2))
    assert machine.take(Resources(cpus=1)) is None
    machine.give_back(first)
    assert machine.take(Resources(cpus=1)) is not None
    assert second.cpus == 2


def test_every_process_of_an_attempt_has_its_own_cores():
    machine = Slots(cpus=8, gpus=("0",))
    assert machine.take(Resources(cpus=2, processes=3)).cpus == 6
    assert machine.take(Resources(cpus=1, processes=3)) is None
    assert machine.take(Resources(cpus=2, gpus=1)).cpus == 2


def test_no_gpu_is_given_to_two_attempts():
    machine = Slots(cpus=8, gpus=("0", "1", "2"))
    first, second = machine.take(Resources(cpus=1, gpus=2)), machine.take(Resources(cpus=1, gpus=1))
    assert {*first.gpus} | {*second.gpus} == {"0", "1", "2"}
    assert machine.take(Resources(cpus=1, gpus=1)) is None


def test_an_attempt_that_asks_for_more_than_there_is_runs_alone():
    machine = Slots(cpus=2, gpus=())
    small = machine.take(Resources(cpus=1))
    assert "8 CPU cores (there are 2)" in machine.shortage(Resources(cpus=8))
    assert machine.take(Resources(cpus=8)) is None
    machine.give_back(small)
    large = machine.take(Resources(cpus=8))
    assert (large.cpus, large.alone) == (2, True)
    assert machine.take(Resources(cpus=1)) is None


@pytest.mark.parametrize(("visible", "names"), [("", ()), ("-1", ()), ("2,3", ("2", "3")), ("GPU-ab", ("GPU-ab",))])
def test_gpus_are_those_that_are_visible(monkeypatch, visible, names):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert slots.gpu_names() == names


def test_gpus_are_counted_by_the_drivers_own_tool(monkeypatch, tmp_path):
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'GPU 0: A (UUID: x)'\necho 'GPU 1: A (UUID: y)'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert slots.gpu_names() == ("0", "1")
