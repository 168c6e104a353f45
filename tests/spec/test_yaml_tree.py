"""YAML trees: places of values, and everything that is refused with its place."""

import pytest

from tokexp.errors import Problem
from tokexp.spec import yaml_tree
from tokexp.spec.yaml_tree import FAULTY, Item, faulty_paths, from_plain, parse, to_plain
from tokexp.spec.yaml_tree import Place as PlaceOf


def _parse(text: str) -> tuple[Item | None, list[Problem]]:
    problems: list[Problem] = []
    return parse(text, "f.yaml", problems), problems


def _only(text: str) -> Problem:
    _, problems = _parse(text)
    assert len(problems) == 1, problems
    return problems[0]


def test_values_and_keys_know_their_places() -> None:
    root, problems = _parse("a: 1\nb:\n  c: [x, 2.5]\n")
    assert root is not None
    assert problems == []
    inner = root.value["b"].value["c"]
    assert (inner.key.line, inner.key.column) == (3, 3)
    assert (inner.value[1].place.line, inner.value[1].place.column) == (3, 10)
    assert to_plain(root) == {"a": 1, "b": {"c": ["x", 2.5]}}


def test_plain_scalars_have_the_types_of_yaml() -> None:
    root, problems = _parse("[1, -2, 0x10, 1_000, 1.5, 1.0e-3, true, off, null, ~, '1', x, 1e-3]")
    assert root is not None
    assert problems == []
    expected = [1, -2, 16, 1000, 1.5, 0.001, True, False, None, None, "1", "x", "1e-3"]
    assert to_plain(root) == expected
    assert [type(value) for value in to_plain(root)] == [type(value) for value in expected]


def test_a_block_is_pointed_at_by_its_key_and_a_value_by_itself() -> None:
    root, _ = _parse("a:\n  b: 1\n")
    assert root is not None
    assert root.value["a"].anchor.line == 1
    assert root.value["a"].value["b"].anchor.column == 6


@pytest.mark.parametrize(
    ("text", "line", "column", "words"),
    [
        ("a: 1\na: 2\n", 2, 1, "written twice (first on line 1)"),
        ("a:\n\tb: 1\n", 2, 1, "a tab"),
        ("a: {b: 1, b: 2}\n", 1, 11, "written twice"),
        ("a: 1\n---\nb: 2\n", 2, 1, "second document"),
        ("5: a\n", 1, 1, "is not text"),
        ("null: a\n", 1, 1, "is not text"),
        ("[a]: b\n", 1, 1, "a key must be a word"),
        ("a: !!python/object:os.system x\n", 1, 4, "!!python/object:os.system is not allowed"),
        ("a: !mine {b: 1}\n", 1, 4, "tag !mine"),
        ("a: !!set {b}\n", 1, 4, "tag !!set"),
        ("a: &x {b: 1}\nc:\n  <<: *x\n", 3, 3, "merge keys"),
        ("a: *b\n", 1, 4, "*b stands for nothing"),
        ("a: &a [*a]\n", 1, 8, "*a stands for nothing"),
        ("a: .nan\n", 1, 4, "finite"),
        ("a: -.inf\n", 1, 4, "finite"),
        ("a: 1.0e+999\n", 1, 4, "finite"),
        ("a: 2024-01-02\n", 1, 4, "a date"),
        ("a: 1:30\n", 1, 4, "base 60"),
        ("a: 1:30.5\n", 1, 4, "base 60"),
        ("a: 010\n", 1, 4, "octal"),
        ("a: " + "9" * 5000, 1, 4, "more than 100 digits"),
        ("a: [1,\n", 2, 1, "not YAML"),
        ("a: b: c\n", 1, 5, "not YAML"),
        ("a: @x\n", 1, 4, "not YAML"),
        ("a: 'x\n", 2, 1, "not YAML"),
        ("%YAML 9.9\n---\na: 1\n", 1, 1, "not YAML"),
        ("a: 1\nname:good\nb: 2\n", 2, 1, "no colon with a space behind it follows 'name:good'"),
        ("a: 1\nb:\u00a0good\nc: 2\n", 2, 3, "U+00A0 looks like a space"),
        ("a: 1\nb\uff1a good\nc: 2\n", 2, 2, "U+FF1A looks like a colon"),
        ("a:\n\u00a0\u00a0b:\n    - 1\n  c: 2\n", 2, 1, "U+00A0 looks like a space"),
        ("a: {kind:digits}\n", 1, 5, "a space is needed after the colon of kind:digits"),
    ],
)
def test_what_misleads_is_refused_with_its_place(text: str, line: int, column: int, words: str) -> None:
    problem = _only(text)
    assert (problem.line, problem.column) == (line, column)
    assert words in problem.message


def test_text_in_other_letters_is_not_blamed_for_a_mistake_elsewhere() -> None:
    problem = _only("a: gr\u00f6\u00dfe\u00a0x\nb: [1\n")
    assert "did not find expected" in problem.message


def test_a_block_with_a_merge_key_is_not_called_incomplete() -> None:
    root, problems = _parse("a: {<<: {b: 1}, c: 2}\n")
    assert root is not None
    assert [problem.message for problem in problems] == ["merge keys (<<) are not read; use extends or ${...}"]
    assert root.value["a"].value is FAULTY


def test_several_problems_are_all_reported_and_the_rest_is_read() -> None:
    root, problems = _parse("a: .nan\na: 1\nb: 012\nc: 3\n")
    assert root is not None
    assert len(problems) == 3
    assert to_plain(root) == {"c": 3}
    assert list(faulty_paths(root)) == [("a",), ("b",)]
    assert root.value["a"].value is FAULTY


def test_an_alias_repeats_a_value_at_its_own_place() -> None:
    root, problems = _parse("a: &x {b: 1}\nc: *x\n")
    assert root is not None
    assert problems == []
    assert to_plain(root) == {"a": {"b": 1}, "c": {"b": 1}}
    assert root.value["c"].place.line == 2


def test_a_reference_may_stand_without_quotes_inside_braces() -> None:
    root, problems = _parse("a: {b: ${c.d}/x, e: 1}\n")
    assert root is not None
    assert problems == []
    assert to_plain(root) == {"a": {"b": "${c.d}/x", "e": 1}}
    assert root.value["a"].value["e"].place.column == 21


def test_deep_nesting_is_refused() -> None:
    assert "inside one another" in _only("a: " + "[" * 100_000).message
    assert "inside one another" in _only("\n".join("  " * depth + "a:" for depth in range(200))).message


def test_an_alias_bomb_is_refused_before_it_grows() -> None:
    rows = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    rows += [f"a{n}: &a{n} [{', '.join(['*a' + str(n - 1)] * 9)}]" for n in range(1, 12)]
    assert "repeated ones counted" in _only("\n".join(rows)).message


def test_too_many_values_are_refused() -> None:
    assert f"more than {yaml_tree.MAX_NODES}" in _only("a: [" + "1," * 60_000 + "]").message


def test_leaving_out_paths_keeps_all_else() -> None:
    tree = from_plain({"a": {"b": 1, "c": [1, 2]}, "d": 2}, PlaceOf("f"))
    assert to_plain(tree, frozenset({("a", "b"), ("d",)})) == {"a": {"c": [1, 2]}}
