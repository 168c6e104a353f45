"""Encoding a data set: images per second, and the peak of memory at two sizes, which must not grow with the images.

Each figure is of the tokens stage in a process of its own. Generated images cost nothing to read, so that 1.28 million
of them show what the stage keeps; files show the listing and the decoding. Anonymous memory is measured: pages of files
that are mapped belong to the system, which takes them back when it needs them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokexp.bench.base import BenchRow, at_most
from tokexp.launch.meanwhile import meanwhile

if TYPE_CHECKING:
    import numpy as np
    import torch

    from tokexp.data.base import ImageSource
    from tokexp.spec.data import DataSpec

FEW, MANY = 80_000, 1_280_000
"""Generated images; the second is the size of ImageNet-1k."""

FEW_FILES, MANY_FILES = 5_000, 50_000
"""Files of SMALL_SIDE pixels."""

PHOTOS = 500
"""Files of PHOTO_SIDE pixels, for the speed."""

SMALL_SIDE, PHOTO_SIDE = 16, 256
READ_SIDE = {SMALL_SIDE: 8, PHOTO_SIDE: 128}
"""Side of the JPEG files in pixels, to the side that they are brought to."""

GENERATED_BOUND = 128.0
"""Bytes of memory per further image: a label and a place in the order are 8 bytes each, some of them for a moment
several times over. An image's 64 tokens would be 128 bytes more, its pixels 256, those of a photograph 150,000."""

FILES_BOUND = 1_000.0
"""The same with a file's name and size, as the listing keeps them."""

_LINKS = 50_000  # a file system may refuse more names of one file
_SAMPLE_SECONDS = 0.01


def rows() -> list[BenchRow]:
    """Measure, within about two minutes on one core."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        few, many = (_measured("generated", count, Path(folder)) for count in (FEW, MANY))
        found += _memory_rows("generated", (FEW, MANY), (few, many), GENERATED_BOUND)
        found.append(BenchRow("tokenize/generated, 8 x 8 grey", MANY / many["seconds"], "images/s", "no decoding"))
        few, many = (_measured(str(SMALL_SIDE), count, Path(folder)) for count in (FEW_FILES, MANY_FILES))
        found += _memory_rows("files", (FEW_FILES, MANY_FILES), (few, many), FILES_BOUND)
        photos = _measured(str(PHOTO_SIDE), PHOTOS, Path(folder))
        what = f"JPEG of {PHOTO_SIDE} to {READ_SIDE[PHOTO_SIDE]} pixels, decoding included"
        found.append(BenchRow("tokenize/photographs, one thread", PHOTOS / photos["seconds"], "images/s", what))
    return found


def _memory_rows(
    name: str, counts: tuple[int, int], found: tuple[dict[str, float], dict[str, float]], bound: float
) -> list[BenchRow]:
    peaks = [each["peak"] / 2**20 for each in found]
    growth = (found[1]["peak"] - found[0]["peak"]) / (counts[1] - counts[0])
    rows = [
        BenchRow(f"tokenize/{name}, peak memory of {n:,}", peak, "MiB") for n, peak in zip(counts, peaks, strict=True)
    ]
    return [*rows, at_most(f"tokenize/{name}, memory per further image", growth, "bytes", bound)]


def _measured(kind: str, count: int, folder: Path) -> dict[str, float]:
    """Return `seconds` and `peak` (bytes) of the stage over so many images, from a process of its own.

    kind: `generated`, or the side in pixels of files.
    """
    script = "import sys; from tokexp.bench.tokenize import child; child(sys.argv[1], int(sys.argv[2]), sys.argv[3])"
    own = folder / f"{kind}-{count}"
    own.mkdir()
    # glibc gives every thread an arena of its own otherwise, which never shrinks.
    environment = {**os.environ, "MALLOC_ARENA_MAX": "2", "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(
        [sys.executable, "-c", script, kind, str(count), str(own)], check=True, capture_output=True, env=environment
    )
    found: dict[str, float] = json.loads(ended.stdout)
    return found


def child(kind: str, count: int, folder: str) -> None:
    """Run the tokens stage over `count` images in this process and print what it took."""
    import torch

    torch.set_num_threads(1)
    stage, context = _stage(_data(kind, count, Path(folder)), Path(folder))
    if kind == "generated":
        stage.source = lambda *_: _generated(count)
    with _peak_of_memory() as peak:
        begin = time.perf_counter()
        stage.run(context)
        seconds = time.perf_counter() - begin
    sys.stdout.write(json.dumps({"seconds": seconds, "peak": max(peak)}))


def _data(kind: str, count: int, root: Path) -> DataSpec:
    from tokexp.spec.data import DigitsData, ImageFolderData

    if kind == "generated":
        return DigitsData(kind="digits")
    _write_files(root / "images", count, int(kind))
    fields = {"root": str(root / "images"), "image_size": READ_SIDE[int(kind)], "labels": "none", "test_fraction": 0.0}
    return ImageFolderData.model_validate({"kind": "image_folder", **fields})


def _write_files(folder: Path, count: int, side: int) -> None:
    import numpy as np
    from PIL import Image

    folder.mkdir()
    ramp = np.linspace(0, 255, side)
    first = folder
    for number in range(count):
        name = folder / f"{number:07d}.jpg"
        if number % _LINKS:
            name.hardlink_to(first)
            continue
        noise = np.random.default_rng(number).normal(0, 20, (side, side, 3))
        pixels = ramp[:, None, None] / 2 + ramp[None, :, None] / 2 + noise
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(name, quality=90)
        first = name


def _generated(count: int) -> ImageSource:
    """Return a source of digits-sized images, each made from its position when it is asked for."""
    import numpy as np
    import torch

    from tokexp.data.base import ImageSource

    class Generated(ImageSource):
        """All images are training images; each is made from its position."""

        @property
        def classes(self) -> tuple[str, ...]:
            return tuple(map(str, range(1000)))

        def labels(self, split: str) -> np.ndarray:
            return np.arange(count if split == "train" else 0) % 1000

        def sample_ids(self, split: str) -> list[str]:
            raise NotImplementedError

        def read(self, split: str, positions: Sequence[int]) -> torch.Tensor:
            values = (np.asarray(positions)[:, None] * 64 + np.arange(64)) * 2654435761 % 65536
            return torch.from_numpy((values / 65535).astype(np.float32)).view(-1, 1, 8, 8)

    return Generated()


def _stage(data: DataSpec, root: Path) -> tuple[Any, Any]:
    import torch

    from tokexp.engine.reporting import Silent
    from tokexp.registry import implementation
    from tokexp.spec.stages import StageJob, TokensStage
    from tokexp.spec.storage import StorageSpec
    from tokexp.spec.tokenizers import PatchKMeans
    from tokexp.stages.assembly import image_shape, save_weights
    from tokexp.stages.base import StageContext

    shape = image_shape(data)
    spec = PatchKMeans(kind="patch_kmeans", patch_size=1 if shape[1] == 8 else 8, iterations=3)
    tokenizer = implementation("tokenizers", spec.kind)(spec, shape)
    tokenizer.fit([torch.rand(256, *shape, generator=torch.Generator().manual_seed(0))])
    folders = {name: root / name for name in ("tokenizer", "output", "scratch")}
    for folder in folders.values():
        folder.mkdir()
    save_weights(tokenizer.state_dict(), folders["tokenizer"] / "tokenizer.safetensors")
    payload = TokensStage(kind="tokens", data=data, tokenizer=spec, storage=StorageSpec())
    job = StageJob(key="0" * 40, payload=payload, workspace=str(root))
    context = StageContext(
        job, folders["output"], folders["scratch"], {"tokenizer": folders["tokenizer"]}, torch.device("cpu"), Silent(),
        lambda: False,
    )  # fmt: skip
    return implementation("stages", "tokens")(payload), context


@contextmanager
def _peak_of_memory() -> Iterator[list[int]]:
    """Yield a list of one number that grows with this process's anonymous memory, in bytes."""
    peak = [_anonymous()]

    def look() -> bool:
        peak[0] = max(peak[0], _anonymous())
        return True

    with meanwhile(look, _SAMPLE_SECONDS, "memory"):
        yield peak


def _anonymous() -> int:
    """Return the bytes of memory that are no file's; on systems without /proc, the largest resident size so far."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))
    except (OSError, StopIteration):
        import resource

        return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
