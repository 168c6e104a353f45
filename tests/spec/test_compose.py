"""`extends`: order, merging, and what is refused."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokexp.spec.base import merge_defaults
from tokexp.spec.compose import Composer, merge_items, spread_augment
from tokexp.spec.yaml_tree import Place, from_plain, to_plain

_NAMES = st.sampled_from(["a", "b", "kind", "epochs", "steps", "budget", "fraction"])
_SCALARS = st.one_of(st.integers(0, 3), st.sampled_from(["x", "y"]), st.none(), st.booleans())
_VALUES = st.recursive(
    st.one_of(_SCALARS, st.lists(_SCALARS, max_size=2)), lambda inner: st.dictionaries(_NAMES, inner, max_size=3)
)
_MAPPINGS = st.dictionaries(_NAMES, _VALUES, max_size=4)


def _write(folder: Path, **files: str) -> None:
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text, encoding="utf-8")


def _load(path: Path) -> tuple[Any, Composer]:
    composer = Composer()
    tree = composer.load(path)
    return (None if tree is None else to_plain(tree)), composer


@given(_MAPPINGS, _MAPPINGS)
def test_trees_merge_as_presets_do(base: dict[str, Any], over: dict[str, Any]) -> None:
    merged = merge_items(from_plain(base, Place("a")), from_plain(over, Place("b")))
    assert to_plain(merged) == merge_defaults(base, over)


@given(_MAPPINGS, _MAPPINGS, _MAPPINGS)
def test_laying_a_tree_over_twice_changes_nothing_more(
    base: dict[str, Any], middle: dict[str, Any], over: dict[str, Any]
) -> None:
    trees = [from_plain(each, Place("f")) for each in (base, middle, over)]
    once = merge_items(merge_items(trees[0], trees[1]), trees[2])
    assert to_plain(merge_items(once, trees[2])) == to_plain(once)


@given(_MAPPINGS)
def test_an_empty_file_over_another_changes_nothing(base: dict[str, Any]) -> None:
    tree = from_plain(base, Place("f"))
    assert to_plain(merge_items(tree, from_plain({}, Place("g")))) == base


def test_files_are_read_depth_first_and_later_ones_win(tmp_path: Path) -> None:
    _write(
        tmp_path,
        deep="a: deep\nb: deep\nc: deep\nd: deep\n",
        left="extends: deep.yaml\na: left\nb: left\nc: left\n",
        right="a: right\nb: right\n",
        top="extends: [left.yaml, right.yaml]\na: top\n",
    )
    plain, composer = _load(tmp_path / "top.yaml")
    assert plain == {"a": "top", "b": "right", "c": "left", "d": "deep"}
    assert composer.problems == []
    assert [Path(file).name for file in composer.files] == ["top.yaml", "left.yaml", "deep.yaml", "right.yaml"]


def test_lists_replace_and_a_mapping_of_another_kind_replaces(tmp_path: Path) -> None:
    _write(
        tmp_path,
        base="seeds: [1, 2, 3]\nt: {kind: x, a: 1}\nu: {kind: x, a: 1}\n",
        top="extends: base.yaml\nseeds: [9]\nt: {kind: y, b: 2}\nu: {b: 2}\n",
    )
    plain, _ = _load(tmp_path / "top.yaml")
    assert plain == {"seeds": [9], "t": {"kind": "y", "b": 2}, "u": {"kind": "x", "a": 1, "b": 2}}


def test_paths_are_relative_to_the_file_that_names_them(tmp_path: Path) -> None:
    (tmp_path / "base" / "more").mkdir(parents=True)
    _write(tmp_path / "base" / "more", c="c: 1\n")
    _write(tmp_path / "base", b="extends: more/c.yaml\nb: 1\n")
    _write(tmp_path, a="extends: base/b.yaml\na: 1\n")
    plain, composer = _load(tmp_path / "a.yaml")
    assert plain == {"c": 1, "b": 1, "a": 1}
    assert composer.files[-1] == str(tmp_path / "base" / "more" / "c.yaml")


def test_one_file_may_be_extended_on_two_ways(tmp_path: Path) -> None:
    _write(tmp_path, d="d: 1\n", b="extends: d.yaml\n", c="extends: d.yaml\n", a="extends: [b.yaml, c.yaml]\n")
    plain, composer = _load(tmp_path / "a.yaml")
    assert plain == {"d": 1}
    assert composer.problems == []


def test_a_cycle_is_reported_where_it_closes(tmp_path: Path) -> None:
    _write(tmp_path, a="x: 1\nextends: b.yaml\n", b="extends: [a.yaml]\n")
    plain, composer = _load(tmp_path / "a.yaml")
    assert plain is None
    problem = composer.problems[0]
    assert (Path(problem.file).name, problem.line, problem.column) == ("b.yaml", 1, 11)
    assert "cycle" in problem.message


@pytest.mark.parametrize(
    ("extends", "words"),
    [
        ("no.yaml", "no such file"), (".", "a folder"), ("5", "name of a file"), ("{a: b}", "name of a file"),
        ("[[a.yaml]]", "name of a file"), ("''", "name of a file"), ("null", "name of a file"),
    ],
)  # fmt: skip
def test_what_cannot_be_extended_is_reported_at_the_entry(tmp_path: Path, extends: str, words: str) -> None:
    _write(tmp_path, a=f"x: 1\nextends: {extends}\n")
    _, composer = _load(tmp_path / "a.yaml")
    assert composer.problems[0].line == 2
    assert composer.problems[0].path == "extends"
    assert words in composer.problems[0].message


def test_the_problems_of_all_files_come_at_once(tmp_path: Path) -> None:
    _write(tmp_path, a="extends: [b.yaml, c.yaml]\nx: .nan\n", b="y: 012\n", c="z: [\n")
    _, composer = _load(tmp_path / "a.yaml")
    assert {Path(problem.file).name for problem in composer.problems} == {"a.yaml", "b.yaml", "c.yaml"}


def test_a_web_of_files_is_refused_before_it_grows(tmp_path: Path) -> None:
    _write(tmp_path, f0="a: 1\n")
    for number in range(1, 30):
        _write(tmp_path, **{f"f{number}": f"extends: [f{number - 1}.yaml, f{number - 1}.yaml]\n"})
    _, composer = _load(tmp_path / "f29.yaml")
    assert any("files are read" in problem.message for problem in composer.problems)


def test_another_version_in_an_extended_file_is_reported_there(tmp_path: Path) -> None:
    _write(tmp_path, a="schema: 1\nextends: b.yaml\n", b="schema: 2\n")
    _, composer = _load(tmp_path / "a.yaml")
    assert [(Path(each.file).name, each.path) for each in composer.problems] == [("b.yaml", "schema")]


def test_one_policy_for_both_phases_survives_a_file_that_changes_one(tmp_path: Path) -> None:
    _write(tmp_path, base="augment: [1, 2]\n", top="extends: base.yaml\naugment: {task: [3]}\n")
    plain, _ = _load(tmp_path / "top.yaml")
    assert plain == {"augment": {"pretrain": [1, 2], "task": [3]}}
    assert to_plain(spread_augment(from_plain({"a": 1}, Place("f")))) == {"a": 1}
