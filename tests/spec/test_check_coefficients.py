"""Fields of `dct` and what goes with it: what cannot work is said where it is written."""

from pathlib import Path
from typing import Any

import pytest

from tests.spec.specs import problems_of
from tokexp.spec.coefficients import Dct

VIT = "{kind: vit, width: 32, depth: 2, heads: 2, stem: {kind: conv2x2}}"
COLOUR = "{kind: image_folder, root: r, image_size: 32}"
BLOCKS = "{smallest: 2}"


def spec(
    tokenizer: str = "block: 2",
    data: str = "{kind: digits}",
    model: str = VIT,
    objective: str = "",
    codec: str = "packed",
) -> str:
    learned = f"objective: {{kind: {objective}}}\n" if objective else ""
    task = "tasks: {t: {kind: classify, preset: scratch}}" if not objective else "tasks: {t: {kind: probe}}"
    return (
        f"schema: 1\nname: n\ndata: {data}\ntokenizer: {{kind: dct, {tokenizer}}}\n"
        f"storage: {{codec: {{kind: {codec}}}}}\nmodel: {model}\n{learned}{task}\n"
    )


GOOD = {
    "grey": spec(),
    "colour": spec("block: 4", COLOUR),
    "half colour": spec("block: 8, chroma: half, coefficients: 20, chroma_coefficients: 5", COLOUR),
    "brightness alone": spec("chroma: none", COLOUR),
    "few levels for SeiT's bytes": spec("block: 2, levels: 510", codec="seit"),
    **{f"under {kind}": spec(objective=kind) for kind in ("supervised", "mae", "byol, views: [{kind: emb_noise}]")},
    "under data2vec": spec(objective="data2vec, top_blocks: 2, blocks: {smallest: 1}"),
}
BAD = {
    "blocks that do not fill the image": (spec("block: 3"), "tokenizer.block", "must divide the images' side, 8"),
    "more coefficients than there are": (
        spec("block: 2, coefficients: 5"), "tokenizer.coefficients", "a block of 2 x 2 has 4"),
    "colour of grey images": (
        spec("block: 2, chroma_coefficients: 2"), "tokenizer.chroma_coefficients", "these images have none"),
    "colour that is left out": (
        spec("chroma: none, chroma_coefficients: 2", COLOUR), "tokenizer.chroma_coefficients", "chroma: none"),
    "half of an odd number": (
        spec("block: 8, chroma: half", "{kind: image_folder, root: r, image_size: 24}",
             "{kind: vit, width: 32, depth: 2, heads: 2, stem: {kind: patchify, patch_size: 1}}"),
        "tokenizer.chroma", "these are 3 x 3"),
    "levels that SeiT's bytes cannot hold": (spec(codec="seit"), "tokenizer.levels", "at most 510"),
    "an odd number of levels": (spec("block: 2, levels: 7"), "tokenizer.levels", "a multiple of 2"),
    "mtm": (
        spec(objective="mtm"), "objective.kind",
        "mtm predicts one token for every place, and there are 4 coefficients at each"),
    **{
        kind: (spec(objective=kind), "objective.kind", "coefficients at each; take other tokens")
        for kind in ("mim", f"beit, blocks: {BLOCKS}", "mapet, cut: 5", "pim, cut: 5", f"cae, blocks: {BLOCKS}")
    },
    "mim of pixels": (
        spec(objective="mim", model=VIT.replace("stem: {kind: conv2x2}", "input: pixels, stem: {kind: patchify, "
             "patch_size: 2}")), "objective.kind", "take other tokens"),
    "a table of tokens": (
        spec(model="{kind: mlp, width: 8, token_table: 8}"), "model.token_table", "coefficients are no such tokens"),
}  # fmt: skip


@pytest.mark.parametrize("text", GOOD.values(), ids=GOOD)
def test_what_can_work_is_good(text: str, tmp_path: Path) -> None:
    assert problems_of(tmp_path, text) == []


@pytest.mark.parametrize(("text", "path", "words"), BAD.values(), ids=BAD)
def test_what_cannot_work_is_said_once_where_it_is_written(text: str, path: str, words: str, tmp_path: Path) -> None:
    (problem,) = problems_of(tmp_path, text)
    assert problem.path == path
    assert words in problem.message
    assert problem.line is not None


@pytest.mark.parametrize(
    ("fields", "shape", "grid", "channels"),
    [
        ({}, (3, 64, 32), (8 * 192, 4), 192),
        ({}, (1, 64, 32), (8 * 64, 4), 64),
        ({"chroma": "none", "coefficients": 5}, (3, 64, 32), (8 * 5, 4), 5),
        ({"chroma": "half", "coefficients": 5, "chroma_coefficients": 3}, (3, 64, 32), (8 * 5 + 4 * 3, 4), 11),
        ({"block": 2, "chroma": "half"}, (1, 8, 8), (16, 4), 4),
    ],
)
def test_the_stored_grid_holds_every_coefficient_once(
    fields: dict[str, Any], shape: tuple[int, int, int], grid: tuple[int, int], channels: int
) -> None:
    found = Dct.model_validate({"kind": "dct", **fields})
    assert found.grid(shape) == grid
    assert found.channels(shape) == channels
