from pathlib import Path

import pytest
import torch

from tokexp.engine.checkpoint import KEPT, newest_checkpoint, save_checkpoint

CPU = torch.device("cpu")


def save(folder: Path, step: int) -> Path:
    return save_checkpoint(folder, step, {"x": torch.full((100,), float(step))})


def newest_step(folder: Path) -> int | None:
    found = newest_checkpoint(folder, CPU)
    return None if found is None else found[0]


def test_the_newest_of_several_is_found(tmp_path: Path) -> None:
    for step in (1, 2, 10):
        save(tmp_path, step)
    found = newest_checkpoint(tmp_path, CPU)
    assert found is not None
    assert found[0] == 10
    assert torch.equal(found[1]["x"], torch.full((100,), 10.0))


def test_only_the_newest_two_stay(tmp_path: Path) -> None:
    for step in range(5):
        save(tmp_path, step)
    assert sorted(p.name for p in tmp_path.iterdir() if p.suffix == ".pt") == ["step-000000003.pt", "step-000000004.pt"]
    assert KEPT == 2


def test_nothing_is_found_in_an_empty_or_absent_folder(tmp_path: Path) -> None:
    assert newest_step(tmp_path) is None
    assert newest_step(tmp_path / "absent") is None


@pytest.mark.parametrize("size", [0, 1, 100, -1])
def test_a_truncated_checkpoint_is_passed_over(tmp_path: Path, size: int) -> None:
    save(tmp_path, 1)
    newest = save(tmp_path, 2)
    content = newest.read_bytes()
    newest.write_bytes(content[:size])
    assert newest_step(tmp_path) == 1


def test_an_altered_checkpoint_is_passed_over(tmp_path: Path) -> None:
    save(tmp_path, 1)
    newest = save(tmp_path, 2)
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    assert newest_step(tmp_path) == 1


def test_a_checkpoint_without_its_note_does_not_exist(tmp_path: Path) -> None:
    save(tmp_path, 1)
    save(tmp_path, 2).with_suffix(".json").unlink()
    assert newest_step(tmp_path) == 1


def test_a_failed_write_leaves_the_old_checkpoint_and_nothing_beside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path, 1)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        save(tmp_path, 2)
    assert newest_step(tmp_path) == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-000000001.json", "step-000000001.pt"]
