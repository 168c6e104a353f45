"""A split of tokens that others wrote, as a table: what its files hold, completed by a manifest and the caller."""

from collections.abc import Callable, Iterator

import numpy as np

from tokexp.storage.interchange.manifest import Manifest
from tokexp.storage.interchange.reading import Given, classes_of, metric_of
from tokexp.storage.interchange.table import Block, TokenTable


def foreign_table(
    found: tuple[tuple[int, int], np.ndarray, np.ndarray], blocks: Callable[[], Iterator[Block]], given: Given,
    manifest: Manifest | None, what: str, metric: str = "euclidean",
) -> TokenTable:  # fmt: skip
    """Return the table of what was found: a grid, labels (N,) and codes (K, d). `what` names the source in messages.

    `metric` holds where neither the caller nor the manifest says one. Codes that the caller gives are no computed ones.
    Raises DataError for labels that are no class numbers.
    """
    grid, labels, codes = found
    classes = classes_of(labels, manifest, what)
    if manifest is None:
        return TokenTable(grid, len(labels), codes, classes, blocks, metric_of(None, given, metric))
    return TokenTable(
        grid, len(labels), codes, classes, blocks, metric_of(manifest.metric, given, metric),
        manifest.implicit and given.codes is None, dict(manifest.facts),
    )  # fmt: skip
