from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.storage.interchange.conftest import everything
from tokexp.errors import InputError
from tokexp.storage.interchange.choosing import Choice, chosen, slice_store
from tokexp.storage.store import TokenStore

Maker = Callable[..., TokenStore]


@given(
    labels=st.lists(st.integers(0, 3), max_size=20), start=st.integers(0, 5), length=st.integers(0, 20),
    classes=st.none() | st.frozensets(st.integers(0, 3)), per_class=st.none() | st.integers(1, 4),
)  # fmt: skip
def test_what_is_chosen_is_what_a_loop_finds(
    labels: list[int], start: int, length: int, classes: frozenset[int] | None, per_class: int | None
) -> None:
    if start >= len(labels) > 0:
        return
    stop = min(start + length, len(labels))
    if not labels:
        start = stop = 0
    expected, seen = [], dict[int, int]()
    for place in range(start, stop):
        label = labels[place]
        if classes is not None and label not in classes:
            continue
        seen[label] = seen.get(label, 0) + 1
        if per_class is None or seen[label] <= per_class:
            expected.append(place)
    choice = Choice(start, stop, classes, per_class)
    assert chosen(np.array(labels, np.int64), choice).tolist() == expected


def test_a_slice_holds_the_chosen_images_and_all_codes(store_at: Maker) -> None:
    store = store_at(images=11)
    table = slice_store(store, Choice(start=2, stop=10, classes=frozenset({0, 2}), per_class=2))
    positions = chosen(store.labels, Choice(2, 10, frozenset({0, 2}), 2))
    indices, labels = everything(table)
    assert np.array_equal(indices, store.indices()[positions])
    assert np.array_equal(labels, store.labels[positions])
    assert np.array_equal(table.codes, store.codes)
    assert (table.images, table.num_classes, table.metric) == (len(positions), 5, "cosine")


def test_blocks_without_a_chosen_image_are_not_read(store_at: Maker) -> None:
    store = store_at(images=11)
    data = bytearray(store.path.read_bytes())
    data[-1] ^= 1  # the last block, images 8 to 10
    store.path.write_bytes(data)
    assert everything(slice_store(TokenStore.open(store.path), Choice(stop=8)))[0].shape[0] == 8


def test_a_part_that_is_not_there_is_refused(store_at: Maker) -> None:
    store = store_at(images=11)
    for choice in (Choice(start=11), Choice(start=5, stop=4)):
        with pytest.raises(InputError, match="no range"):
            slice_store(store, choice)
    with pytest.raises(InputError, match="no class 5"):
        slice_store(store, Choice(classes=frozenset({5})))


def test_an_empty_store_has_an_empty_slice(store_at: Maker) -> None:
    assert slice_store(store_at(images=0), Choice(per_class=3)).images == 0
