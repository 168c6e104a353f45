"""A space is tried at every choice and bound, each with what it depends on."""

from pathlib import Path

from tests.spec.sweeps import sweep
from tokexp.spec.laying import Written
from tokexp.spec.probing import probes


def _tried(folder: Path, text: str) -> list[dict[str, object]]:
    read = sweep(folder, text + "budget: {trials: 4}\n")
    written = Written(read.sweep, read.tree, read.asked)
    return [{laid.path: laid.plain for laid in probe} for probe in probes(written)]


def test_every_choice_and_both_bounds_are_tried_once(tmp_path: Path) -> None:
    text = (
        "space:\n  tokenizer.codebook_size: {choice: [8, 16, 32]}\n  tokenizer.seed: {int: [1, 9]}\n"
        "  storage.fraction: {float: [0.5, 1]}\n"
    )
    assert _tried(tmp_path, text) == [
        *({"tokenizer.codebook_size": size} for size in (8, 16, 32)), *({"tokenizer.seed": seed} for seed in (1, 9)),
        *({"storage.fraction": share} for share in (0.5, 1.0)),
    ]  # fmt: skip


def test_what_a_dimension_depends_on_is_laid_before_it(tmp_path: Path) -> None:
    text = (
        "cases: {a: {}, b: {model.depth: 2}}\n"
        "space:\n"
        "  tokenizer.seed: {choice: [1, 2], when: {tokenizer.codebook_size: {above: 8}}}\n"
        "  tokenizer.codebook_size: {choice: [8, 16], when: {storage.codec.kind: seit}}\n"
        "  storage.codec.kind: {choice: [packed, seit]}\n"
        "  model.mlp_ratio: {choice: [2], when: {case: b}}\n"
    )
    tried = _tried(tmp_path, text)
    assert tried[0] == {"storage.codec.kind": "seit", "tokenizer.codebook_size": 16, "tokenizer.seed": 1}
    assert list(tried[0]) == ["storage.codec.kind", "tokenizer.codebook_size", "tokenizer.seed"]
    assert tried[-1] == {"model.depth": 2, "model.mlp_ratio": 2}
