"""A published tokenizer from its file through the stages: the plan's key, the loaded weights, the stored tokens."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.stages.running import SMALL, Bench
from tests.tokenizers.published import random_tokenizer, with_checkpoint
from tokexp.data.listing import ABSENT
from tokexp.errors import DataError, InputError, SpecError
from tokexp.plan.graph import Plan, build_plan
from tokexp.plan.located import plan_of_file
from tokexp.spec.experiment import Experiment
from tokexp.spec.reading import read_experiment
from tokexp.spec.tokenizers import VitVqgan
from tokexp.storage.store import TokenStore

TOKENIZER: dict[str, Any] = {
    "kind": "vit_vqgan", "width": 12, "depth": 1, "heads": 3, "mlp_width": 20, "patch_size": 4, "positions": 4,
    "codebook_size": 40, "code_dim": 5,
}  # fmt: skip
SHAPE = (3, 16, 16)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root, draws = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for split, count in (("train", 6), ("test", 3)):
        for name in ("a", "b"):
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                Image.fromarray(draws.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(folder / f"{number}.png")
    return root


def plan(images: Path, checkpoint: Path, strict: bool = True, **fields: Any) -> Plan:
    spec = {
        **SMALL, "data": {"kind": "image_folder", "root": str(images), "image_size": 16},
        "tokenizer": {**TOKENIZER, "checkpoint": str(checkpoint), **fields}, "storage": {},
        "augment": {}, "objective": None, "tasks": {"probe": SMALL["tasks"]["probe"]}, "evaluate": {},
    }  # fmt: skip
    return build_plan(Experiment.model_validate(spec), strict=strict)


def written(folder: Path, seed: int = 0) -> Path:
    spec = VitVqgan.model_validate({**TOKENIZER, "checkpoint": "none"})
    return Path(with_checkpoint(spec, SHAPE, folder, seed).checkpoint)


def test_stored_tokens_are_the_networks_and_only_their_codes_are_kept(images: Path, tmp_path: Path) -> None:
    found, bench = plan(images, written(tmp_path)), Bench(tmp_path)
    loaded, _ = bench.run_to(found, "tokenizer")
    stored, folder = bench.run_to(found, "tokens")
    assert loaded.metrics["psnr"] < 30
    assert loaded.facts["outside_data"] == "ImageNet-1k"
    store = TokenStore.open(folder / "train.tokens")
    network = random_tokenizer(VitVqgan.model_validate({**TOKENIZER, "checkpoint": "none"}), SHAPE)
    pixels = [np.asarray(Image.open(images / f"train/{name}/{n}.png")) for name in "ab" for n in range(6)]
    tokens = network.encode(torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2) / 255)
    assert np.array_equal(store.codes[store.indices()], network.codebook()[tokens].numpy())
    assert stored.facts["codes_used"] == len(tokens.unique()) < 40


def test_the_content_of_the_file_decides_the_key_and_its_place_does_not(images: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    first, moved, other = (written(tmp_path), written(tmp_path / "other"), written(tmp_path, seed=1))
    keys = [plan(images, file).seeds[0]["tokens"] for file in (first, moved, other)]
    assert keys[0] == keys[1] != keys[2]


def test_without_the_file_a_run_is_refused_by_field_and_a_plan_can_be_looked_at(images: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"tokenizer\.checkpoint: '.*absent\.ckpt': No such file"):
        plan(images, tmp_path / "absent.ckpt")
    with pytest.raises(DataError, match="this is a folder"):
        plan(images, tmp_path)
    found = plan(images, tmp_path / "absent.ckpt", strict=False)
    assert found.nodes[0].payload.weights == ABSENT  # type: ignore[attr-defined]


def test_a_run_of_a_file_says_where_the_missing_weights_are_named(images: Path, tmp_path: Path) -> None:
    file = tmp_path / "spec.yaml"
    file.write_text(
        f"schema: 1\nname: a\ndata: {{kind: image_folder, root: {images}, image_size: 16}}\n"
        "tokenizer:\n  kind: dalle_dvae\n  checkpoint: here.pkl\n  decoder: there.pkl\n"
        "model: {kind: vit, stem: {kind: patchify, patch_size: 1}}\ntasks: {probe: {kind: probe}}\n"
    )
    read = read_experiment(file)
    with pytest.raises(SpecError, match=r"spec\.yaml:6:15: tokenizer\.checkpoint: 'here\.pkl': No such file"):
        plan_of_file(read)


def test_a_file_that_changes_after_the_plan_is_not_used(images: Path, tmp_path: Path) -> None:
    file = written(tmp_path)
    found = plan(images, file)
    file.write_bytes(written(tmp_path, seed=1).read_bytes())
    with pytest.raises(InputError, match="is not what was planned with"):
        Bench(tmp_path).run_to(found, "tokenizer")


def test_images_that_the_network_cannot_read_are_found_at_validation(tmp_path: Path) -> None:
    file = tmp_path / "spec.yaml"
    file.write_text(
        "schema: 1\nname: a\ndata: {kind: image_folder, root: x, image_size: 224}\n"
        "tokenizer: {kind: vit_vqgan, checkpoint: none.ckpt}\n"
        "model: {kind: vit, stem: {kind: conv4x4}}\ntasks: {probe: {kind: probe}}\n"
    )
    with pytest.raises(SpecError, match=r"spec\.yaml:4:\d+: tokenizer: it reads 256 x 256 pixels, and is given 224"):
        read_experiment(file)
    file.write_text(file.read_text().replace("checkpoint: none.ckpt", "checkpoint: none.ckpt, input_size: 256"))
    assert read_experiment(file).experiment.name == "a"
