"""Tests of patches that cannot work are refused where they are written, and their nearest neighbours are not."""

from pathlib import Path

import pytest

from tests.spec.specs import problems_of

TOWER = "encoder: {kind: timm, random: true, patch_size: 2}"
PIXELS = "input: pixels, stem: {kind: patchify, patch_size: 2}"
ONE_PATCH = "input: pixels, stem: {kind: patchify, patch_size: 8}"


def spec(fields: str = "", model: str = PIXELS) -> str:
    return (
        "schema: 1\ndata: {kind: digits}\ntokenizer: {kind: patch_kmeans, patch_size: 2}\n"
        f"model: {{kind: vit, width: 16, depth: 2, heads: 2, {model}}}\ntasks: {{t: {{kind: classify}}}}\n"
        f"evaluate: {{x: {{kind: spatial_inconsistency{fields and ', '}{fields}}}}}\n"
    )


TOKENS = "stem: {kind: patchify, patch_size: 1}"
BAD = {
    "texts without a tower": (spec("text: file"), "", "name that in encoder"),
    "texts before the projection": (
        spec("text: file, encoder: {kind: timm, random: true, project: false}"), "", "write project: true"),
    "a tower for a model of tokens": (spec(TOWER, TOKENS), ".encoder", "read pixels, and this model stored tokens"),
    "a tower without weights": (spec("encoder: {kind: timm}"), ".encoder", "give weights (a file), or random: true"),
    "an average as the encoder": (spec("encoder: {kind: momentum, random: true}"), ".encoder.kind", "timm is needed"),
    "no morphing": (spec("grouper: {kind: ungrouped}"), ".grouper.kind", "tested without morphing anyway"),
    "one patch": (spec(model=ONE_PATCH), ".kind", "there is one"),
    "tokens of one patch": (
        spec(model=ONE_PATCH).replace("spatial_inconsistency", "token_similarity"), ".kind", "there is one"),
    "squares that do not tile": (
        spec("grouper: {kind: downsample, factor: 3}"), ".grouper.factor", "do not tile 4 x 4"),
    "a share that removes nothing": (spec("removed: [0.5, 0.01]"), ".removed.1", "that removes none of 16 patches"),
    "a share that removes all": (spec("grouper: {kind: kmeans}, removed: [1.0]"), ".removed.0", "removes all of 16"),
    "more than half in one step": (
        spec("removed: [0.6], iterations: 1"), ".removed.0", "1 step(s) cannot remove 9 of 16"),
    "a protected patch": (
        spec("grouper: {kind: bipartite, protect_first: true}, iterations: 1"), ".removed.0", "cannot remove 8 of 16"),
    "a tower's patches": (spec(f"{TOWER}, removed: [0.99], iterations: 2"), ".removed.0", "cannot remove 15 of 16"),
    "no share": (spec("removed: []"), ".removed", "not empty"),
}  # fmt: skip
GOOD = {
    "tokens of several patches": spec().replace("spatial_inconsistency", "token_similarity"),
    "the model's own patches": spec(),
    "stored tokens": spec(model=TOKENS),
    "a tower": spec(TOWER),
    "texts": spec(f"{TOWER}, text: file"),
    "half in one step": spec("removed: [0.5], iterations: 1"),
    "k-means takes any share": spec("grouper: {kind: kmeans}, removed: [0.9], iterations: 1"),
    "squares that tile": spec("grouper: {kind: downsample}"),
    "inside the encoder": spec("grouper: {kind: layerwise_kmeans}"),
    "a tower of unknown patches": spec("encoder: {kind: timm, random: true}, removed: [0.99], iterations: 1"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_work_is_refused_with_its_reason(case: str, tmp_path: Path) -> None:
    text, path, words = BAD[case]
    found = [(problem.path, problem.line, problem.message) for problem in problems_of(tmp_path, text)]
    assert [(where.startswith(f"evaluate.x{path}"), line) for where, line, _ in found] == [(True, 6)], found
    assert words in found[0][2]


@pytest.mark.parametrize("case", GOOD)
def test_its_neighbour_is_accepted(case: str, tmp_path: Path) -> None:
    assert problems_of(tmp_path, GOOD[case]) == []
