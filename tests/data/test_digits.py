from hashlib import blake2b

import numpy as np
import torch
from sklearn.datasets import load_digits

from tokexp.data.digits import build
from tokexp.spec.data import DigitsData

SPEC = DigitsData(kind="digits")


def test_thirty_percent_held_out_are_540_of_1797_images() -> None:
    source = build(SPEC)
    assert {split: len(source.labels(split)) for split in source.splits} == {"train": 1257, "test": 540}


def test_the_split_is_the_recorded_one() -> None:
    # Golden: a change of this value moves every recorded result.
    ids = "\n".join(build(SPEC).sample_ids("test"))
    assert blake2b(ids.encode(), digest_size=8).hexdigest() == "ea789a1a6e723503"


def test_an_id_names_the_image_in_the_package() -> None:
    source, original = build(SPEC), load_digits()
    for position in (0, 17, 539):
        place = int(source.sample_ids("test")[position].removeprefix("digits/"))
        expected = torch.from_numpy(original.images[place] / 16).float()
        assert torch.equal(source.read("test", [position])[0, 0], expected)
        assert source.labels("test")[position] == original.target[place]


def test_test_images_do_not_depend_on_the_select_part() -> None:
    with_select = build(SPEC.model_copy(update={"select_fraction": 0.1}))
    assert with_select.sample_ids("test") == build(SPEC).sample_ids("test")
    assert set(with_select.sample_ids("select")) < set(build(SPEC).sample_ids("train"))
    assert len(with_select.labels("select")) == 126


def test_classes_are_evenly_held_out() -> None:
    counts = np.bincount(build(SPEC).labels("test"))
    assert counts.min() >= 52
    assert counts.max() <= 55
