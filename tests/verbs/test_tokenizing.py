"""`tokexp tokenize`: from a folder to a store at its place, whatever lies in the folder and whatever happens."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.data.pictures import picture, split_tree, tree
from tests.data.test_readability import odd_folder
from tokexp.errors import InputError, SpecError
from tokexp.launch.inline import InlineLauncher
from tokexp.ledger.workspace import Workspace
from tokexp.storage.store import TokenStore
from tokexp.verbs import following, tokenizing
from tokexp.verbs.tokenizing import Asked

SMALL = ("data.image_size=8", "tokenizer.codebook_size=8", "track.enabled=false")


@pytest.fixture(autouse=True)
def _inline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokenizing, "open_launcher", lambda *_: InlineLauncher())


def encode(tmp_path: Path, folder: Path, *overrides: str, **fields: Any) -> int:
    given = {"tokenizer": "patch_kmeans", "output": tmp_path / "out" / "set.tokens", "workers": None, **fields}
    asked = Asked(folder, overrides=(*SMALL, *overrides), **given)
    return tokenizing.tokenize(asked, None, tmp_path / "workspace", True)


def beside(tmp_path: Path) -> list[str]:
    return sorted(file.name for file in (tmp_path / "out").iterdir())


def flat(root: Path, count: int = 6) -> Path:
    root.mkdir()
    for number in range(count):
        picture(number, (8, 8)).save(root / f"{number}.png")
    return root


def test_all_images_of_a_folder_without_classes_become_one_store(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert encode(tmp_path, flat(tmp_path / "set")) == 0
    printed = capsys.readouterr()
    found = json.loads(printed.out)
    store = TokenStore.open(tmp_path / "out" / "set.tokens")
    assert (store.num_images, store.grid, found["images"], found["skipped"]) == (6, (4, 4), 6, 0)
    assert found["bytes"] == (tmp_path / "out" / "set.tokens").stat().st_size
    assert "no class folders" in printed.err
    assert beside(tmp_path) == ["set.names.txt", "set.tokens"]
    assert (tmp_path / "out" / "set.names.txt").read_text().splitlines() == [f"{n}.png" for n in range(6)]


def test_what_is_wrong_with_a_kind_is_said_of_the_option(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"\A--tokenizer: tokenizer\.kind: unknown kind 'patch_kmean'; .*patch_kmeans"):
        encode(tmp_path, flat(tmp_path / "set"), tokenizer="patch_kmean")


def test_class_folders_become_labels_and_splits_become_stores(tmp_path: Path) -> None:
    assert encode(tmp_path, split_tree(tmp_path / "set")) == 0
    assert beside(tmp_path) == ["set.names.txt", "set.test.names.txt", "set.test.tokens", "set.tokens"]
    store = TokenStore.open(tmp_path / "out" / "set.tokens")
    assert np.bincount(store.labels).tolist() == [4, 4, 4]
    assert TokenStore.open(tmp_path / "out" / "set.test.tokens").num_images == 6


def test_the_tokenizer_and_the_storage_of_a_spec_are_taken_and_its_tasks_left(tmp_path: Path) -> None:
    spec = tmp_path / "spec.yaml"
    spec.write_text(
        "schema: 1\ndata: {kind: digits}\ntokenizer: {kind: patch_kmeans, patch_size: 4}\nstorage: {fraction: 0.5}\n"
        "model: {kind: vit, width: 16, depth: 1, heads: 2, stem: {kind: conv2x2}}\ntasks: {probe: {kind: probe}}\n"
    )
    root = tree(tmp_path / "set", {"ant": 4, "bee": 4})
    assert encode(tmp_path, root, tokenizer=str(spec)) == 0
    store = TokenStore.open(tmp_path / "out" / "set.tokens")
    assert (store.num_images, store.grid) == (4, (2, 2))
    assert not list((tmp_path / "workspace" / "store").glob("downstream"))


def test_a_second_time_nothing_is_computed_and_the_store_is_put_again(tmp_path: Path) -> None:
    root = flat(tmp_path / "set")
    assert encode(tmp_path, root) == 0
    first = (tmp_path / "out" / "set.tokens").read_bytes()
    (tmp_path / "out" / "set.tokens").write_bytes(b"something else")
    assert encode(tmp_path, root) == 0
    assert (tmp_path / "out" / "set.tokens").read_bytes() == first
    assert len(Workspace(tmp_path / "workspace").attempt_ids()) == 2


def test_odd_images_are_encoded_and_broken_ones_listed_and_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = odd_folder(tmp_path / "odd")
    assert encode(tmp_path, root) == 1
    printed = capsys.readouterr()
    assert "4 images of 12 cannot be read (repair or remove them, or set data.corrupt: skip)" in printed.err
    assert "bad-empty.jpg' (the file is empty)" in printed.err
    assert not (tmp_path / "out").exists()
    assert encode(tmp_path, root, "data.corrupt=skip") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["images"], found["skipped"]) == (8, 4)
    listed = (tmp_path / "out" / "set.skipped.txt").read_text().splitlines()
    assert [line.split("\t")[0] for line in listed] == ["bad-bomb.png", "bad-cut.jpg", "bad-empty.jpg", "bad-text.webp"]
    assert TokenStore.open(tmp_path / "out" / "set.tokens").num_images == 8
    following.status(found["ref"], tmp_path / "workspace", False)
    assert "4 images left out, which cannot be read" in capsys.readouterr().out


def test_names_of_skipped_images_take_one_line_each_whatever_is_in_them(tmp_path: Path) -> None:
    root = flat(tmp_path / "set")
    (root / "a\nb\t.png").write_bytes(b"nothing")
    assert encode(tmp_path, root, "data.corrupt=skip") == 0
    listed = (tmp_path / "out" / "set.skipped.txt").read_text()
    assert [line.split("\t")[0] for line in listed.splitlines()] == [r"a\nb\t.png"]


def test_every_stage_of_a_workspace_uses_one_search_for_broken_images(tmp_path: Path) -> None:
    root = flat(tmp_path / "set")
    (root / "5.png").write_bytes(b"")
    assert encode(tmp_path, root, "data.corrupt=skip") == 0
    (note,) = (tmp_path / "workspace" / "unreadable").iterdir()
    note.write_text(json.dumps({"count": 6, "looked": 6, "unreadable": {"5": "empty", "0": "as the note says"}}))
    assert encode(tmp_path, root, "data.corrupt=skip", "tokenizer.codebook_size=4") == 0
    assert TokenStore.open(tmp_path / "out" / "set.tokens").num_images == 4


def test_what_cannot_be_asked_for_is_said_before_anything_is_written(tmp_path: Path) -> None:
    root = flat(tmp_path / "set")
    with pytest.raises(InputError, match="is a folder; give the file"):
        encode(tmp_path, root, output=tmp_path)
    with pytest.raises(SpecError, match="patch_keams"):
        encode(tmp_path, root, tokenizer="patch_keams")
    with pytest.raises(InputError, match="does not exist"):
        encode(tmp_path, tmp_path / "nowhere")
    assert not (tmp_path / "workspace").exists()


def test_workers_become_processes_of_the_stage(tmp_path: Path) -> None:
    asked = Asked(flat(tmp_path / "set"), "patch_kmeans", tmp_path / "x.tokens", 3, SMALL)
    experiment = tokenizing.read_asked(asked).experiment
    assert (experiment.resources_for("tokens").processes, experiment.resources_for("tokens").cpus) == (3, 1)
    assert experiment.resources_for("tokenizer").processes == 1


def _command(tmp_path: Path, root: Path) -> list[str]:
    changes = [word for change in SMALL for word in ("--set", change)]
    return [
        sys.executable, "-m", "tokexp", "tokenize", str(root), "--tokenizer", "patch_kmeans", "--output",
        str(tmp_path / "out" / "set.tokens"), "--workspace", str(tmp_path / "workspace"), "--workers", "2", *changes,
    ]  # fmt: skip


@pytest.mark.slow
def test_a_killed_tokenize_goes_on_and_writes_the_same_store(tmp_path: Path) -> None:
    root = tmp_path / "set"
    root.mkdir()
    for number in range(9000):
        Image.new("L", (8, 8), number % 256).save(root / f"{number:04d}.png")
    assert encode(tmp_path / "straight", root) == 0
    running = subprocess.Popen(_command(tmp_path, root))
    blocks = tmp_path / "workspace" / "work"
    until = time.monotonic() + 120
    while not list(blocks.glob("*/*.block")) and time.monotonic() < until:
        time.sleep(0.02)
    running.kill()
    running.wait()
    for file in (tmp_path / "workspace" / "attempts").glob("*/events.jsonl"):
        for line in file.read_text().splitlines():
            event = json.loads(line)
            if event["e"] == "started":
                with suppress(ProcessLookupError):
                    os.kill(event["pid"], signal.SIGKILL)
    done = len(list(blocks.glob("*/*.block")))
    assert 0 < done <= 5
    time.sleep(1)
    assert subprocess.run(_command(tmp_path, root), check=False).returncode == 0
    straight = (tmp_path / "straight" / "out" / "set.tokens").read_bytes()
    assert (tmp_path / "out" / "set.tokens").read_bytes() == straight
