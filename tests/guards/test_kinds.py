"""Every kind that the language knows has its file, its test, its source, and its line in the README's tables."""

import ast
import re
from collections.abc import Iterator
from typing import Any, get_args

import pytest

from tests.guards.source_files import ROOT, functions, parse
from tokexp.registry import PACKAGES
from tokexp.spec.augment import COMBINATORS, Step
from tokexp.spec.data import DataSpec
from tokexp.spec.evaluation import EvaluationSpec
from tokexp.spec.models import ModelSpec
from tokexp.spec.morphing import GrouperSpec
from tokexp.spec.objectives import ObjectiveSpec
from tokexp.spec.reducing import ReduceSpec
from tokexp.spec.stages import StagePayload
from tokexp.spec.stems import StemSpec
from tokexp.spec.storage import CodecSpec
from tokexp.spec.tasks import TaskSpec
from tokexp.spec.teachers import TargetSpec
from tokexp.spec.terms import TermSpec
from tokexp.spec.tokenizers import TokenizerSpec

UNIONS: dict[str, Any] = {
    "data": DataSpec, "tokenizers": TokenizerSpec, "codecs": CodecSpec, "models": ModelSpec, "stems": StemSpec,
    "augment": Step, "objectives": ObjectiveSpec, "terms": TermSpec, "tasks": TaskSpec, "evaluation": EvaluationSpec,
    "stages": StagePayload, "groupers": GrouperSpec, "targets": TargetSpec, "reducing": ReduceSpec,
}  # fmt: skip
SOURCE = re.compile(r"(19|20)\d\d|SeiT|MAGE|MAE\b|BEiT|ImageNet|scikit-learn|torchvision|timm|\b[Oo]wn\b|DESIGN|Lloyd")


def _members(annotation: Any) -> Iterator[type]:
    if isinstance(annotation, type):
        yield annotation
    for part in get_args(annotation):
        if isinstance(part, type) or get_args(part):
            yield from _members(part)


def _kind_of(member: type) -> str:
    combinator = next((word for word, cls in COMBINATORS.items() if cls is member), None)
    return combinator or get_args(member.model_fields["kind"].annotation)[0]  # type: ignore[attr-defined]


KINDS = [(block, _kind_of(member)) for block, union in UNIONS.items() for member in _members(union)]


def test_the_walk_over_the_unions_finds_the_known_kinds() -> None:
    known = {("objectives", "mtm"), ("augment", "halves"), ("models", "vit"), ("stages", "pretrain")}
    assert known <= set(KINDS)
    assert len(KINDS) == len(set(KINDS)) >= 30


@pytest.mark.parametrize(("block", "kind"), KINDS)
def test_the_kinds_file_bears_its_name_and_builds_it(block: str, kind: str) -> None:
    path = ROOT / PACKAGES[block].replace(".", "/") / f"{kind}.py"
    assert path.is_file()
    assert "build" in {node.name for node in functions(parse(path))}


@pytest.mark.parametrize(("block", "kind"), KINDS)
def test_the_kinds_file_names_its_source(block: str, kind: str) -> None:
    path = ROOT / PACKAGES[block].replace(".", "/") / f"{kind}.py"
    docstring = ast.get_docstring(parse(path)) or ""
    assert block == "stages" or SOURCE.search(docstring), docstring


@pytest.mark.parametrize(("block", "kind"), KINDS)
def test_the_kind_is_tested(block: str, kind: str) -> None:
    folder = ROOT / "tests" / PACKAGES[block].removeprefix("tokexp.").split(".")[0]
    named = [path for path in folder.rglob("test_*.py") if re.search(rf"\b{kind}\b", path.read_text(encoding="utf-8"))]
    assert named, f"no test below {folder.name}/ names {kind}"


@pytest.mark.parametrize(("block", "kind"), [pair for pair in KINDS if pair[0] != "stages"])
def test_the_readme_lists_the_kind(block: str, kind: str) -> None:
    assert f"`{kind}`" in (ROOT / "README.md").read_text(encoding="utf-8")
