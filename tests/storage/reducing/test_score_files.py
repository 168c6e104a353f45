"""Files of scores and lists: every mistake is found with its file and line."""

from pathlib import Path

import numpy as np
import pytest

from tokexp.errors import DataError
from tokexp.storage.reducing.score_files import read_lists, read_scores

IDS = ["ant/0.png", "ant/1.png", "bee/0.png", "bee/1,2.png"]
LABELS = np.array([0, 0, 1, 1])
GOOD = "# id,score\nbee/0.png,0.5\n\nant/1.png,0.25\nbee/1,2.png,1\nant/0.png,-1e-3\n"


def written(folder: Path, text: str) -> str:
    path = folder / "file.csv"
    path.write_text(text)
    return str(path)


def test_scores_come_in_the_order_of_the_images(tmp_path: Path) -> None:
    assert read_scores(written(tmp_path, GOOD), IDS, LABELS).tolist() == [-0.001, 0.25, 0.5, 1.0]
    tabs = GOOD.replace(",0.5", "\t0.5").replace(",0.25", "\t0.25").replace("png,1\n", "png\t1\n")
    assert read_scores(written(tmp_path, tabs), IDS, LABELS).tolist() == [-0.001, 0.25, 0.5, 1.0]


@pytest.mark.parametrize(
    ("change", "line", "said"),
    [
        (("0.25", "high"), 4, "'high' given as a score; a finite number is needed"),
        (("0.25", "nan"), 4, "'nan' given as a score"),
        (("ant/1.png", "ant/9.png"), 4, "'ant/9.png' is no training image; they are named like 'ant/0.png'"),
        (("ant/1.png,0.25", "ant/1.png"), 4, "has one field; `id,score` is needed"),
        (("ant/1.png", "bee/0.png"), 4, "'bee/0.png' has a score already"),
    ],
)
def test_a_wrong_line_of_scores_is_named(tmp_path: Path, change: tuple[str, str], line: int, said: str) -> None:
    file = written(tmp_path, GOOD.replace(*change))
    with pytest.raises(DataError) as error:
        read_scores(file, IDS, LABELS)
    assert str(error.value).startswith(f"{file}:{line}: ")
    assert said in str(error.value)


def test_images_without_a_score_are_counted_and_named(tmp_path: Path) -> None:
    file = written(tmp_path, "ant/0.png,1\n")
    with pytest.raises(DataError, match=r"3 of 4 training images have no score, such as 'ant/1\.png', 'bee/0\.png'"):
        read_scores(file, IDS, LABELS)


def test_a_file_that_is_not_there_is_named_with_its_field(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"storage\.reduce\.file: .*none\.csv cannot be read: No such file"):
        read_scores(str(tmp_path / "none.csv"), IDS, LABELS)


def test_scores_may_be_arrays_in_the_order_of_the_images(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", scores=np.array([3, 1, 2, 0.5], np.float32), labels=LABELS)
    assert read_scores(str(tmp_path / "a.npz"), IDS, LABELS).tolist() == [3.0, 1.0, 2.0, 0.5]


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"score": np.zeros(4)}, "no array `scores`"),
        ({"scores": np.zeros(3)}, r"scores: float64 \(3,\) given; 4 numbers are needed"),
        ({"scores": np.array([0, np.inf, 0, 0])}, "number 1 is not finite"),
        ({"scores": np.zeros(4), "labels": np.array([0, 1, 0, 1])}, "labels: not those of the training images"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(tmp_path: Path, arrays: dict[str, np.ndarray], said: str) -> None:
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(DataError, match=said):
        read_scores(str(tmp_path / "a.npz"), IDS, LABELS)


def test_objects_in_an_npz_are_never_unpickled(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", scores=np.array([{}, {}, {}, {}], dtype=object))
    with pytest.raises(DataError, match=r"cannot be read as \.npz"):
        read_scores(str(tmp_path / "a.npz"), IDS, LABELS)


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("ant,ant/0.png\nwasp,bee/0.png\n", 2, "there is no class 'wasp'; there are ant, bee"),
        ("ant,ant/0.png\nant,bee/0.png\n", 2, "'bee/0.png' is of the class 'bee', not 'ant'"),
        ("ant,ant/0.png\n\nant,ant/0.png\n", 3, "'ant/0.png' stands in line 1 already"),
        ("ant\n", 1, "`class,id` is needed"),
    ],
)
def test_a_wrong_line_of_a_list_is_named(tmp_path: Path, text: str, line: int, said: str) -> None:
    file = written(tmp_path, text)
    with pytest.raises(DataError) as error:
        read_lists(file, IDS, LABELS, ("ant", "bee"))
    assert str(error.value).startswith(f"{file}:{line}: ")
    assert said in str(error.value)


def test_a_list_gives_positions_in_its_order(tmp_path: Path) -> None:
    file = written(tmp_path, "bee,bee/1,2.png\nant,ant/1.png\n")
    assert read_lists(file, IDS, LABELS, ("ant", "bee")).tolist() == [3, 1]
    with pytest.raises(DataError, match="names no image"):
        read_lists(written(tmp_path, "# nothing\n"), IDS, LABELS, ("ant", "bee"))
