from pathlib import Path

import pytest

from tests.data.pictures import CLASSES, split_tree, tree, zipped
from tokexp.data.layouts import Layout, find_layout
from tokexp.errors import DataError
from tokexp.spec.data import ImageFolderData


def layout(root: Path, **fields: object) -> Layout:
    return find_layout(ImageFolderData(kind="image_folder", root=str(root), image_size=8, **fields))


def counts(found: Layout) -> tuple[int, int | None]:
    return len(found.train), None if found.test is None else len(found.test)


def paths(found: Layout) -> list[str]:
    return [file.path for file, _ in found.train + (found.test or [])]


@pytest.mark.parametrize("test", ["test", "testing", "val", "valid", "validation", "Val", "TEST"])
@pytest.mark.parametrize("train", ["train", "training", "Train"])
def test_usual_names_of_split_folders_are_found(tmp_path: Path, train: str, test: str) -> None:
    found = layout(split_tree(tmp_path, train, test))
    assert found.classes == CLASSES
    assert counts(found) == (12, 6)


def test_a_test_folder_wins_over_a_validation_folder(tmp_path: Path) -> None:
    split_tree(tmp_path)
    tree(tmp_path, {f"val/{name}": 1 for name in CLASSES})
    assert {path.split("/")[0] for path in paths(layout(tmp_path))} == {"train", "test"}


def test_written_names_win_over_usual_ones(tmp_path: Path) -> None:
    split_tree(tmp_path)
    tree(tmp_path, {f"{split}/{name}": 1 for split in ("val", "small") for name in CLASSES})
    found = layout(tmp_path, train="small", test="val/")
    assert {path.split("/")[0] for path in paths(found)} == {"small", "val"}
    assert {path.split("/")[0] for path in paths(layout(tmp_path, test="val"))} == {"train", "val"}


def test_a_written_training_folder_brings_the_test_folder_beside_it(tmp_path: Path) -> None:
    split_tree(tmp_path / "deep" / "inside")
    tree(tmp_path, {"other/ant": 1})
    assert counts(layout(tmp_path, train="deep/inside/train")) == (12, 6)


def test_without_split_folders_classes_are_at_the_top(tmp_path: Path) -> None:
    found = layout(tree(tmp_path, dict.fromkeys(CLASSES, 3)))
    assert found.classes == CLASSES
    assert counts(found) == (9, None)


def test_a_training_folder_alone_has_no_test_split(tmp_path: Path) -> None:
    found = layout(tree(tmp_path, {f"train/{name}": 3 for name in CLASSES}))
    assert found.classes == CLASSES
    assert counts(found) == (9, None)


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    found = layout(tree(tmp_path, {"train": 2, "plane": 2, "test": 1}))
    assert found.classes == ("plane", "test", "train")


@pytest.mark.parametrize("top", ["wrap", "wrap/in/here"])
def test_folders_that_hold_everything_are_left_out(tmp_path: Path, top: str) -> None:
    plain, wrapped = split_tree(tmp_path / "a"), tmp_path / "b"
    split_tree(wrapped / top)
    assert paths(layout(wrapped)) == paths(layout(plain))
    assert layout(tree(tmp_path / "c" / top, {"ant": 1, "bee": 1})).classes == ("ant", "bee")


def test_a_single_class_is_not_taken_for_a_wrapping_folder(tmp_path: Path) -> None:
    assert layout(tree(tmp_path, {"ant": 2})).classes == ("ant",)


def test_folders_within_a_class_belong_to_it(tmp_path: Path) -> None:
    found = layout(tree(tmp_path, {"train/ant/one": 1, "train/ant/two": 2, "train/bee": 1}))
    assert [label for _, label in found.train] == [0, 0, 0, 1]


@pytest.mark.parametrize("top", ["", "wrap/"])
def test_a_zip_is_the_same_as_its_tree(tmp_path: Path, top: str) -> None:
    root = split_tree(tmp_path / "tree")
    one, other = layout(root), layout(zipped(root, tmp_path / "x.zip", top))
    assert paths(one) == paths(other)
    assert one.classes == other.classes
    assert [label for _, label in one.train] == [label for _, label in other.train]


def test_backslashes_in_a_zip_separate_folders(tmp_path: Path) -> None:
    root = split_tree(tmp_path / "tree")
    archive = zipped(root, tmp_path / "x.zip")
    content = archive.read_bytes()
    for split in (b"train/", b"test/"):
        content = content.replace(split, split[:-1] + b"\\")
    archive.write_bytes(content)
    assert paths(layout(archive)) == paths(layout(root))


@pytest.mark.parametrize("zip_it", [False, True])
def test_what_systems_leave_behind_is_ignored(tmp_path: Path, zip_it: bool) -> None:
    root = split_tree(tmp_path / "tree")
    for litter in ("__MACOSX/train/ant", ".hidden/ant", "train/.thumbs"):
        tree(root, {litter: 1})
    for name in ("train/.DS_Store", "train/ant/Thumbs.db", "train/ant/._000.png", "README.txt", "train/ant/notes.md"):
        (root / name).write_bytes(b"x")
    found = layout(zipped(root, tmp_path / "x.zip") if zip_it else root)
    assert counts(found) == (12, 6)


def test_linked_folders_are_followed_and_cycles_end(tmp_path: Path) -> None:
    split_tree(tmp_path / "real")
    root = tmp_path / "linked"
    root.mkdir()
    (root / "train").symlink_to(tmp_path / "real" / "train")
    (tmp_path / "real" / "train" / "ant" / "again").symlink_to(tmp_path / "real" / "train" / "ant")
    assert counts(layout(root)) == (12, None)


def test_files_are_ordered_by_path(tmp_path: Path) -> None:
    found = layout(tree(tmp_path, {"b-x": 2, "b": 2, "a": 1}))
    assert [file.path for file, _ in found.train] == sorted(file.path for file, _ in found.train)


def test_a_test_class_without_training_images_is_named(tmp_path: Path) -> None:
    split_tree(tmp_path)
    tree(tmp_path, {"test/dog": 1})
    with pytest.raises(DataError, match=r"test/dog/000\.png.*class 'dog'.*not in the training split"):
        layout(tmp_path)


@pytest.mark.parametrize("split", ["train", "test"])
def test_an_image_outside_of_class_folders_is_named(tmp_path: Path, split: str) -> None:
    split_tree(tmp_path)
    tree(tmp_path, {split: 1})
    with pytest.raises(DataError, match=rf"{split}/000\.png.*no class folder"):
        layout(tmp_path)


def test_a_flat_validation_folder_is_an_error_and_not_passed_over(tmp_path: Path) -> None:
    tree(tmp_path, {"train/ant": 1, "train/bee": 1, "val": 3})
    with pytest.raises(DataError, match="no class folder"):
        layout(tmp_path)


def test_missing_and_empty_roots_say_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data\.root.*does not exist.*one folder of images per class"):
        layout(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"holds no images.*jpg"):
        layout(tmp_path)


def test_a_file_that_is_no_zip_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(b"something else")
    with pytest.raises(DataError, match="neither a folder nor a zip"):
        layout(tmp_path / "x.tar")


@pytest.mark.parametrize("field", ["train", "test"])
def test_a_written_folder_that_is_missing_is_named_with_those_that_exist(tmp_path: Path, field: str) -> None:
    split_tree(tmp_path)
    with pytest.raises(DataError, match=rf"data\.{field}: .*'trian'.*test, train"):
        layout(tmp_path, **{field: "trian"})


def test_a_written_test_folder_needs_a_training_folder(tmp_path: Path) -> None:
    tree(tmp_path, {"held/ant": 1, "seen/ant": 1})
    with pytest.raises(DataError, match=r"name it by data\.train"):
        layout(tmp_path, test="held")
