"""What patches are taken for, as a figure: images beside maps of their patches' classes, without and with morphing.

As figures 2 and 6 of Kim et al. 2024 (DTM): green where a patch is given the image's class; else red, the darker the
more classes were preferred to it. Small grids bear the classes' numbers.
"""

import io
from pathlib import Path
from typing import Any

import numpy as np

from tokexp.augment.crops import centre_crop
from tokexp.spec.data import DataSpec, GivenTokens
from tokexp.stages.assembly import image_source

FILE = "patches.npz"
"""What the test leaves beside its result."""

_RIGHT = (0.13, 0.50, 0.27)
_PALE, _DARK = np.array([0.99, 0.86, 0.81]), np.array([0.55, 0.05, 0.08])
_MOST_NAMED = 64
"""Patches of an image that can bear a number each."""


def patch_figure(data: DataSpec, split: str, folder: Path, covered: float = 1.0) -> bytes:
    """Return a PNG: one row per image, and in it the image and a map for every setting.

    folder: the test's output. covered: the share of an image's side that the model reads, in its middle.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    with np.load(folder / FILE, allow_pickle=False) as found:
        maps = dict(found)
    images, classes = _images(data, split, maps["positions"].tolist(), covered), _classes(data)
    columns = len(maps["settings"]) + (images is not None)
    rows = len(maps["positions"])
    figure, axes = plt.subplots(rows, columns, figsize=(1.9 * columns, 1.9 * rows + 0.3), squeeze=False, dpi=110)
    for row, (label, drawn) in enumerate(zip(maps["labels"].tolist(), axes, strict=True)):
        drawn[0].set_ylabel(_short(classes[label] if label < len(classes) else str(label)), fontsize=8)
        if images is not None:
            drawn[0].imshow(images[row], cmap="gray", vmin=0, vmax=1)
        for setting, axis in enumerate(drawn[columns - len(maps["settings"]) :]):
            _draw_map(axis, maps["predicted"][setting, row], maps["ranks"][setting, row], max(2, len(classes)))
        for axis in drawn:
            axis.set_xticks([])
            axis.set_yticks([])
    for axis, title in zip(axes[0], [*(["image"] if images is not None else []), *maps["settings"]], strict=True):
        axis.set_title(str(title), fontsize=8)
    figure.tight_layout(pad=0.4)
    target = io.BytesIO()
    figure.savefig(target, format="png")
    plt.close(figure)
    return target.getvalue()


def colours(ranks: np.ndarray, classes: int) -> np.ndarray:
    """Return RGB (rows, columns, 3) for how many classes were preferred to the true one."""
    share = (np.maximum(ranks - 1, 0) / max(1, classes - 2))[..., None] ** 0.5
    wrong = _PALE + share * (_DARK - _PALE)
    return np.where((ranks == 0)[..., None], np.array(_RIGHT), wrong)


def _draw_map(axis: Any, predicted: np.ndarray, ranks: np.ndarray, classes: int) -> None:
    """Draw one image's patches, and in the corner how many are right."""
    rgb = colours(ranks, classes)
    axis.imshow(rgb)
    if predicted.size <= _MOST_NAMED:
        for (down, right), number in np.ndenumerate(predicted):
            ink = "white" if rgb[down, right] @ np.array([0.3, 0.6, 0.1]) < 0.5 else "black"
            axis.text(right, down, str(number), ha="center", va="center", fontsize=7, color=ink)
    axis.set_xlabel(f"{int((ranks == 0).sum())} of {ranks.size}", fontsize=8, labelpad=2)


def _images(data: DataSpec, split: str, positions: list[int], covered: float) -> np.ndarray | None:
    """Return (n, H, W) or (n, H, W, 3) in [0, 1] of what the model sees; None for tokens that came without images."""
    if isinstance(data, GivenTokens):
        return None
    images = image_source(data).read(split, positions)
    side = max(1, round(covered * images.shape[2])), max(1, round(covered * images.shape[3]))
    shown = centre_crop(images, side).permute(0, 2, 3, 1).clamp(0, 1).numpy()
    return shown[..., 0] if shown.shape[-1] == 1 else shown


def _classes(data: DataSpec) -> tuple[str, ...]:
    return image_source(data).classes


def _short(name: str) -> str:
    return name if len(name) <= 18 else name[:17] + "..."
