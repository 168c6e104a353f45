"""Some hundreds of broken specs: each gives located problems and nothing else, and writes nothing."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.spec.specs import GOOD
from tokexp.errors import Problem, SpecError
from tokexp.spec.reading import read_experiment

Files = dict[str, bytes]
Case = tuple[str, Files, list[str]]
WRONG_VALUES: list[Any] = ["words", "1e-3", -7.5, True, None, [], {"x": 1}, 10**30]
MANY_TYPES = [
    ("name",), ("augment",), ("augment", "pretrain"), ("augment", "task"), ("augment", "task", 0, "weights"),
]  # fmt: skip
"""Where one of the wrong values is right."""


def _spec(document: Any) -> Files:
    return {"spec.yaml": yaml.safe_dump(document, sort_keys=False).encode()}


def _text(text: str) -> Files:
    return {"spec.yaml": text.encode()}


def _paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in items:
        yield (*path, key)
        yield from _paths(child, (*path, key))


def _changed(path: tuple[Any, ...], value: Any, rename: bool = False) -> Any:
    document = yaml.safe_load(GOOD)
    holder = document
    for part in path[:-1]:
        holder = holder[part]
    if rename:
        holder[value] = holder.pop(path[-1])
    else:
        holder[path[-1]] = value
    return document


def _misspelt() -> Iterator[Case]:
    for path in _paths(yaml.safe_load(GOOD)):
        free_name = len(path) == 2 and path[0] in ("tasks", "evaluate")
        if isinstance(path[-1], str) and not free_name:
            yield f"misspelt {path}", _spec(_changed(path, path[-1] + "q", rename=True)), []


def _wrong_types() -> Iterator[Case]:
    for number, path in enumerate(_paths(yaml.safe_load(GOOD))):
        for value in (WRONG_VALUES[number % len(WRONG_VALUES)], WRONG_VALUES[(number + 3) % len(WRONG_VALUES)]):
            if path in MANY_TYPES:
                continue
            yield f"{value!r:.20} at {path}", _spec(_changed(path, value)), []


def _duplicates() -> Iterator[Case]:
    for block in re.findall(r"(?m)^\w+(?=:)", GOOD):
        yield f"{block} twice", _text(GOOD + f"{block}: 1\n"), []


BOMB = "a: &a [x, x, x, x, x, x, x, x]\n"
BOMB += "".join(f"{c}: &{c} [{', '.join(['*' + p] * 8)}]\n" for p, c in zip("abcdefgh", "bcdefghi", strict=True))
GROWING = GOOD + "a0: [1, 1]\n" + "".join(f"a{n}: ['${{a{n - 1}}}', '${{a{n - 1}}}']\n" for n in range(1, 35))
TEXTS = {
    "empty": "",
    "blank": " \n\n",
    "comment": "# nothing\n",
    "null": "null\n",
    "list": "- a\n",
    "word": "spec\n",
    "number": "5\n",
    "two documents": GOOD + "---\n" + GOOD,
    "tab": GOOD.replace("  train", "\ttrain"),
    "tab after key": "data:\n\tkind: digits\n",
    "open list": GOOD + "x: [1, 2\n",
    "open map": GOOD + "x: {a: 1\n",
    "open quote": GOOD + "x: 'abc\n",
    "colon in colon": GOOD + "x: y: z\n",
    "at sign": GOOD + "x: @y\n",
    "python object": GOOD + "x: !!python/object/apply:os.system ['touch pwned']\n",
    "python name": GOOD + "x: !!python/name:os.system\n",
    "own tag": GOOD.replace("{kind: digits}", "!d {kind: digits}"),
    "tagged number": GOOD.replace("heads: 4", "heads: !!int '4'"),
    "binary": GOOD + "x: !!binary aGk=\n",
    "merge key": GOOD.replace("{enabled: false}", "{<<: {enabled: false}}"),
    "alias": GOOD + "x: *nothing\n",
    "alias of itself": GOOD + "x: &y [*y]\n",
    "bomb": GOOD + BOMB,
    "growing": GROWING,
    "deep list": GOOD + "x: " + "[" * 5000,
    "deep map": GOOD + "x: " + "{a: " * 5000,
    "deep dashes": "- " * 3000,
    "many values": GOOD + "x: [" + "1," * 60000 + "]\n",
    "number key": GOOD + "5: x\n",
    "list key": GOOD + "? [a]\n: b\n",
    "null key": GOOD + "? \n: b\n",
    "date": GOOD.replace("name: good", "name: 2024-02-30"),
    "nan": GOOD.replace("lr: 1.5e-3", "lr: .nan"),
    "inf": GOOD.replace("lr: 1.5e-3", "lr: .inf"),
    "octal": GOOD.replace("heads: 4", "heads: 04"),
    "base 60": GOOD.replace("heads: 4", "heads: 4:00"),
    "digits": GOOD.replace("heads: 4", "heads: " + "9" * 10000),
    "exponent": GOOD.replace("1.5e-3", "1.5e+999"),
    "directive": "%YAML 3.0\n---\n" + GOOD,
    "text exponent": GOOD.replace("1.5e-3", "2e-4"),
    "carriage returns": GOOD.replace("heads: 4", "heads: x").replace("\n", "\r\n"),
    "list kind": GOOD.replace("kind: digits", "kind: [digits]"),
    "map kind": GOOD.replace("kind: mtm", "kind: {a: b}"),
    "number kind": GOOD.replace("kind: token_cutmix", "kind: 5"),
    "map step": GOOD.replace("kind: token_cutmix", "kind: {}"),
    "unknown block": GOOD + "z: 1\n",
    "no work": "schema: 1\ndata: {kind: digits}\n",
    "only a version": "schema: 1\n",
    "version 0": GOOD.replace("schema: 1", "schema: 0"),
    "version text": GOOD.replace("schema: 1", "schema: '1'"),
    "version true": GOOD.replace("schema: 1", "schema: true"),
    "version 1.0": GOOD.replace("schema: 1", "schema: 1.0"),
    "no space after a colon": GOOD.replace("name: good", "name:good"),
    "no space in braces": GOOD.replace("{kind: digits}", "{kind:digits}"),
    "no-break space": GOOD.replace("name: good", "name:\u00a0good"),
    "letters that look alike": GOOD.replace("tokenizer:", "t\u043ekenizer:"),
    "line separator": GOOD.replace("name: good", "name: go\u2028od"),
    "memory beyond numbers": GOOD.replace("4 GB", "9" * 400 + " GB"),
    "time beyond numbers": GOOD.replace("30 min", "9" * 400 + " min"),
    "digits of another script": GOOD.replace("4 GB", "\u0664 GB"),
    "seed twice": GOOD.replace("seeds: [0, 1]", "seeds: [1, 1]"),
    "free block": GOOD + "policies: {a: []}\n",
}


def _texts() -> Iterator[Case]:
    yield from ((name, _text(text), []) for name, text in TEXTS.items())


def _encodings() -> Iterator[Case]:
    good = GOOD.encode()
    for name, content in {
        "latin-1": good.replace(b"name: good", b"name: caf\xe9"),
        "utf-16": GOOD.encode("utf-16"),
        "nul": good + b"x: \x00\n",
        "escape": good + b"# \x1b[0m\n",
        "utf-32": GOOD.encode("utf-32-be"),
        "cut": "x: \u20ac".encode()[:-1],
        "surrogate": b"x: \xed\xa0\x80",
        "huge": b"#" * 2_000_000,
        "gzip": b"\x1f\x8b\x08\x00" * 50,
        "private": good + "x: \uf8f0\n".encode(),
    }.items():
        yield name, {"spec.yaml": content}, []


def _references() -> Iterator[Case]:
    values = [
        "${nowhere}",
        "${modle.heads}",
        "${model.headz}",
        "${name}",
        "${model}",
        "x${model}",
        "${seeds.9}",
        "${seeds.x}",
        "${}",
        "'${'",
        "'${a b}'",
        "${model.heads.x}",
        "x${track.uri}",
        "${tasks.finetune.train.lr}",
        "'${${name}}'",
        "${.}",
    ]
    for value in values:
        yield f"reference {value}", _text(GOOD.replace("name: good", f"name: {value}")), []
    chain = "".join(f"a{n}: ${{a{n + 1}}}\n" for n in range(300)) + "a300: ${a0}\n"
    yield "long chain", _text(GOOD + chain), []


def _extended() -> Iterator[Case]:
    for value in ("no.yaml", "[no.yaml, nor.yaml]", ".", "spec.yaml", "5", "{a: b}", "[5]", "''", "/", "/dev/zero",
                  "'${name}'", "~", "'a\\0b'", "../no/../no.yaml", "'" + "x" * 300 + "'"):  # fmt: skip
        yield f"extends {value:.30}", _text(GOOD + f"extends: {value}\n"), []
    others = {
        "cycle": "extends: spec.yaml\n", "longer cycle": "extends: third.yaml\n", "empty": "", "broken": "a: [\n",
        "version": "schema: 2\n", "wrong": "model: {kind: vit, depth: 0, widht: 5}\n", "list": "[1]\n",
    }  # fmt: skip
    for name, other in others.items():
        files = _text("extends: other.yaml\n" + GOOD.replace("depth: 4, ", ""))
        yield f"extended {name}", {**files, "other.yaml": other.encode(), "third.yaml": b"extends: spec.yaml\n"}, []


def _overrides() -> Iterator[Case]:
    for value in (
        "",
        "=",
        "a",
        "a=",
        "=5",
        ".a=1",
        "a.=1",
        "a..b=1",
        "model.heads=",
        "model.heads=x",
        "model.headz=4",
        "name.x=1",
        "seeds.9=1",
        "seeds.x=1",
        "seeds=[",
        "seeds=[]",
        "model=5",
        "model={kind: vit, heads: 5}",
        "data.kind=nothing",
        "tokenizer.kind=vqvaf",
        "extends=x.yaml",
        "name=${nowhere}",
        "name=\x00",
        "name=!!python/name:os.system x",
        "tasks.Bad={kind: probe}",
        "objective.train.lr=1e-3",
        "objective.train.lr=.nan",
        "augment.task.0.kind=mixup",
        "augment=[{kind: pixel_flip}]",
        "model.grid=3",
        "tokenizer=null",
        "a=b\n---\nc",
        "schema=2",
        "=" * 500,
        "model.heads=" + "[" * 500,
        "x" * 5000 + "=1",
        "x" * 400 + "=1",
        ".".join("a" * 200) + "=1",
    ):
        yield f"set {value[:30]!r}", _text(GOOD), [value]


def _combinations() -> Iterator[Case]:
    for old, new in {
        "patch_size: 2": "patch_size: 3",
        "codebook_size: 64": "codebook_size: 70000",
        "{kind: packed}": "{kind: packed, level: 1}",
        "{kind: conv2x2}": "{kind: conv4x4}",
        "stem: {kind: conv2x2}": "input: pixels, stem: {kind: patchify, patch_size: 4}",
        "heads: 4,": "heads: 4, grid: 2,",
        "kind: token_cutmix": "kind: pixel_flip",
        "tasks:": "objective_: 1\ntasks:",
        "  probe: {": "  tokens: {",
        "batch_size: 256": "batch_size: 255",
        "gpus: 0": "gpus: 3",
        "epochs: 60": "epochs: 60, steps: 1",
        "{kind: clean}": "{kind: clean, split: select}",
        "{low: 0.4}": "{low: 0.9, high: 0.2}",
        "{kind: digits}": "{kind: seit_release, root: x}",
        "weights: [0.75, 0.25]": "weights: [1.0]",
        "do: [{kind": "do: [{kind: token_eda}, {kind",
    }.items():
        yield f"{new:.40}", _text(GOOD.replace(old, new)), []


CASES = [
    *_misspelt(), *_wrong_types(), *_duplicates(), *_texts(), *_encodings(), *_references(), *_extended(),
    *_overrides(), *_combinations(),
]  # fmt: skip


def _write(folder: Path, files: Files) -> Path:
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder / "spec.yaml"


def _problems(path: Path, overrides: list[str]) -> list[Problem]:
    with pytest.raises(SpecError) as caught:
        read_experiment(path, overrides)
    return caught.value.problems


def test_there_are_enough_broken_specs_and_the_one_they_come_from_is_good(tmp_path: Path) -> None:
    assert len(CASES) >= 200
    assert read_experiment(_write(tmp_path, _text(GOOD))).experiment.name == "good"


@pytest.mark.parametrize("case", CASES, ids=[f"{number}-{case[0]:.40}" for number, case in enumerate(CASES)])
def test_a_broken_spec_gives_located_problems_and_writes_nothing(tmp_path: Path, case: Case) -> None:
    _, files, overrides = case
    path = _write(tmp_path, files)
    problems = _problems(path, overrides)
    assert problems
    for problem in problems:
        assert problem.file
        assert problem.message.strip()
        assert len(str(problem)) < 1500
        unlocated = problem.file == "--set" or b"#" * 100 in files["spec.yaml"]
        assert unlocated or (problem.line or 0) >= 1 <= (problem.column or 0), problem
    assert len(set(problems)) == len(problems)
    assert sorted(each.name for each in tmp_path.iterdir()) == sorted(files)


@pytest.mark.parametrize("name", ["missing.yaml", ".", "a\0b", "x" * 300, "/dev/zero"])
def test_what_is_no_file_is_one_problem_that_names_it(tmp_path: Path, name: str) -> None:
    problems = _problems(tmp_path / name, [])
    assert [problem.file for problem in problems] == [str(tmp_path / name)]


@pytest.mark.parametrize("number", [0, 40, 150, 200, len(CASES) - 1])
def test_the_command_line_says_the_same(tmp_path: Path, number: int) -> None:
    _, files, overrides = CASES[number]
    path = _write(tmp_path, files)
    arguments = [word for override in overrides for word in ("--set", override)]
    ended = subprocess.run(
        [sys.executable, "-m", "tokexp", "validate", str(path), *arguments],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert ended.returncode == 2, ended.stderr
    printed = ended.stderr.splitlines()
    assert printed[:-1] == [str(problem) for problem in _problems(path, overrides)]
    assert printed[-1] == f"{len(printed) - 1} error{'s' if len(printed) > 2 else ''}"
