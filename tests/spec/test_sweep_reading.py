"""Reading good sweeps: what comes of them, where values come from, and how they are kept for later."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.spec.specs import GOOD, write
from tests.spec.sweeps import HEAD, sweep, sweep_problems, write_sweep
from tokexp.errors import SpecError
from tokexp.spec.sweep_reading import ReadSweep, is_sweep, read_sweep, thaw
from tokexp.spec.writing import to_yaml

TABLE = """\
baseline: SeiT
cases:
  SeiT: {augment.task: "${policies.seit}"}
  ColorAdapt: {augment.task: "${policies.color}"}
  both: {}
policies:
  seit: [{kind: token_cutmix}]
  color: [{kind: color_adapt}, "${policies.seit.0}"]
"""


def names(read: ReadSweep) -> list[str]:
    return [point.assignment.case for point in read.points]


def test_a_table_of_cases_with_policies(tmp_path: Path) -> None:
    read = sweep(tmp_path, TABLE)
    assert names(read) == ["SeiT", "ColorAdapt", "both"]
    kinds = [[step.kind for step in read.experiment(point.assignment.plain).augment.task if hasattr(step, "kind")]
             for point in read.points[:2]]  # fmt: skip
    assert kinds == [["token_cutmix"], ["color_adapt", "token_cutmix"]]
    assert read.sweep.metrics[0].model_dump() == {"name": "finetune/top1", "direction": "maximize"}
    assert read.sweep.seeds == (0, 1)


def test_points_come_in_written_order_with_names_that_tell_them_apart(tmp_path: Path) -> None:
    read = sweep(
        tmp_path,
        "cases: {b: {}, a: {tokenizer.seed: 1}}\n"
        "grid: {objective.train.lr: [0.2, 0.1], tasks.finetune.train.lr: [0.3]}\n"
        "zip: {tokenizer.codebook_size: [8, 16], storage.fraction: [0.5, 0.25]}\n",
    )
    tail = "finetune.train.lr=0.3"
    assert names(read)[:3] == [
        f"b objective.train.lr=0.2 {tail} codebook_size=8 fraction=0.5",
        f"b objective.train.lr=0.2 {tail} codebook_size=16 fraction=0.25",
        f"b objective.train.lr=0.1 {tail} codebook_size=8 fraction=0.5",
    ]
    assert len(names(read)) == len(set(names(read))) == 8


def test_the_sweeps_own_seeds_and_values_win_over_the_experiments(tmp_path: Path) -> None:
    read = sweep(
        tmp_path, "seeds: [7]\nset: {objective.train.epochs: 3, tokenizer.seed: 5}\ngrid: {tokenizer.seed: [9]}\n"
    )
    found = read.experiment({"tokenizer.seed": 9})
    assert found.seeds == (7,)
    assert found.objective is not None
    assert found.objective.train.epochs == 3  # type: ignore[union-attr]
    assert found.tokenizer.seed == 9  # type: ignore[union-attr]


def test_a_kind_puts_the_fields_of_the_experiments_kind_aside_but_keeps_the_points_own(tmp_path: Path) -> None:
    text = "cases: {v: {tokenizer.stride: 2, tokenizer.kind: vqvae, tokenizer.quantizer: {kind: ema}}}\n"
    [point] = sweep(tmp_path, text).points
    assert point.variant is not None
    assert point.variant.experiment.tokenizer.stride == 2  # type: ignore[union-attr]


def test_paths_in_a_list_and_into_one_policy_for_both_phases(tmp_path: Path) -> None:
    text = GOOD.split("augment:")[0] + "augment: [{kind: mixup, alpha: 0.5}]\nobjective:" + GOOD.split("objective:")[1]
    path = write_sweep(tmp_path, "grid: {augment.task.0.alpha: [0.1, 0.2]}\n")
    write(tmp_path, text)
    found = [point.variant.experiment.augment for point in read_sweep(path).points if point.variant]
    policies = [(each.pretrain[0], each.task[0]) for each in found]
    assert [(a.alpha, b.alpha) for a, b in policies] == [(0.5, 0.1), (0.5, 0.2)]  # type: ignore[union-attr]


def test_references_in_the_experiment_follow_what_a_point_sets(tmp_path: Path) -> None:
    path = write_sweep(tmp_path, "grid: {tokenizer.seed: [1, 2]}\n")
    write(tmp_path, GOOD.replace("codebook_size: 64", "codebook_size: 64, seed: 0").replace(
        "{codec: {kind: packed}}", "{codec: {kind: packed}, seed: '${tokenizer.seed}'}"))  # fmt: skip
    found = [point.variant.experiment for point in read_sweep(path).points if point.variant]
    assert [each.storage.seed for each in found] == [1, 2]


def test_a_dollar_that_a_sweep_means_as_text_stays_text(tmp_path: Path) -> None:
    path = write_sweep(tmp_path, "cases: {a: {data: {kind: image_folder, root: '$${here}', image_size: 8}}}\n")
    [point] = read_sweep(path).points
    assert point.variant is not None
    assert point.variant.experiment.data.root == "${here}"  # type: ignore[union-attr]


def test_a_sweep_extends_another_and_keeps_its_place_in_mind(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    write(tmp_path / "base")
    write(
        tmp_path / "base",
        HEAD + "grid: {tokenizer.codebook_size: [8]}\nspace: {tokenizer.seed: {choice: [1]}}\n",
        "base.yaml",
    )
    path = write(
        tmp_path,
        "schema: 1\nname: top\nextends: base/base.yaml\nbudget: {trials: 4}\n"
        "grid: {tokenizer.codebook_size: [16, 32], objective.train.lr: [0.1]}\n"
        "space: {tokenizer.seed: {int: [1, 9]}}\n",
        "top.yaml",
    )
    read = read_sweep(path)
    assert (read.sweep.name, read.sweep.experiment) == ("top", "spec.yaml")
    assert names(read) == ["codebook_size=16 lr=0.1", "codebook_size=32 lr=0.1"]
    assert type(read.sweep.space["tokenizer.seed"]).__name__ == "IntRange"


def test_overrides_go_to_the_sweep_or_to_its_experiment(tmp_path: Path) -> None:
    text = TABLE + "grid: {tokenizer.codebook_size: [8, 16]}\nspace: {objective.train.lr: {float: [0.1, 0.2]}}\n"
    read = sweep(
        tmp_path,
        text.replace("baseline: SeiT\n", ""),
        ["seeds=[3]", "budget.trials=5", "grid.tokenizer.codebook_size.1=32", "cases.both.tokenizer.seed=4",
         "space.objective.train.lr.log=true", "space.storage.fraction.float=[0.1, 1.0]", "policies.seit.0.alpha=0.5",
         "objective.train.epochs=2", "track.enabled=true"],
    )  # fmt: skip
    assert (read.sweep.seeds, read.sweep.budget.trials) == ((3,), 5)
    assert read.sweep.grid["tokenizer.codebook_size"] == (8, 32)
    assert read.sweep.cases["both"] == {"tokenizer.seed": 4}
    assert read.sweep.space["objective.train.lr"].log  # type: ignore[union-attr]
    assert read.sweep.space["storage.fraction"].bounds == (0.1, 1.0)  # type: ignore[union-attr]
    assert read.sweep.policies["seit"][0]["alpha"] == 0.5
    found = read.experiment({})
    assert found.objective.train.epochs == 2  # type: ignore[union-attr]
    assert found.track.enabled


def test_an_experiment_that_is_set_is_looked_for_from_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_sweep(tmp_path, "grid: {tokenizer.codebook_size: [8]}\n")
    (tmp_path / "elsewhere").mkdir()
    write(tmp_path / "elsewhere", GOOD.replace("name: good", "name: other"), "other.yaml")
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert read_sweep(path, ["experiment=other.yaml"]).experiment({}).name == "other"


def test_exclude_sees_values_of_the_case_and_of_the_experiment(tmp_path: Path) -> None:
    text = "cases: {a: {tokenizer.codebook_size: 64}, b: {}, c: {tokenizer.codebook_size: 8}}\n"
    assert names(sweep(tmp_path, text + "exclude: [{tokenizer.codebook_size: {above: 60}}]\n")) == ["c"]
    assert names(sweep(tmp_path, text + "exclude: [{case: [a, c]}]\n")) == ["b"]
    grid = (
        "grid: {objective.train.lr: [0.1, 0.2]}\nexclude: [{case: a, objective.train.lr: {below: 0.15}}, {case: c}]\n"
    )
    assert names(sweep(tmp_path, text + grid)) == ["a lr=0.2", "b lr=0.1", "b lr=0.2"]


def test_an_excluded_point_need_not_be_possible(tmp_path: Path) -> None:
    text = "grid: {tokenizer.codebook_size: [64, 1024], storage.codec.kind: [packed, seit]}\n"
    exclude = "exclude: [{tokenizer.codebook_size: {above: 510}, storage.codec.kind: seit}]\n"
    assert sweep_problems(tmp_path, text)
    assert len(sweep(tmp_path, text + exclude).points) == 3


def test_a_searched_point_is_excluded_by_what_it_sets_and_by_its_case(tmp_path: Path) -> None:
    read = sweep(
        tmp_path,
        "cases: {a: {}, b: {tokenizer.seed: 1}}\nspace: {storage.fraction: {float: [0.1, 1.0]}}\nbudget: {trials: 4}\n"
        "exclude: [{case: a, storage.fraction: {below: 0.5}}]\n",
    )
    assert len(read.points) == 2
    assert read.excluded({"storage.fraction": 0.2}, "a")
    assert not read.excluded({"storage.fraction": 0.2}, "b")
    assert not read.excluded({"storage.fraction": 0.7}, "a")
    assert not read.excluded({}, "a")


def test_a_baseline_that_equals_another_case_takes_its_name(tmp_path: Path) -> None:
    text = "baseline: base\ncases: {first: {tokenizer.codebook_size: 64}, base: {}}\n"
    text += "published: {table: seitpp/table-7, cases: {base: {where: {top1: 77.3}}}}\n"
    read = sweep(tmp_path, text)
    assert read.sweep.baseline == "first"
    assert read.sweep.published is not None
    assert set(read.sweep.published.cases) == {"first", "base"}


def test_a_value_that_does_not_fit_is_said_of_a_searched_point(tmp_path: Path) -> None:
    read = sweep(
        tmp_path,
        "space: {tokenizer.codebook_size: {int: [8, 600]}, storage.codec.kind: {choice: [packed, seit]}}\n"
        "budget: {trials: 4}\n",
    )
    assert read.experiment({"tokenizer.codebook_size": 600, "storage.codec.kind": "packed"}).tokenizer is not None
    with pytest.raises(SpecError, match=r"with tokenizer\.codebook_size 600, storage\.codec\.kind seit: 600"):
        read.experiment({"tokenizer.codebook_size": 600, "storage.codec.kind": "seit"})
    with pytest.raises(SpecError, match=r"tokenizer\.codebook_size: 1 given; a whole number from 2"):
        read.experiment({"tokenizer.codebook_size": 1})


def test_a_frozen_sweep_thaws_to_the_same_without_the_files(tmp_path: Path) -> None:
    text = TABLE + "set: {tokenizer.seed: 3}\ngrid: {tokenizer.codebook_size: [8, 16]}\n"
    read = sweep(tmp_path, text.replace("SeiT\n", "SeiT codebook_size=8\n", 1), ["objective.train.epochs=2"])
    frozen = json.loads(json.dumps(read.freeze()))
    for file in tmp_path.glob("*.yaml"):
        file.unlink()
    again = thaw(frozen)
    assert again.sweep == read.sweep
    assert names(again) == names(read)
    variants = [(one.variant, other.variant) for one, other in zip(read.points, again.points, strict=True)]
    assert all(one and other and one.experiment == other.experiment for one, other in variants)
    assert [one.identity for one, other in variants if one] == [other.identity for _, other in variants if other]
    assert again.freeze() == frozen


def test_a_frozen_sweep_that_is_no_sweep_is_an_error(tmp_path: Path) -> None:
    frozen = sweep(tmp_path, "grid: {tokenizer.codebook_size: [8]}\n").freeze()
    with pytest.raises(SpecError, match="grid"):
        thaw({**frozen, "sweep": {**frozen["sweep"], "grid": 5}})
    with pytest.raises(SpecError, match="data"):
        thaw({**frozen, "experiment": {"schema": 1}})


@pytest.mark.parametrize("with_sources", [False, True])
def test_a_resolved_sweep_reads_back_as_the_same(tmp_path: Path, with_sources: bool) -> None:
    text = TABLE + (
        "space: {tokenizer.codebook_size: {choice: [8, 16]}, objective.train.lr: {float: [0.1, 0.2], log: true}, "
        "storage.fraction: {float: [0.1, 1.0], when: {tokenizer.codebook_size: {not: 8}, case: [SeiT, both]}}}\n"
        "exclude: [{case: SeiT, objective.train.lr: {at_least: 0.15, below: 0.16}}]\nbudget: {trials: 60}\n"
        "pruner: {kind: patience, then: {kind: median}}\nconstraints: [{metric: storage/bytes, at_most: 1000}]\n"
    )
    read = sweep(tmp_path, text)
    again = write(tmp_path, to_yaml(read.sweep, read.sources if with_sources else None), "again.yaml")
    assert read_sweep(again).sweep == read.sweep


def test_the_source_of_every_value_is_known(tmp_path: Path) -> None:
    sources = sweep(tmp_path, TABLE, ["seeds=[1]"]).sources
    place = f"{tmp_path}/sweep.yaml"
    assert sources["cases.SeiT.augment.task.0.kind"] == f"{place}:10"
    assert (sources["baseline"], sources["seeds"], sources["budget.trials"]) == (f"{place}:4", "--set", "default")


def test_sweeps_are_told_from_experiments(tmp_path: Path) -> None:
    path = write_sweep(tmp_path, "grid: 5\n")
    assert is_sweep(path)
    assert not is_sweep(tmp_path / "spec.yaml")
    assert not is_sweep(tmp_path / "no.yaml")


def test_reading_and_expanding_a_sweep_loads_nothing_heavy(tmp_path: Path) -> None:
    path = write_sweep(tmp_path, f"grid: {{tokenizer.codebook_size: {list(range(2, 102))}, tokenizer.seed: [0, 1]}}\n")
    program = (
        "import sys\nfrom tokexp.plan.sweep import build_sweep_plan\nfrom tokexp.spec.sweep_reading import read_sweep\n"
        f"print(len(build_sweep_plan(read_sweep({str(path)!r})).trials))\n"
        "heavy = ('torch', 'numpy', 'mlflow', 'optuna', 'pandas', 'submitit')\n"
        "print([name for name in heavy if name in sys.modules])\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ended.stdout.split("\n")[:2] == ["400", "[]"]
