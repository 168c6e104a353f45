"""Where each value of a resolved spec comes from: a line of a file, `--set`, a preset, or the field's default."""

from collections.abc import Iterator, Mapping
from typing import Any

from tokexp.spec.augment import AugmentSpec
from tokexp.spec.base import ALTERNATIVES, Spec
from tokexp.spec.messages import item_at
from tokexp.spec.yaml_tree import Item, Path, dotted

Layer = tuple[str, Mapping[str, Any]]


def sources_of(spec: Spec, tree: Item) -> dict[str, str]:
    """Return the source of every value of a whole document by dotted path; a list of plain values is one value."""
    return {dotted(path): source for path, source in _of_spec(spec, tree, (), ())}


def _of_spec(spec: Spec, tree: Item, path: Path, layers: tuple[Layer, ...]) -> Iterator[tuple[Path, str]]:
    cls = type(spec)
    name = getattr(spec, cls.PRESET_FIELD) if cls.PRESETS else None
    if name is not None and name in cls.PRESETS:
        layers = ((f"preset {name}", cls.PRESETS[name]), *layers)
    item, _ = item_at(tree, _as_written(tree, path))
    written = item.value.keys() if isinstance(item.value, dict) else set()
    dropped = {other for group in ALTERNATIVES if group & written for other in group}
    for field, info in cls.model_fields.items():
        key = info.alias or field
        below = tuple((label, layer[key]) for label, layer in layers if key in layer and key not in dropped)
        yield from _of_value(getattr(spec, field), tree, (*path, key), below)


def _of_value(value: Any, tree: Item, path: Path, layers: tuple[tuple[str, Any], ...]) -> Iterator[tuple[Path, str]]:
    if isinstance(value, Spec):
        yield from _of_spec(value, tree, path, tuple(_as_layer(value, *layer) for layer in layers))
    elif isinstance(value, Mapping) and value:
        for key, child in value.items():
            yield from _of_value(child, tree, (*path, str(key)), ())
    elif isinstance(value, (tuple, list)) and any(isinstance(child, (Spec, tuple, list, Mapping)) for child in value):
        for index, child in enumerate(value):
            yield from _of_value(child, tree, (*path, index), ())
    else:
        yield path, _source(tree, path, layers)


def _as_layer(spec: Spec, label: str, given: Any) -> Layer:
    """Return a preset's value for a whole block; text such as `5 epochs` stands for all of its fields."""
    return label, given if isinstance(given, Mapping) else dict.fromkeys(type(spec).model_fields, given)


def _source(tree: Item, path: Path, layers: tuple[tuple[str, Any], ...]) -> str:
    item, exact = item_at(tree, _as_written(tree, path))
    shorthand = item is not tree and not isinstance(item.value, (dict, list))
    if exact or shorthand:
        place = item.place
        return place.file if place.line is None else f"{place.file}:{place.line}"
    return layers[0][0] if layers else "default"


def _as_written(tree: Item, path: Path) -> Path:
    augment = tree.value.get("augment")
    one_policy = augment is not None and isinstance(augment.value, list)
    if one_policy and len(path) > 1 and path[0] == "augment" and path[1] in AugmentSpec.model_fields:
        return (path[0], *path[2:]) if path[1] != "adapt" else path
    return path
