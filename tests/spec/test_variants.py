"""Making variants block by block gives what reading each of them plainly gives."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.spec.specs import GOOD, write
from tests.spec.sweeps import sweep
from tokexp.errors import SpecError
from tokexp.spec.checks import CHECKS, check
from tokexp.spec.experiment import Experiment
from tokexp.spec.laying import laid_plain
from tokexp.spec.reading import open_document
from tokexp.spec.variants import Variants
from tokexp.spec.yaml_tree import Item, Place, from_plain

REFERRING = GOOD.replace("{codec: {kind: packed}}", "{codec: {kind: packed}, seed: '${tokenizer.patch_size}'}").replace(
    "width: 96", "width: '${tokenizer.codebook_size}'"
)

VALUES: Mapping[str, list[Any]] = {
    "tokenizer.codebook_size": [8, 64, 96, 1024, 0, "x"],
    "tokenizer.patch_size": [2, 3],
    "tokenizer": [{"kind": "patch_kmeans"}, {"kind": "vqvae", "quantizer": {"kind": "ema"}}, None],
    "storage.codec.kind": ["packed", "seit", "none"],
    "storage.fraction": [0.5, 2],
    "model.width": [96, 64, 7],
    "model.input": ["tokens", "pixels"],
    "objective.train.lr": [0.1, 1, "1e-3"],
    "objective.train.steps": [5],
    "objective.preset": ["paper", "released", "mine"],
    "objective": [None, {"kind": "supervised"}],
    "tasks": [{}, {"a": {"kind": "classify"}}],
    "tasks.probe.lrs": [[0.1], []],
    "tasks.extra.kind": ["classify"],
    "augment.task": [[], [{"kind": "mixup"}], [{"kind": "mixup", "alpha": -1}]],
    "augment.task.0.per": ["sample"],
    "evaluate.noise.severity": [1, 9],
    "resources.default.cpus": [1],
    "data.test_fraction": [0.2],
    "nowhere.at.all": [1],
}

assignments = st.lists(st.sampled_from(sorted(VALUES)), max_size=4, unique=True).flatmap(
    lambda paths: st.fixed_dictionaries({path: st.sampled_from(VALUES[path]) for path in paths})
)


@pytest.fixture(scope="module")
def trees(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Item]:
    folder = tmp_path_factory.mktemp("specs")
    return {
        text: open_document(write(folder, text, f"{number}.yaml")).tree for number, text in enumerate((GOOD, REFERRING))
    }


def plainly(tree: Item, values: Mapping[str, Any]) -> Experiment | None:
    """Read one variant as if it were alone; combinations are not looked at."""
    _, found = Variants(tree, (5,)).look(laid_plain(values, "f"))
    return None if found.problems else found.spec


@pytest.mark.parametrize("text", [GOOD, REFERRING], ids=["good", "referring"])
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(many=st.lists(assignments, min_size=1, max_size=6))
def test_block_by_block_is_the_same_as_plainly(trees: dict[str, Item], text: str, many: list[dict[str, Any]]) -> None:
    variants = Variants(trees[text], (5,))
    for values in many:
        found, expected = variants.at(laid_plain(values, "f")), plainly(trees[text], values)
        assert (found is None) == (expected is None), values
        if found is not None and expected is not None:
            assert found.experiment == expected
            assert sorted(map(str, found.findings)) == sorted(map(str, check(expected)))


def test_what_is_not_touched_is_shared(trees: dict[str, Item]) -> None:
    variants = Variants(trees[GOOD])
    found = [variants.at(laid_plain({"tokenizer.codebook_size": size, "model.depth": 2}, "f")) for size in (8, 16)]
    one, other = [each.experiment for each in found if each is not None]
    assert one.objective is other.objective
    assert one.model is other.model
    assert one.tokenizer is not other.tokenizer


def test_an_identity_says_what_decides_the_results_and_no_more(trees: dict[str, Item]) -> None:
    def identity(values: dict[str, Any], seeds: tuple[int, ...] = (0,), tree: str = GOOD) -> str:
        found = Variants(trees[tree], seeds).at(laid_plain(values, "f"))
        assert found is not None
        return found.identity

    same = identity({})
    assert len(same) == 40
    assert identity({"tokenizer.codebook_size": 64}) == same
    assert identity({"resources.default.cpus": 1}, (3, 4)) == same
    assert identity({"objective.train.lr": 1}) == identity(
        {"objective.train": {"lr": 1.0, "epochs": 60, "batch_size": 256}}
    )
    assert identity({"objective.train.lr": 1}) != same
    assert identity({"model.depth": 2, "model.heads": 2}) == identity({"model.heads": 2, "model.depth": 2})


def test_blocks_that_need_one_another_are_validated_together(trees: dict[str, Item]) -> None:
    tree = trees[GOOD]
    without = from_plain({"schema": 1, "data": {"kind": "digits"}, "tokenizer": {"kind": "patch_kmeans"},
                          "objective": {"kind": "mtm"}}, Place("f"))  # fmt: skip
    task = {"kind": "classify"}
    assert Variants(without).at(laid_plain({"objective": None}, "f")) is None
    assert Variants(without).at(laid_plain({"objective": None, "tasks.a": task}, "f")) is not None
    assert Variants(tree).at(laid_plain({"objective": None, "tasks": {}}, "f")) is None


def test_a_broken_base_has_no_variants(tmp_path: Path, trees: dict[str, Item]) -> None:
    variants = Variants(from_plain({"schema": 1}, Place("f")))
    assert variants.base is None
    assert variants.at(()) is None


class Recorder:
    """Stands for an experiment and remembers which of its blocks were asked for."""

    def __init__(self, experiment: Experiment) -> None:
        self._experiment, self.asked = experiment, set[str]()

    def __getattr__(self, name: str) -> Any:
        if name == "resources_for":
            self.asked.add("resources")
        elif name in Experiment.model_fields:
            self.asked.add(name)
        return getattr(self._experiment, name)


@pytest.mark.parametrize("number", range(len(CHECKS)))
@pytest.mark.parametrize(
    "values",
    [
        {}, {"objective": None}, {"model.input": "pixels", "model.pixel_norm": "imagenet", "objective": None},
        {"data": {"kind": "seit_release", "root": "r"}, "tokenizer": None},
        {"data": {"kind": "torchvision", "root": "r", "name": "Flowers102"}},
        {"tokenizer": {"kind": "vqvae", "quantizer": {"kind": "ema"}}, "storage.codec.kind": "seit"},
        {"storage.fraction": 0.5, "model.grid": 2, "tasks.a": {"kind": "classify", "init": "pretrain"}},
        {"resources.default": {"device": "cpu", "gpus": 2}, "evaluate.clean.split": "select"},
    ],
)  # fmt: skip
def test_a_check_reads_no_block_but_those_that_it_names(
    trees: dict[str, Item], number: int, values: dict[str, Any]
) -> None:
    found = Variants(trees[GOOD]).at(laid_plain(values, "f"))
    assert found is not None
    names, look = CHECKS[number]
    recorder = Recorder(found.experiment)
    list(look(recorder))  # type: ignore[arg-type]
    assert recorder.asked <= set(names)


def test_thousands_of_points_are_told_apart(tmp_path: Path) -> None:
    text = (
        f"grid: {{tokenizer.codebook_size: {list(range(2, 52))}, objective.train.lr: {[1 + n for n in range(50)]}}}\n"
    )
    read = sweep(tmp_path, text)
    assert len({point.variant.identity for point in read.points if point.variant}) == 2500
    last = read.points[-1].variant
    assert last is not None
    values = {"tokenizer.codebook_size": 51, "objective.train.lr": 50}
    assert last.experiment == read.document.read(values=values).experiment


def test_a_variant_that_cannot_be_made_is_said_by_the_sweep(tmp_path: Path) -> None:
    with pytest.raises(SpecError):
        sweep(tmp_path, "grid: {tokenizer.codebook_size: [8]}\n").experiment({"nowhere": 1})


def test_another_folder_of_images_is_another_point(tmp_path: Path) -> None:
    text = GOOD.replace("data: {kind: digits}", "data: {kind: image_folder, root: first, image_size: 8}")
    assert text != GOOD
    variants = Variants(open_document(write(tmp_path, text)).tree)
    first, second, again = (
        variants.at(laid_plain({"data.root": root}, "sweep.yaml")) for root in ("first", "second", "second")
    )
    assert first is not None
    assert second is not None
    assert again is not None
    assert first.identity != second.identity
    assert second.identity == again.identity
