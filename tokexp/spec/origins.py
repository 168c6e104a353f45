"""Files that a spec names in `from: {experiment: FILE}`: seen from the file that names them, as `extends` is."""

import os
from dataclasses import replace
from pathlib import Path

from tokexp.spec.yaml_tree import Item

_DOTTED = "from.experiment"


def anchored(item: Item, folder: Path) -> Item:
    """Return a tree in which every `from.experiment` is a path from where tokexp is started."""
    value = item.value
    if isinstance(value, list):
        return replace(item, value=[anchored(child, folder) for child in value])
    if not isinstance(value, dict):
        return item
    changed = {key: anchored(child, folder) for key, child in value.items()}
    origin = changed.get("from")
    if origin is not None and isinstance(origin.value, dict) and "experiment" in origin.value:
        file = _placed(origin.value["experiment"], folder)
        changed["from"] = replace(origin, value={**origin.value, "experiment": file})
    for key in [key for key in changed if isinstance(key, str) and key.endswith(_DOTTED)]:
        changed[key] = _placed(changed[key], folder)
    return replace(item, value=changed)


def _placed(item: Item, folder: Path) -> Item:
    name = item.value
    if not isinstance(name, str) or not name or "${" in name or name.startswith("~"):
        return item
    return replace(item, value=os.path.normpath(folder / name))
