"""The figures of codes, on a small finished tokens stage of digits."""

import io
import json

import matplotlib.image
import numpy as np
import pytest
import torch

from tests.stages.running import SMALL, Bench, plan_of
from tokexp.registry import implementation
from tokexp.spec.augment import EmbNoise
from tokexp.spec.experiment import Experiment
from tokexp.stages.assembly import image_source, load_tokenizer
from tokexp.stages.codebook_pictures import (
    CodebookSource,
    codebook_figures,
    find_places,
    marked,
    use_figure,
)
from tokexp.storage.store import TokenStore

NOISE = EmbNoise(kind="emb_noise", relative=True)


@pytest.fixture(scope="module")
def source(bench: Bench) -> CodebookSource:
    spec, plan = Experiment.model_validate({**SMALL, "name": "x"}), plan_of()
    _, tokens = bench.run_to(plan, "tokens")
    _, fitted = bench.run_to(plan, "tokenizer")
    return CodebookSource(spec.data, spec.tokenizer, tokens, fitted, NOISE)


def test_a_finished_tokens_stage_gives_four_pngs_with_words(source: CodebookSource) -> None:
    figures = codebook_figures(source)
    assert [figure.png[:4] for figure in figures] == [b"\x89PNG"] * 4
    for figure, word in zip(figures, ("perplexity", "red frame", "one channel", "Emb-Noise"), strict=True):
        assert word in figure.said
        shown = matplotlib.image.imread(io.BytesIO(figure.png))
        assert min(shown.shape[:2]) > 100
        assert shown.std() > 0.05


def test_tokens_without_a_tokenizer_show_the_use_of_codes_alone(source: CodebookSource) -> None:
    without = CodebookSource(source.data, None, source.tokens, None, NOISE)
    assert [figure.said[:3] for figure in codebook_figures(without)] == ["Use"]


def test_entropy_perplexity_and_dead_codes_are_those_of_the_counts() -> None:
    said = use_figure(np.array([4, 0, 2, 2]), asked=10).said
    assert "3 of 10 codes" in said
    assert "entropy 1.50 bits" in said
    assert f"perplexity {2**1.5:.1f}" in said


def test_every_place_of_a_code_shows_that_code(source: CodebookSource) -> None:
    store = TokenStore.open(source.tokens / "train.tokens")
    indices = store.indices()
    for code, places in find_places(store, range(store.num_codes)).items():
        assert places
        assert len({image for image, _, _ in places}) == len(places)
        assert all(indices[place] == code for place in places)


def test_the_patch_shown_is_the_one_that_was_tokenised(source: CodebookSource) -> None:
    assert source.tokenizer is not None
    assert source.fitted is not None
    store = TokenStore.open(source.tokens / "train.tokens")
    tokenizer = load_tokenizer(source.tokenizer, source.data, source.fitted, torch.device("cpu"))
    kept = json.loads((source.tokens / "kept.json").read_text())["train"]
    table = np.load(source.tokens / "table.npy")
    image = image_source(source.data).read("train", [kept[7]])
    assert np.array_equal(table[tokenizer.encode(image).numpy()][0], store.image(7))


@pytest.mark.parametrize("place", [(0, 0), (1, 2), (3, 3)])
def test_the_red_frame_holds_the_patch_and_nothing_else(place: tuple[int, int]) -> None:
    image = np.zeros((1, 8, 8))
    image[0, 2 * place[0] : 2 * place[0] + 2, 2 * place[1] : 2 * place[1] + 2] = 1
    shown = marked(image, (4, 4), place)
    red = np.argwhere((np.abs(shown - (0.84, 0.15, 0.13)) < 1e-6).all(-1))
    (top, left), (bottom, right) = red.min(0), red.max(0)
    inside = shown[top + 1 : bottom, left + 1 : right]
    assert (inside == 1).all()
    outside = shown[1:-1, 1:-1].copy()
    outside[top - 1 : bottom, left - 1 : right] = 0
    assert (outside == 0).mean() > 0.98


@pytest.mark.parametrize(
    "spec",
    [
        {"kind": "patch_kmeans", "codebook_size": 8},
        {"kind": "vqvae", "width": 8, "quantizer": {"kind": "fsq", "levels": [3, 3]}},
    ],
)
def test_codes_as_vectors_decode_as_their_indices_do(spec: dict[str, object]) -> None:
    tokenizer_spec = Experiment.model_validate({**SMALL, "name": "x", "tokenizer": spec}).tokenizer
    assert tokenizer_spec is not None
    torch.manual_seed(0)
    tokenizer = implementation("tokenizers", tokenizer_spec.kind)(tokenizer_spec, (1, 8, 8))
    tokenizer.fit([torch.rand(20, 1, 8, 8)])
    indices = torch.randint(len(tokenizer.codebook()), (3, *tokenizer.info.grid))
    values = tokenizer.codebook()[indices].permute(0, 3, 1, 2)
    assert torch.allclose(tokenizer.decode_values(values), tokenizer.decode(indices), atol=1e-6)
    other = tokenizer.decode_values(values + 0.1)
    assert not torch.allclose(other, tokenizer.decode(indices))


def test_figures_are_the_same_every_time(source: CodebookSource) -> None:
    one, two = codebook_figures(source), codebook_figures(source)
    assert [figure.png for figure in one] == [figure.png for figure in two]
