"""A resolved spec as YAML text that reads back to the same spec."""

from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from tokexp.spec.base import Spec
from tokexp.spec.yaml_tree import Path, dotted


def resolved(spec: Spec) -> dict[str, Any]:
    """Return all values of a document, defaults included, ready for JSON, under the names that YAML uses."""
    return spec.model_dump(mode="json", by_alias=True)


def to_yaml(spec: Spec, sources: Mapping[str, str] | None = None) -> str:
    """Return the resolved spec as YAML, each value with its source as a comment if `sources` are given."""
    rows = list(_rows(resolved(spec), (), 0))
    width = min(max((len(text) for text, _ in rows), default=0), 60)
    lines = []
    for text, path in rows:
        source = (sources or {}).get(dotted(path))
        lines.append(f"{text:<{width}}  # {source}" if source else text)
    return "\n".join(lines) + "\n"


def _rows(value: Mapping[str, Any], path: Path, depth: int) -> Iterator[tuple[str, Path]]:
    for key, child in value.items():
        yield from _field(f"{'  ' * depth}{_scalar(key)}:", child, (*path, key), depth)


def _field(start: str, value: Any, path: Path, depth: int) -> Iterator[tuple[str, Path]]:
    if isinstance(value, dict) and value:
        yield start, ()
        yield from _rows(value, path, depth + 1)
    elif isinstance(value, list) and any(isinstance(child, (dict, list)) for child in value):
        yield start, ()
        for index, child in enumerate(value):
            yield from _member(child, (*path, index), depth + 1)
    else:
        yield f"{start} {_scalar(value)}", path


def _member(value: Any, path: Path, depth: int) -> Iterator[tuple[str, Path]]:
    """Yield a member of a list: its first line starts with a dash, the others are indented under it."""
    if isinstance(value, dict) and value:
        inner = list(_rows(value, path, depth + 1))
    elif isinstance(value, list) and value:
        inner = [row for index, child in enumerate(value) for row in _member(child, (*path, index), depth + 1)]
    else:
        inner = [(f"{'  ' * (depth + 1)}{_scalar(value)}", path)]
    first, where = inner[0]
    indent = "  " * depth
    yield f"{indent}- {first[len(indent) + 2 :]}", where
    yield from inner[1:]


def _scalar(value: Any) -> str:
    text = value.replace("${", "$${") if isinstance(value, str) else value
    dumped = yaml.safe_dump(text, default_flow_style=True, width=10**6, allow_unicode=True)
    return dumped.strip().removesuffix("...").strip()
