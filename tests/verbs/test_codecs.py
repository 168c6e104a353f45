"""The verbs of codecs, as they are typed."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tokexp import cli
from tokexp.spec.storage import PackedCodec
from tokexp.storage.codec_comparison import NAMES
from tokexp.storage.store import TokenStore, write_store

STEPS = np.random.default_rng(0).integers(-1, 2, (600, 8, 8)).cumsum(-1).cumsum(-2)
INDICES = (STEPS % 60).astype(np.uint16)
LABELS = np.arange(600) % 3
CODES = np.linspace(0, 1, 120, dtype=np.float32).reshape(60, 2)


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("stored") / "train.tokens"
    write_store(
        path, INDICES, LABELS, CODES, PackedCodec(kind="packed"), metric="cosine", num_classes=3, facts={"note": "a"}
    )  # fmt: skip
    return path


def asked(capsys: pytest.CaptureFixture[str], *words: object, code: int = 0) -> dict[str, Any]:
    assert cli._run(["codec", *map(str, words), "--json"]) == code
    said: dict[str, Any] = json.loads(capsys.readouterr().out)
    return said


def test_compare_measures_every_codec_and_picks_the_smallest_that_is_fast(
    stored: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = asked(capsys, "compare", stored, "--output", tmp_path / "table.csv")
    rows = {row["codec"]: row for row in said["rows"]}
    assert tuple(rows) == NAMES
    assert rows["packed"]["total"] == stored.stat().st_size
    parts = ("indices", "index", "labels", "codebook", "header", "tables")
    assert all(sum(row[part] for part in parts) == row["total"] for row in rows.values())
    assert said["bounds"]["uniform"] == pytest.approx(np.log2(60))
    assert rows["rans_context:fast"]["bits_per_token"] < said["bounds"]["order0"] < rows["rans0"]["bits_per_token"]
    assert min(row["decode_rate"] for row in rows.values()) > 0
    fewest = min(row["total"] for row in rows.values())
    assert rows[said["picked"]]["total"] <= 1.01 * fewest
    with (tmp_path / "table.csv").open() as file:
        assert [row["codec"] for row in csv.DictReader(file)] == list(NAMES)


def test_fit_writes_the_same_store_in_fewer_bytes(
    stored: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "small.tokens"
    said = asked(capsys, "fit", stored, "--codec", "rans_context:best", "--output", target)
    assert said["codec"] == "rans_context:best"
    written = TokenStore.open(target)
    assert written.codec["level"] == "best"
    assert np.array_equal(written.indices(), INDICES)
    assert np.array_equal(written.labels, LABELS)
    assert np.array_equal(written.codes, CODES)
    assert (written.metric, written.num_classes, written.facts) == ("cosine", 3, {"note": "a"})
    assert target.stat().st_size == written.accounting.total < 0.8 * stored.stat().st_size


def test_fit_prints_a_table_and_writes_nothing_unless_told_to(stored: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(stored.parent.iterdir())
    assert cli._run(["codec", "fit", str(stored), "--codec", "rans0"]) == 0
    shown = capsys.readouterr()
    assert "bytes/image" in shown.out
    assert "uniform 5.907" in shown.out
    assert "taken: rans0, as asked" in shown.out
    assert "nothing is written" in shown.err
    assert sorted(stored.parent.iterdir()) == before


def test_a_codec_that_cannot_hold_the_codes_is_left_out_with_the_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "many.tokens"
    codes = np.zeros((600, 1), np.float32)
    tokens = np.arange(640).reshape(10, 8, 8) % 600
    write_store(
        path, tokens, np.zeros(10, int), codes, PackedCodec(kind="packed"), metric="euclidean", num_classes=1
    )  # fmt: skip
    said = asked(capsys, "compare", path)
    assert "510" in said["refused"]["seit"]
    assert "seit" not in [row["codec"] for row in said["rows"]]
    assert "510" in asked(capsys, "fit", path, "--codec", "seit", code=2)["error"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--codec", "rans"], "no codec 'rans'"),
        (["--codec", "rans_context:slow"], "no codec"),
        (["--codec", "rans0", "--output", "a.bin"], "must end in .tokens"),
    ],
)
def test_a_wrong_word_is_named(
    stored: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert message in asked(capsys, "fit", stored, *words, code=2)["error"]


def test_an_output_that_exists_is_not_replaced(stored: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = stored.read_bytes()
    assert "exists already" in asked(capsys, "fit", stored, "--codec", "rans0", "--output", stored, code=2)["error"]
    assert stored.read_bytes() == before


def test_an_empty_store_can_be_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "empty.tokens"
    write_store(
        path, INDICES[:0], LABELS[:0], CODES, PackedCodec(kind="packed"), metric="cosine", num_classes=3
    )  # fmt: skip
    assert len(asked(capsys, "compare", path)["rows"]) == len(NAMES)
