"""Files that a tokenizer's training reads are part of its key by their content."""

from pathlib import Path

import pytest

from tests.data.pictures import tree
from tokexp.errors import DataError
from tokexp.plan.graph import build_plan
from tokexp.spec.experiment import Experiment


def key(root: Path, **perceptual: object) -> str:
    tokenizer = {"kind": "vqvae", "perceptual": perceptual} if perceptual else {"kind": "vqvae"}
    data = {"kind": "image_folder", "root": str(root), "image_size": 16}
    spec = {"schema": 1, "data": data, "tokenizer": tokenizer, "until": "tokens"}
    return build_plan(Experiment.model_validate(spec)).nodes[0].key


def test_the_content_of_weights_to_compare_pictures_by_decides_and_not_their_place(tmp_path: Path) -> None:
    root = tree(tmp_path / "set", {"ant": 5, "bee": 5})
    for name, content in (("a", b"x"), ("b", b"x"), ("c", b"y")):
        (tmp_path / name).write_bytes(content)
    a, b, c = (str(tmp_path / name) for name in "abc")
    assert key(root, vgg=a) == key(root, vgg=b)
    assert (
        len({key(root), key(root, vgg=a), key(root, vgg=c), key(root, vgg=a, linear=c), key(root, vgg=a, weight=2.0)})
        == 5
    )
    with pytest.raises(DataError, match="nowhere"):
        key(root, vgg=str(tmp_path / "nowhere"))


def test_a_file_that_is_written_again_at_once_is_another_tokenizer(tmp_path: Path) -> None:
    root, file, keys = tree(tmp_path / "set", {"ant": 5, "bee": 5}), tmp_path / "a", []
    for content in (b"x", b"y", b"x"):
        file.write_bytes(content)
        keys.append(key(root, vgg=str(file)))
    assert keys[0] == keys[2] != keys[1]
