"""`--set`: where values go, what they put aside, and how bad ones are reported."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokexp.errors import Problem
from tokexp.spec.overrides import apply_overrides, apply_values
from tokexp.spec.yaml_tree import Place, from_plain, to_plain

_WORDS = st.sampled_from(["a", "b", "c", "d"])
_TREES = st.recursive(st.integers(0, 9), lambda inner: st.dictionaries(_WORDS, inner, max_size=3))
_DOCUMENTS = st.dictionaries(_WORDS, _TREES, max_size=3)
_PATHS = st.lists(_WORDS, min_size=1, max_size=4)


def _set(document: dict[str, Any], *overrides: str) -> tuple[Any, list[Problem]]:
    problems: list[Problem] = []
    tree = apply_overrides(from_plain(document, Place("f.yaml", 1, 1)), overrides, problems)
    return to_plain(tree), problems


def _at(value: Any, path: list[str]) -> Any:
    for part in path:
        value = value[part] if isinstance(value, dict) and part in value else None
    return value


@given(_DOCUMENTS, _PATHS, st.integers())
def test_a_set_value_is_there_afterwards_or_a_problem_says_why(
    document: dict[str, Any], path: list[str], value: int
) -> None:
    plain, problems = _set(document, f"{'.'.join(path)}={value}")
    if problems:
        assert "single value" in problems[0].message
        assert plain == document
    else:
        assert _at(plain, path) == value


@given(_DOCUMENTS, _PATHS, st.integers(0, 5))
def test_all_that_is_not_on_the_path_stays(document: dict[str, Any], path: list[str], value: int) -> None:
    plain, _ = _set(document, f"{'.'.join(path)}={value}")
    assert {key: plain[key] for key in document if key != path[0]} == {
        key: child for key, child in document.items() if key != path[0]
    }


@given(_DOCUMENTS, _PATHS, st.integers(0, 5), st.integers(0, 5))
def test_the_last_of_two_values_wins(document: dict[str, Any], path: list[str], first: int, second: int) -> None:
    name = ".".join(path)
    assert _set(document, f"{name}={first}", f"{name}={second}")[0] == _set(document, f"{name}={second}")[0]


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("a.b=5", {"a": {"b": 5}}), ("a.b=1.0e-3", {"a": {"b": 0.001}}), ("a.b='5'", {"a": {"b": "5"}}),
        ("a=[1, x]", {"a": [1, "x"]}), ("a={b: {c: true}}", {"a": {"b": {"c": True}}}), ("a=null", {"a": None}),
        ("a=b=c", {"a": "b=c"}), ("a= x", {"a": "x"}), (" a =x", {"a": "x"}),
    ],
)  # fmt: skip
def test_values_are_read_as_yaml(override: str, expected: Any) -> None:
    assert _set({}, override) == (expected, [])


def test_a_position_in_a_list_is_a_number() -> None:
    assert _set({"a": [{"b": 1}, {"b": 2}]}, "a.1.b=5")[0] == {"a": [{"b": 1}, {"b": 5}]}


def test_setting_a_kind_puts_the_fields_of_the_old_kind_aside() -> None:
    document = {"codec": {"kind": "seit", "level": 3}}
    assert _set(document, "codec.kind=packed")[0] == {"codec": {"kind": "packed"}}
    assert _set(document, "codec.kind=seit")[0] == document
    assert _set(document, "codec.more=1", "codec.kind=packed")[0] == {"codec": {"more": 1, "kind": "packed"}}


def test_setting_steps_puts_epochs_aside() -> None:
    assert _set({"train": {"epochs": 3, "lr": 1}}, "train.steps=9")[0] == {"train": {"lr": 1, "steps": 9}}


def test_one_policy_for_both_phases_is_spread_when_one_is_set() -> None:
    plain, _ = _set({"augment": [1, 2]}, "augment.task=[]")
    assert plain == {"augment": {"pretrain": [1, 2], "task": []}}


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("a", "has no '='"), ("", "has no '='"), ("=1", "is not a path"), ("a..b=1", "is not a path"),
        (".a=1", "is not a path"), ("a.=1", "is not a path"), ("a. b=1", "is not a path"), ("a=", "no value"),
        ("a=  ", "no value"), ("a=[1", "not YAML"), ("a=\t5", "a tab"), ("a=# x", "no value"),
        ("a=1\n---\n2", "second document"),
        ("a=!!python/name:x y", "is not allowed"), ("a=.nan", "finite"), ("a=\x00", "control character"),
        ("l.7=1", "a position from 0 to 1"), ("l.x=1", "a position from 0 to 1"), ("s.x=1", "single value"),
        ("extends=[x]", "named in files only"), ("a={b: 1, b: 2}", "written twice"), ("l.0.x=1", "single value"),
    ],
)  # fmt: skip
def test_a_bad_override_is_reported_as_such(override: str, words: str) -> None:
    _, problems = _set({"l": [1, 2], "s": "text"}, override)
    assert len(problems) == 1, problems
    assert (problems[0].file, problems[0].line) == ("--set", None)
    assert words in problems[0].message


def test_plain_values_are_laid_over_by_path() -> None:
    problems: list[Problem] = []
    tree = apply_values(from_plain({"a": {"b": 1}}, Place("f")), {"a.b": 2.5, "c": ("x", {"d": 1})}, problems)
    assert to_plain(tree) == {"a": {"b": 2.5}, "c": ["x", {"d": 1}]}
    assert problems == []
