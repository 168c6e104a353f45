from collections.abc import Sequence

import numpy as np
import pytest
import torch

from tokexp.data.base import Batch, ImageSource, join
from tokexp.engine import batches
from tokexp.engine.batches import PartFeed, PixelFeed, TokenFeed

CPU = torch.device("cpu")


class Images(ImageSource):
    """Ten grey 2 x 2 images whose value is their position over ten."""

    @property
    def classes(self) -> tuple[str, ...]:
        return ("even", "odd")

    def labels(self, split: str) -> np.ndarray:
        return np.arange(10, dtype=np.int64) % 2

    def sample_ids(self, split: str) -> list[str]:
        return [str(position) for position in range(10)]

    def read(self, split: str, positions: Sequence[int]) -> torch.Tensor:
        return torch.tensor(positions, dtype=torch.float32).view(-1, 1, 1, 1).expand(-1, 1, 2, 2) / 10


@pytest.mark.parametrize("far", [1, 1 << 25])
@pytest.mark.parametrize("largest", [5, 32767, 32768, 65535])
def test_tokens_come_back_as_they_were_stored(largest: int, far: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "FAR_BYTES", far)
    stored = np.random.default_rng(0).integers(0, largest + 1, (20, 3, 4)).astype(np.uint16)
    stored[0, 0, 0] = largest
    feed = TokenFeed(stored, np.arange(20), 20, CPU)
    batch = feed.batch(torch.tensor([7, 0, 7]))
    assert batch.indices is not None
    assert batch.indices.dtype == torch.int64
    assert np.array_equal(batch.indices.numpy(), stored[[7, 0, 7]])
    assert batch.labels.tolist() == [7, 0, 7]


@pytest.mark.parametrize("far", [1, 1 << 25])
def test_a_position_past_the_last_sample_is_an_error(far: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "FAR_BYTES", far)
    feed = TokenFeed(np.zeros((4, 2, 2), np.uint16), np.arange(4), 4, CPU)
    with pytest.raises(IndexError):
        feed.batch(torch.tensor([0, 4]))


@pytest.mark.parametrize("resident", [0, 10**9])
def test_pixels_are_the_same_resident_or_read(resident: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "RESIDENT_BYTES", resident)
    batch = PixelFeed(Images(), "train", CPU, [9, 3, 5]).batch(torch.tensor([2, 0]))
    assert batch.values is not None
    assert batch.values[:, 0, 0, 0].tolist() == pytest.approx([0.5, 0.9])
    assert batch.labels.tolist() == [1, 1]


def test_joined_parts_keep_order_and_turn_soft_where_one_is() -> None:
    hard = Batch(torch.tensor([0, 1]), 2, values=torch.zeros(2, 1, 1, 1))
    soft = Batch(torch.tensor([1]), 2, values=torch.ones(1, 1, 1, 1), targets=torch.tensor([[0.5, 0.5]]))
    both = join([hard, soft])
    assert both.soft_targets().tolist() == [[1, 0], [0, 1], [0.5, 0.5]]
    assert join([hard, hard]).targets is None


def test_a_part_of_a_feed_numbers_its_samples_anew() -> None:
    whole = PixelFeed(Images(), "train", CPU)
    part = PartFeed(whole, torch.tensor([9, 2, 4]))
    batch = part.batch(torch.tensor([2, 0]))
    assert batch.values is not None
    assert batch.values[:, 0, 0, 0].tolist() == pytest.approx([0.4, 0.9])
    assert batch.labels.tolist() == [0, 1]
    assert part.labels.tolist() == [1, 0, 0]
    assert (part.num_images, part.num_classes) == (3, 2)
