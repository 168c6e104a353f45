"""References: values, text, unknown fields, cycles, and growth."""

from typing import Any

import pytest

from tokexp.errors import Problem
from tokexp.spec.references import resolve
from tokexp.spec.yaml_tree import MAX_NODES, parse, to_plain


def _resolve(text: str) -> tuple[Any, list[Problem]]:
    problems: list[Problem] = []
    tree = parse(text, "f.yaml", problems)
    assert tree is not None
    assert problems == []
    return to_plain(resolve(tree, problems)), problems


def test_a_whole_reference_takes_the_value_with_its_type() -> None:
    plain, problems = _resolve("a: {b: 5, c: {d: [1, 2]}}\nx: ${a.b}\ny: ${a.c}\nz: '${a.c.d.1}'\n")
    assert problems == []
    assert (plain["x"], plain["y"], plain["z"]) == (5, {"d": [1, 2]}, 2)


def test_a_reference_inside_text_takes_the_text_of_the_value() -> None:
    plain, _ = _resolve("root: /data\nn: 5\nyes_: true\np: ${root}/w/${n}-${yes_}.ckpt\n")
    assert plain["p"] == "/data/w/5-true.ckpt"


def test_references_follow_one_another_and_go_through_blocks() -> None:
    plain, problems = _resolve("a: ${b}\nb: ${c}\nc: {d: 1}\ne: ${a.d}\nf: {g: '${f.h}', h: 2}\n")
    assert problems == []
    assert (plain["a"], plain["e"], plain["f"]["g"]) == ({"d": 1}, 1, 2)


def test_two_dollars_stand_for_the_signs_themselves() -> None:
    assert _resolve("a: $${b}\nb: x\n")[0]["a"] == "${b}"


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("a: {bcd: 1}\nx: ${a.bce}\n", 2, "did you mean bcd?"),
        ("x: ${nowhere}\n", 1, "no written field nowhere"),
        ("a: [1]\nx: ${a.1}\n", 2, "a list of 1"),
        ("a: 1\nx: ${a.b}\n", 2, "single value"),
        ("a: ${a}\n", 1, "refers back to itself"),
        ("a: ${b}\nb: ${c}\nc: ${a}\n", 3, "refers back to itself"),
        ("a: {b: '${a}'}\n", 1, "refers back to itself"),
        ("a: {b: '${a.b.c}'}\n", 1, "refers back to itself"),
        ("a: {b: 1}\nx: t/${a}\n", 2, "is a block"),
        ("a: [1]\nx: t/${a}\n", 2, "is a list"),
        ("a: null\nx: t/${a}\n", 2, "is empty"),
        ("x: ${\n", 1, "without its }"),
        ("x: 'a ${b'\n", 1, "without its }"),
        ("x: '${}'\n", 1, "is not a reference"),
        ("x: '${a b}'\n", 1, "is not a reference"),
        ("x: '${a..b}'\n", 1, "is not a reference"),
    ],
)
def test_a_reference_that_fails_is_reported_once_where_it_stands(text: str, line: int, words: str) -> None:
    plain, problems = _resolve(text)
    assert len(problems) == 1, problems
    assert problems[0].line == line
    assert words in problems[0].message
    assert "x" not in plain


def test_a_long_chain_is_refused() -> None:
    rows = [f"a{n}: ${{a{n + 1}}}" for n in range(500)] + ["a500: 1"]
    _, problems = _resolve("\n".join(rows))
    assert "follow one another" in problems[0].message


def test_a_document_that_references_would_blow_up_is_refused() -> None:
    rows = ["a0: [1, 2]"] + [f"a{n}: ['${{a{n - 1}}}', '${{a{n - 1}}}']" for n in range(1, 38)]
    _, problems = _resolve("\n".join(rows))
    assert f"more than {MAX_NODES} values" in problems[-1].message


def test_text_that_references_would_blow_up_is_refused() -> None:
    rows = ["a0: xxxxxxxxxx"] + [f"a{n}: '${{a{n - 1}}}${{a{n - 1}}}'" for n in range(1, 38)]
    _, problems = _resolve("\n".join(rows))
    assert any("characters after references" in problem.message for problem in problems)
