"""Terms and stems that cannot work are refused where they are written, and their nearest neighbours are not."""

from pathlib import Path

import pytest

from tests.spec.specs import problems_of

TERM = "{kind: token_prop, grid: 4, size: 8, rows: [8]}"
VGG = "{kind: token_prop, distance: perceptual, vgg: file}"
ORTHOGONAL = "{kind: orthogonality}"
PATCHIFY, FROZEN = "{kind: patchify, patch_size: 2}", "{kind: frozen, patch_size: 2}"
MOTO = "{kind: moto, inner: {kind: patchify, patch_size: 2}FIELDS}"
COLOUR = "{kind: image_folder, root: r, image_size: 32}"


def spec(stem: str = PATCHIFY, term: str = TERM, data: str = "{kind: digits}", field: str = "task") -> str:
    model = f"model: {{kind: vit, width: 16, depth: 2, heads: 2, input: pixels, stem: {stem}}}\n"
    phases = f"tasks: {{t: {{kind: classify, terms: [{term}]}}}}\n"
    if field == "objective":
        phases = f"objective: {{kind: supervised, terms: [{term}]}}\ntasks: {{t: {{kind: probe}}}}\n"
    return f"schema: 1\ndata: {data}\n{model}{phases}"


def moto(fields: str = "") -> str:
    return MOTO.replace("FIELDS", fields)


BAD = {
    "token_prop of a frozen stem": (spec(FROZEN), "tasks.t.terms.0", "never trained"),
    "token_prop of a frozen stem beside an objective": (
        spec(FROZEN, field="objective"), "objective.terms.0", "never trained"),
    "orthogonality without regions": (spec(term=ORTHOGONAL), "tasks.t.terms.0", "stem moto is needed"),
    "orthogonality of another norm": (
        spec(moto(", norm: layer"), ORTHOGONAL), "tasks.t.terms.0", "stem moto is needed"),
    "VGG on one channel": (spec(term=VGG), "tasks.t.terms.0.distance", "3 channels"),
    "a released MoTo": (spec(moto(", preset: released")), "model.stem.preset", "no code of MoTo was released"),
    "a released TokenProp": (
        spec(term="{kind: token_prop, preset: released}"), "tasks.t.terms.0.preset", "no code of TokenProp"),
    "a block that does not exist": (spec(moto(", blocks: [3]")), "model", "there is no block 3 of 2"),
    "more regions than patches": (
        spec(moto(", placement: token, entities: 17")), "model.stem", "entities (17) must not exceed the 16 patches"),
    "one patch to normalise over": (
        spec(moto(", placement: token, entities: 1, norm: instance").replace("patch_size: 2", "patch_size: 8")),
        "model.stem", "over the places of a map, and there is one"),
    "patches that do not fill the picture": (
        spec("{kind: moto, inner: {kind: patchify, patch_size: 3}}"), "model.stem", "patch_size 3 must divide 8"),
    "an odd patch with half a stride": (spec("{kind: local, patch_size: 1}"), "model.stem", "even one"),
    "convolutions of stride 2 for patches of 6": (spec("{kind: conv, patch_size: 6}"), "model.stem", "power of 2"),
    "as many widths as halvings": (
        spec("{kind: conv, patch_size: 4, widths: [8]}"), "model.stem", "patches of 4 need 2"),
    "heads of the stem": (spec("{kind: inter, patch_size: 2, heads: 3}"), "model", "heads (3) must divide width (16)"),
}  # fmt: skip
GOOD = {
    "token_prop of a trained stem": spec(),
    "token_prop of a frozen stem behind MoTo": spec(f"{{kind: moto, inner: {FROZEN}}}"),
    "orthogonality of MoTo": spec(moto(), ORTHOGONAL),
    "VGG on colours": spec(term=VGG, data=COLOUR),
    "as many regions as patches": spec(moto(", placement: token, entities: 16")),
    "more regions than patches on pixels": spec(moto(", entities: 17")),
    "blocks that exist": spec(moto(", blocks: [1, 2]")),
    "one patch behind a normalised picture": spec(
        moto(", entities: 1, norm: instance").replace("patch_size: 2", "patch_size: 8")),
    "one patch as one region": spec(
        moto(", placement: token, entities: 1").replace("patch_size: 2", "patch_size: 8")),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_work_is_refused_with_its_reason(case: str, tmp_path: Path) -> None:
    text, path, words = BAD[case]
    found = [(problem.path, problem.message) for problem in problems_of(tmp_path, text)]
    assert any(where.startswith(path) and words in message for where, message in found), found
    assert len(found) == 1


@pytest.mark.parametrize("case", GOOD)
def test_its_neighbour_is_accepted(case: str, tmp_path: Path) -> None:
    assert problems_of(tmp_path, GOOD[case]) == []


@pytest.mark.parametrize(
    ("stem", "good"),
    [(moto(), False), ("{kind: local, patch_size: 2}", False), ("{kind: intra, patch_size: 2}", True)],
    ids=["moto", "local", "intra"],
)
def test_masked_objectives_refuse_stems_that_see_beyond_a_patch(stem: str, good: bool, tmp_path: Path) -> None:
    model = f"model: {{kind: vit, width: 16, depth: 2, heads: 2, input: pixels, stem: {stem}}}\n"
    data = "data: {kind: digits}\ntokenizer: {kind: patch_kmeans}\n"
    found = problems_of(tmp_path, f"schema: 1\n{data}{model}objective: {{kind: mim}}\n")
    assert (found == []) is good
