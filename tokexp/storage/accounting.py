"""Where the bytes of a token store went: every byte of the file is counted once."""

from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Accounting:
    """Bytes of one token store by what they hold, and the number of images in it.

    indices: the coded tokens. index: where blocks and images begin, with their digests. header: everything that
    describes the file. codebook: the codes, or which of computable codes are in use. tables: what the codec was
    fitted to. Their sum is the file's size.
    """

    indices: int
    index: int
    labels: int
    codebook: int
    header: int
    images: int
    tables: int = 0

    @property
    def total(self) -> int:
        """Return the size of the file in bytes."""
        return self.indices + self.index + self.labels + self.codebook + self.header + self.tables

    @property
    def bytes_per_image(self) -> float:
        """Return the bytes of the file over its images; the file's size if it holds none."""
        return self.total / max(1, self.images)

    def as_dict(self) -> dict[str, float]:
        """Return all parts, `total` and `bytes_per_image`, JSON-ready; `tables` only if there are any."""
        parts = {name: value for name, value in asdict(self).items() if value or name != "tables"}
        return {**parts, "total": self.total, "bytes_per_image": self.bytes_per_image}
