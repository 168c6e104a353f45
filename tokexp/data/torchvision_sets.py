"""What is known of torchvision's classification sets without importing torchvision.

Sizes are those published with the sets: Krizhevsky 2009, LeCun et al. 1998, Xiao et al. 2017, Netzer et al. 2011,
Coates et al. 2011, Helber et al. 2019, Nilsback and Zisserman 2008, Bossard et al. 2014, Maji et al. 2013, Parkhi et
al. 2012, Cimpoi et al. 2014, Stallkamp et al. 2012.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokexp.spec.data import TorchvisionData

TEST_FRACTION = 0.2
"""Share held out of EuroSAT, the one set that has no test split."""

Arguments = Mapping[str, Any]


@dataclass(frozen=True)
class KnownSet:
    """A set: arguments of its parts, files by which it is recognised below the root, published images per class.

    `test_parts` and `test_images` are None where the test split is cut from the training images. Classes are taken as
    equally large where only the total matters.
    """

    train_parts: tuple[Arguments, ...]
    test_parts: tuple[Arguments, ...] | None
    files: tuple[str, ...]
    train_images: tuple[int, ...]
    test_images: tuple[int, ...] | None


def _even(images: int, classes: int) -> tuple[int, ...]:
    whole, rest = divmod(images, classes)
    return tuple(whole + (place < rest) for place in range(classes))


def _known(
    parts: tuple[tuple[Arguments, ...], tuple[Arguments, ...] | None], files: tuple[str, ...], classes: int,
    images: tuple[int, int],
) -> KnownSet:  # fmt: skip
    test_images = None if parts[1] is None else _even(images[1], classes)
    return KnownSet(parts[0], parts[1], files, _even(images[0], classes), test_images)


_FLAG = (({"train": True},), ({"train": False},))
_SPLIT = (({"split": "train"},), ({"split": "test"},))
_TRAINVAL = (({"split": "trainval"},), ({"split": "test"},))
_THREE = (({"split": "train"}, {"split": "val"}), ({"split": "test"},))
_WHOLE: tuple[tuple[Arguments, ...], None] = (({},), None)

SETS: Mapping[str, KnownSet] = {
    "CIFAR10": _known(_FLAG, ("cifar-10-batches-py",), 10, (50_000, 10_000)),
    "CIFAR100": _known(_FLAG, ("cifar-100-python",), 100, (50_000, 10_000)),
    "MNIST": _known(_FLAG, ("MNIST/raw",), 10, (60_000, 10_000)),
    "FashionMNIST": _known(_FLAG, ("FashionMNIST/raw",), 10, (60_000, 10_000)),
    "KMNIST": _known(_FLAG, ("KMNIST/raw",), 10, (60_000, 10_000)),
    "SVHN": _known(_SPLIT, ("train_32x32.mat", "test_32x32.mat"), 10, (73_257, 26_032)),
    "STL10": _known(_SPLIT, ("stl10_binary",), 10, (5_000, 8_000)),
    "EuroSAT": _known(_WHOLE, ("eurosat/2750",), 10, (27_000, 0)),
    "Flowers102": _known(_THREE, ("flowers-102",), 102, (2_040, 6_149)),
    "Food101": _known(_SPLIT, ("food-101",), 101, (75_750, 25_250)),
    "FGVCAircraft": _known(_TRAINVAL, ("fgvc-aircraft-2013b",), 100, (6_667, 3_333)),
    "OxfordIIITPet": _known(_TRAINVAL, ("oxford-iiit-pet",), 37, (3_680, 3_669)),
    "DTD": _known(_THREE, ("dtd",), 47, (3_760, 1_880)),
    "GTSRB": _known(_SPLIT, ("gtsrb",), 43, (26_640, 12_630)),
}
"""Every set by the name of its class in torchvision.datasets. Where a set has a validation part, it is trained on."""


def found_in(root: Path, name: str) -> bool:
    """Return whether the files by which a set is recognised lie below `root`."""
    return all((root / file).exists() for file in SETS[name].files)


def missing_message(spec: TorchvisionData) -> str:
    """Return what to do about a set that is not there."""
    root = Path(spec.root).expanduser()
    files = " and ".join(repr(str(root / file)) for file in SETS[spec.name].files)
    return (
        f"data.root: the set {spec.name} is not in {str(root)!r} (expected {files}); set data.download: true on a "
        "machine with network access, or copy the set there"
    )
