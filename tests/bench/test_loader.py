"""The readers that the loader bench compares give the same tokens."""

import numpy as np
import torch

from tokexp.bench.loader import CODES, GRID, escaped, one_hot_read, plain_read


def image() -> np.ndarray:
    return np.random.default_rng(1).integers(0, CODES, (GRID, GRID)).astype(np.uint16)


def test_the_plain_reader_undoes_the_escapes() -> None:
    tokens = image()
    tokens[0, :6] = (0, 254, 255, 256, 390, 255)
    assert escaped(tokens)[:9] == bytes((0, 254, 255, 0, 255, 1, 255, 135, 255))
    assert np.array_equal(plain_read(escaped(tokens)).numpy(), tokens)


def test_the_one_hot_reader_commutes_with_the_codebook() -> None:
    tokens, codes = image(), torch.randn(CODES, 4)
    late = torch.einsum("khw,kd->dhw", one_hot_read(escaped(tokens)), codes)
    looked_up = codes[torch.from_numpy(tokens.astype(np.int64))].permute(2, 0, 1)[None]
    early = torch.nn.functional.interpolate(
        looked_up[:, :, 2:27, 3:29], size=(28, 28), mode="bicubic", align_corners=False
    )
    torch.testing.assert_close(late, early[0], atol=1e-4, rtol=1e-4)
