"""The measures token_similarity and reconstruction, against their definitions."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, interpolate

from tests.objectives.terms.classifiers import CLASSES, classifier
from tokexp.data.base import Batch
from tokexp.errors import InputError
from tokexp.evaluation.reconstruction import Decoding
from tokexp.evaluation.reconstruction import build as build_reconstruction
from tokexp.evaluation.token_similarity import build as build_similarity
from tokexp.evaluation.token_similarity import similarity
from tokexp.models.base import Backbone
from tokexp.objectives.base import Objective
from tokexp.spec.evaluation import Reconstruction, TokenSimilarity
from tokexp.spec.train import TrainSpec

DECODER = {"kind": "token_prop", "grid": 4, "size": 8, "rows": (16, 8)}


@dataclass
class Standing:
    """A model and 7 pictures of it, in batches of 4 and 3."""

    backbone: Backbone
    token_input: nn.Module
    steps: int = 40

    def pictures(self) -> Tensor:
        return torch.rand(7, 3, 16, 16, generator=torch.Generator().manual_seed(2))

    def batches(self, split: str) -> Iterator[Batch]:
        assert split == "test"
        for part in self.pictures().split(4):
            yield Batch(torch.zeros(len(part), dtype=torch.int64), CLASSES, values=part)

    def fit(self, objective: Objective, train: TrainSpec, seed: int) -> dict[str, float]:
        optimizer = torch.optim.Adam(objective.parameters(), 3e-3)
        for _ in range(self.steps):
            for batch in self.batches("test"):
                optimizer.zero_grad()
                objective(batch, torch.Generator()).loss.backward()
                optimizer.step()
        return {}


def standing(steps: int = 40, **fields: Any) -> Standing:
    held = classifier(**fields).eval()
    return Standing(held.backbone, held.token_input, steps)


def reconstruction(**fields: Any) -> Reconstruction:
    return Reconstruction.model_validate({"kind": "reconstruction", "decoder": DECODER, **fields})


def test_equal_patches_are_alike_and_orthogonal_ones_are_not() -> None:
    one = torch.randn(2, 1, 6)
    torch.testing.assert_close(similarity(one.expand(2, 5, 6)), torch.ones(2).double())
    torch.testing.assert_close(similarity(3.0 * torch.eye(6)[None]), torch.zeros(1).double(), atol=1e-6, rtol=0)
    torch.testing.assert_close(similarity(torch.cat([one, -one], 1)), -torch.ones(2).double())


def test_similarity_is_the_mean_over_all_pairs_without_those_of_a_patch_and_itself() -> None:
    patches = torch.randn(2, 7, 5)
    pairs = cosine_similarity(patches[:, :, None], patches[:, None], dim=-1)
    expected = torch.stack([pair[~torch.eye(7, dtype=torch.bool)].mean() for pair in pairs])
    torch.testing.assert_close(similarity(patches).float(), expected)


def test_token_similarity_averages_images_over_what_the_stem_gives() -> None:
    model = standing()
    found = build_similarity(TokenSimilarity(kind="token_similarity"), (3, 16, 16)).measure(model)
    patches = model.backbone.embed(model.token_input(model.pictures()))
    assert found == {"token_similarity": pytest.approx(float(similarity(patches).mean()), rel=1e-5)}


def test_one_patch_has_nothing_to_be_compared_with() -> None:
    measure = build_similarity(TokenSimilarity(kind="token_similarity"), (3, 16, 16))
    with pytest.raises(InputError, match="has one"):
        measure.measure(standing(stem={"kind": "patchify", "patch_size": 16}))


def test_the_decoder_is_trained_and_the_model_is_not() -> None:
    model = standing()
    before = {name: value.clone() for name, value in model.backbone.state_dict().items()}
    short, long = (build_reconstruction(reconstruction(), (3, 16, 16)).measure(standing(steps)) for steps in (1, 40))
    assert long["reconstruction_error"] < 0.8 * short["reconstruction_error"]
    build_reconstruction(reconstruction(), (3, 16, 16)).measure(model)
    assert all(torch.equal(value, before[name]) for name, value in model.backbone.state_dict().items())


def test_the_error_is_the_mean_square_over_all_images_whatever_the_batches() -> None:
    model = standing()
    torch.manual_seed(0)
    decoding = Decoding(reconstruction(decoder={**DECODER, "distance": "l1", "reduction": "sum"}), model)
    read = model.token_input(model.pictures())
    small = interpolate(read, (8, 8), mode="bilinear", antialias=True)
    expected = (decoding.term.decoder(model.backbone.stem(read)) - small).square().mean()
    found = build_reconstruction(reconstruction(seed=0), (3, 16, 16)).measure(standing(0))
    assert found["reconstruction_error"] == pytest.approx(float(expected), rel=1e-5)


def test_only_the_decoder_is_what_is_trained() -> None:
    decoding = Decoding(reconstruction(), standing())
    assert {name.split(".")[0] for name, _ in decoding.named_parameters()} == {"term"}
    assert decoding.term.spec.distance == "l2"


def test_the_papers_training_stays_where_a_part_of_it_is_written() -> None:
    spec = Reconstruction.model_validate({"kind": "reconstruction", "train": {"epochs": 2}})
    assert (spec.train.epochs, spec.train.optimizer.name, spec.train.optimizer.betas) == (2, "adam", (0.5, 0.999))
    assert spec.train.schedule.name == "constant"
    assert spec.train.weight_decay == 0.0
