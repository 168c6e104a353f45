"""The verbs of token stores, as they are typed."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.recorded import key_of, recorded_run, workspace_at
from tokexp import cli
from tokexp.ledger.outputs import publish, stage_output
from tokexp.spec.storage import PackedCodec
from tokexp.storage.image_store import ImageHeader, write_images
from tokexp.storage.store import TokenStore, write_store

INDICES = np.arange(6 * 16).reshape(6, 4, 4) % 8
CODES = np.linspace(0, 1, 16, dtype=np.float32).reshape(8, 2)
LABELS = np.array([0, 1, 2, 0, 1, 2])


def write(path: Path, images: int = 6) -> Path:
    write_store(
        path, INDICES[:images], LABELS[:images], CODES, PackedCodec(kind="packed"), metric="euclidean", num_classes=3
    )  # fmt: skip
    return path


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    folder = tmp_path / "stored"
    folder.mkdir()
    write(folder / "test.tokens", 2)
    return write(folder / "train.tokens")


def asked(capsys: pytest.CaptureFixture[str], *words: object, code: int = 0) -> dict[str, Any]:
    assert cli._run(["store", *map(str, words), "--json"]) == code
    said: dict[str, Any] = json.loads(capsys.readouterr().out)
    return said


def test_info_counts_every_byte(stored: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (facts,) = asked(capsys, "info", stored)["stores"]
    assert (facts["images"], facts["grid"], facts["codes"], facts["classes"]) == (6, [4, 4], 8, 3)
    assert facts["accounting"]["total"] == stored.stat().st_size
    assert cli._run(["store", "info", str(stored)]) == 0
    assert "entropy_bits_per_token   3" in capsys.readouterr().out


def test_info_and_verify_take_stores_of_images_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    workspace = workspace_at(tmp_path / "ws")
    key = key_of("images")
    items = [b"\xff\xd8\xff" + bytes(length) for length in (5, 20, 7)] + [b"\x89PNG" + bytes(9)]
    header = ImageHeader(images=4, classes=2, facts={"quality": 5})
    with stage_output(workspace, "images", key, "a1") as folder:
        write_images(folder / "train.images", header, np.array([0, 1, 0, 0]), iter(items))
        publish(folder, workspace.output("images", key), {})
    file = workspace.output("images", key) / "train.images"
    for name in (file, file.parent, key[:9]):
        (facts,) = asked(capsys, "info", name, "--workspace", workspace.root)["stores"]
        assert (facts["images"], facts["classes"], facts["images_per_class"]) == (4, 2, [1, 3])
        assert facts["formats"] == {"JPEG": 3, "PNG": 1}
        assert (facts["smallest_bytes"], facts["largest_bytes"], facts["facts"]) == (8, 23, {"quality": 5})
        assert facts["accounting"]["total"] == file.stat().st_size
    assert asked(capsys, "verify", file)["sound"]
    copy = tmp_path / "copy.images"
    copy.write_bytes(file.read_bytes()[:-1] + b"x")
    found = asked(capsys, "verify", copy, code=1)
    assert found["problems"] == {str(copy): [f"{copy} is damaged (its images, block 0): restore it, or make it again"]}


def test_other_files_are_refused_by_what_they_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "photo.jpg").write_bytes(b"\xff\xd8\xff")
    for verb in ("info", "verify"):
        said = asked(capsys, verb, tmp_path / "photo.jpg", code=2)["error"]
        assert "photo.jpg is neither a token store (*.tokens) nor a store of images (*.images)" in said
    write_images(tmp_path / "a.images", ImageHeader(images=0, classes=1), np.empty(0, int), iter(()))
    assert asked(capsys, "info", tmp_path / "a.images")["stores"][0]["images"] == 0
    said = asked(capsys, "export", tmp_path / "a.images", tmp_path / "out", "--to", "numpy", code=2)["error"]
    assert "a.images is not a token store: it is a store of images" in said


def test_a_folder_a_run_and_a_key_name_their_stores(
    stored: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace = workspace_at(tmp_path / "ws")
    run, key = recorded_run(workspace), key_of("tokens")
    with stage_output(workspace, "tokens", key, "a1") as folder:
        write(folder / "train.tokens")
        write(folder / "test.tokens", 3)
        publish(folder, workspace.output("tokens", key), {})
    for name, images in ((stored.parent, [6, 2]), (run.ref, [6, 3]), (key[:9], [6, 3])):
        found = asked(capsys, "info", name, "--workspace", workspace.root)["stores"]
        assert [(facts["split"], facts["images"]) for facts in found] == list(
            zip(["train", "test"], images, strict=True)
        )
    said = asked(capsys, "info", "nothing", "--workspace", workspace.root, code=2)
    assert "there is no token store nothing" in said["error"]


def test_verify_ends_with_1_and_names_the_damaged_block(stored: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert asked(capsys, "verify", stored.parent) == {
        "sound": True, "problems": {str(stored): [], str(stored.with_name("test.tokens")): []}
    }  # fmt: skip
    data = bytearray(stored.read_bytes())
    data[-5] ^= 1
    stored.write_bytes(data)
    said = asked(capsys, "verify", stored.parent, code=1)
    assert "block 0, images 0 to 5" in said["problems"][str(stored)][0]
    assert said["problems"][str(stored.with_name("test.tokens"))] == []
    assert cli._run(["store", "verify", str(stored)]) == 1
    assert "block 0" in capsys.readouterr().out


@pytest.mark.parametrize("form", ["seit", "numpy", "webdataset"])
def test_what_is_exported_and_imported_is_the_same(
    form: str, stored: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = asked(capsys, "export", stored.parent, tmp_path / "out", "--to", form)
    assert said["images"] == {"train": 6, "test": 2}
    said = asked(capsys, "import", tmp_path / "out", tmp_path / "back", "--from", form)
    assert (said["images"], said["grid"], said["codes"]) == ({"train": 6, "test": 2}, [4, 4], 8)
    for name in ("train.tokens", "test.tokens"):
        assert (tmp_path / "back" / name).read_bytes() == (stored.parent / name).read_bytes()
    assert "exists already" in asked(capsys, "export", stored, tmp_path / "out", "--to", form, code=2)["error"]
    assert asked(capsys, "export", stored, tmp_path / "out", "--to", form, "--force")["images"] == {"train": 6}


def test_one_split_goes_to_one_file_and_back(stored: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked(capsys, "export", stored, tmp_path / "a.npz", "--to", "numpy")
    asked(capsys, "import", tmp_path / "a.npz", tmp_path / "a.tokens", "--from", "numpy", "--codec", "seit")
    back = TokenStore.open(tmp_path / "a.tokens")
    assert back.codec["kind"] == "seit"
    assert np.array_equal(back.indices(), INDICES)
    said = asked(capsys, "export", stored.parent, tmp_path / "b.npz", "--to", "numpy", code=2)
    assert "--split" in said["error"]


def test_a_damaged_store_is_not_exported(stored: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = bytearray(stored.read_bytes())
    data[-5] ^= 1
    stored.write_bytes(data)
    said = asked(capsys, "export", stored.parent, tmp_path / "out", "--to", "numpy", code=1)
    assert "damaged" in said["error"]
    assert [path.name for path in tmp_path.iterdir()] == ["stored"]


def test_a_slice_and_a_merge_give_back_the_whole(
    stored: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, part in (("a", "0:2"), ("b", "2:")):
        asked(capsys, "slice", stored, tmp_path / f"{name}.tokens", "--range", part)
    asked(capsys, "merge", tmp_path / "a.tokens", tmp_path / "b.tokens", "--output", tmp_path / "whole.tokens")
    assert (tmp_path / "whole.tokens").read_bytes() == stored.read_bytes()
    said = asked(capsys, "slice", stored.parent, tmp_path / "c.tokens", "--classes", "0,2", "--per-class", "1")
    assert said["images"] == {"c": 2}
    assert TokenStore.open(tmp_path / "c.tokens").labels.tolist() == [0, 2]


@pytest.mark.parametrize(("codec", "level"), [("rans_context:best", "best"), ("zstd:3", 3)])
def test_slices_and_merges_keep_the_level_of_the_codec_that_may_be_given(
    codec: str, level: object, stored: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [tmp_path / f"{name}.tokens" for name in "abc"]
    asked(capsys, "slice", stored, files[0], "--codec", codec)
    asked(capsys, "slice", files[0], files[1], "--range", "0:3")
    asked(capsys, "merge", files[0], files[1], "--output", files[2])
    assert [TokenStore.open(file).codec["level"] for file in files] == [level] * 3


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["slice", "IN", "OUT", "--range", "3"], "--range"),
        (["slice", "IN", "OUT", "--classes", "1,x"], "--classes"),
        (["slice", "IN", "OUT", "--classes", "5-2"], "a range goes up"),
        (["slice", "IN", "OUT", "--codec", "zip"], "no codec 'zip'"),
        (["slice", "IN", "IN"], "exists already"),
        (["slice", "IN", "out.bin"], "must end in .tokens"),
        (["merge", "IN", "--output", "OUT"], "two or more"),
        (["import", "none", "OUT", "--from", "seit"], "does not exist"),
        (["import", "IN", "OUT", "--from", "numpy", "--grid", "4"], "--grid"),
        (["import", "IN", "OUT", "--from", "numpy", "--fields", "a"], "--fields"),
        (["import", "IN", "OUT", "--from", "numpy"], "without pickled objects"),
        (["info", "IN", "--split", "tset"], "allowed are train, test, select"),
        (["info", "IN", "--workspace", "IN"], ""),
    ],
)
def test_what_cannot_be_done_is_one_message_and_leaves_nothing(
    words: list[str], message: str, stored: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = {"IN": str(stored), "OUT": str(tmp_path / "out.tokens")}
    code = 0 if not message else 2
    said = asked(capsys, *(places.get(word, word) for word in words), code=code)
    assert message in said.get("error", "")
    assert [path.name for path in tmp_path.iterdir()] == ["stored"]
