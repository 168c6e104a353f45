"""Makes torchvision, and with it timm, importable beside a CPU-only torch.

PyPI's torchvision wheel is built for CUDA. Beside a CPU-only torch its native library does not load, and the import
ends in "operator torchvision::nms does not exist" (pytorch/vision issues 9077 and 9085). Declaring the schemas of the
two operators that it looks up is enough for data sets, transforms and models; the operators themselves stay missing.
"""

import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import torch

_SCHEMAS = {
    "nms": "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}

# The declarations vanish with the object that made them.
_declared: list[torch.library.Library] = []


@cache
def ensure_torchvision() -> bool:
    """Declare the missing operators if torchvision's native library cannot load; call before importing it or timm.

    Returns whether torchvision's own operators work. Does nothing where torchvision is imported already or absent.
    """
    if "torchvision" in sys.modules:
        return not _declared
    found = find_spec("torchvision")
    if found is None or found.origin is None:
        return False
    if any(_loads(library) for library in sorted(Path(found.origin).parent.glob("_C*"))):
        return True
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name, schema in _SCHEMAS.items():
        if not hasattr(torch.ops.torchvision, name):
            library.define(schema)
    _declared.append(library)
    return False


def _loads(library: Path) -> bool:
    try:
        torch.ops.load_library(str(library))
    except (ImportError, OSError):
        return False
    return True
