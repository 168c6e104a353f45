"""Broken sweeps: every message whole, at its line and column of the sweep's file."""

from pathlib import Path

import pytest

from tests.spec.specs import GOOD, write
from tests.spec.sweeps import said, sweep_problems, write_sweep
from tokexp.errors import SpecError
from tokexp.spec.schema import kinds
from tokexp.spec.sweep_reading import is_sweep, read_sweep

MEASURES = [name for name, _ in kinds()["evaluate"]]
ONE_OF_THEM = f"{', '.join(MEASURES[:-1])} or {MEASURES[-1]}"
SPACE = "space: {tokenizer.codebook_size: {int: [8, 64]}}\n"
TWO = "metrics: [{name: finetune/top1, direction: maximize}, {name: storage/bytes, direction: minimize}]\n"

CASES: list[tuple[str, list[str]]] = [
    ("grid:\n  storage.fractoin: [0.5]\n  storage.seed: [1, 2]",
     ["5:3: grid.storage.fractoin: unknown field; did you mean fraction?"]),
    ("space:\n  storage.fractoin: {float: [0.1, 0.5]}\nbudget: {trials: 2}",
     ["5:3: space.storage.fractoin: unknown field; did you mean fraction?"]),
    # Paths of the experiment that do not exist.
    ("grid: {tokenzier.codebook_size: [8, 16]}",
     ["4:8: grid.tokenzier.codebook_size: unknown field; did you mean tokenizer?"]),
    ("cases: {a: {tokenizer.codebok_size: 8}}",
     ["4:13: cases.a.tokenizer.codebok_size: unknown field; did you mean codebook_size?"]),
    ("zip: {model.widht: [96], objective.train.lr: [0.1]}",
     ["4:7: zip.model.widht: unknown field; did you mean width?"]),
    ("set: {modl.width: 96}", ["4:7: set.modl.width: unknown field; did you mean model?"]),
    ("space: {model.widht: {int: [64, 96]}}\nbudget: {trials: 2}",
     ["4:9: space.model.widht: unknown field; did you mean width?"]),
    ("grid: {mask_ratio: [0.5]}", ["4:8: grid.mask_ratio: unknown field here; it exists as objective.mask.low"]),
    ("grid: {tokenizer.codebook_size.x: [1]}",
     ["4:36: grid.tokenizer.codebook_size.x.0: tokenizer.codebook_size is a single value and has no field x"]),
    ("grid: {augment.task.7.prob: [1]}",
     ["4:30: grid.augment.task.7.prob.0: augment.task is a list of 2; a position from 0 to 1 is needed, not 7"]),
    ("space: {evaluate.x.severity: {int: [1, 2]}}\nbudget: {trials: 2}",
     [f"4:9: space.evaluate.x.severity: kind is missing; one of {ONE_OF_THEM} is needed"]),
    ("grid: {seeds: [1, 2]}", ["4:8: grid.seeds: seeds cannot be varied: write `seeds` at the top of the sweep"]),
    ("cases: {a: {name: x, track.enabled: false}}",
     ["4:13: cases.a.name: name cannot be varied: the sweep has a name, and its points are named after their values",
      "4:22: cases.a.track.enabled: track cannot be varied: all trials are recorded in one place; "
      "write it under `set`"]),
    ("grid: {'model..width': [1]}", ["4:8: grid.model..width: not a path; write block.field"]),
    # Values that are wrong for their field.
    ("grid: {tokenizer.codebook_size: [8, 0, 16], objective.train.lr: [1.0e-3, x]}",
     ["4:37: grid.tokenizer.codebook_size.1: 0 given; a whole number from 2 to 65536 is needed",
      "4:74: grid.objective.train.lr.1: the text 'x' given; a number above 0 and of at most 100 is needed"]),
    ("cases: {a: {tokenizer.codebook_size: 1}, b: {model.width: ninety}, c: {}}",
     ["4:38: cases.a.tokenizer.codebook_size: 1 given; a whole number from 2 to 65536 is needed",
      "4:59: cases.b.model.width: the text 'ninety' given; a whole number from 8 to 8192 is needed"]),
    ("grid: {objective.train.lr: [1e-3]}",
     ["4:29: grid.objective.train.lr.0: YAML reads 1e-3 as text; write 1.0e-3; "
      "a number above 0 and of at most 100 is needed"]),
    ("grid: {tasks.probe.lrs: [[0.1], [0.2, -1]]}",
     ["4:39: grid.tasks.probe.lrs.1.1: -1 given; a number above 0 is needed"]),
    ("grid:\n  data:\n    - {kind: digits}\n    - {kind: digit}",
     ["7:14: grid.data.1.kind: unknown kind 'digit'; allowed: digits, image_folder, torchvision, seit_release, "
      "token_store; did you mean digits?"]),
    ("cases: {a: {augment.task: '${policies.p}'}}\npolicies: {p: [{kind: mixup, alpha: -1}]}",
     ["5:37: policies.p.0.alpha: -1 given; a number above 0 is needed"]),
    ("set: {augment.task: [{sometimes: 0.5, do: ['${policies.q}']}]}\npolicies: {p: []}",
     ["4:44: set.augment.task.0.do.0: ${policies.q}: policies has no written field q"]),
    ("cases: {a: {augment.task: [{kind: mixup, alpha: .nan}, '${policies.q}']}}\npolicies: {p: []}",
     ["4:49: cases.a.augment.task.0.alpha: .nan given; a finite number is needed",
      "4:56: cases.a.augment.task.1: ${policies.q}: policies has no written field q"]),
    ("cases: {a: {augment.task: '${policies.q}'}}\npolicies: {p: []}",
     ["4:27: cases.a.augment.task: ${policies.q}: policies has no written field q"]),
    ("space: {tokenizer.codebook_size: {int: [1, 100000]}}\nbudget: {trials: 2}",
     ["4:41: space.tokenizer.codebook_size.int.0: 1 given; a whole number from 2 to 65536 is needed",
      "4:44: space.tokenizer.codebook_size.int.1: 100000 given; a whole number from 2 to 65536 is needed"]),
    ("space: {tokenizer.codebook_size: {float: [8, 64]}}\nbudget: {trials: 2}",
     ["4:43: space.tokenizer.codebook_size.float.0: 8.0 given; a whole number from 2 to 65536 is needed",
      "4:46: space.tokenizer.codebook_size.float.1: 64.0 given; a whole number from 2 to 65536 is needed"]),
    ("set: {model.width: 7}\ngrid: {objective.train.lr: [1, 500]}",
     ["4:20: set.model.width: 7 given; a whole number from 8 to 8192 is needed",
      "5:32: grid.objective.train.lr.1: 500 given; a number above 0 and of at most 100 is needed"]),
    # Combinations of values.
    ("grid: {tokenizer.codebook_size: [64, 1024], storage.codec.kind: [packed, seit]}",
     ["4:38: grid.tokenizer.codebook_size.1: with tokenizer.codebook_size 1024, storage.codec.kind seit: "
      "1024 codes; the codec seit holds at most 510 (packed holds any)"]),
    ("cases: {big: {tokenizer.codebook_size: 1024}}\n"
     "grid: {storage.codec.kind: [packed, seit], objective.train.lr: [0.1, 0.2]}",
     ["4:40: cases.big.tokenizer.codebook_size: with case big, tokenizer.codebook_size 1024, storage.codec.kind seit: "
      "1024 codes; the codec seit holds at most 510 (packed holds any) (and 1 more point)"]),
    ("set: {tokenizer.codebook_size: 1024}\ngrid: {storage.codec.kind: [seit]}",
     ["5:29: grid.storage.codec.kind.0: with storage.codec.kind seit: tokenizer.codebook_size: "
      "1024 codes; the codec seit holds at most 510 (packed holds any)"]),
    ("grid: {model.width: [96, 64], model.heads: [4, 3]}",
     ["4:48: grid.model.heads.1: with model.width 64, model.heads 3: model: heads (3) must divide width (64)"]),
    ("cases: {a: {objective: null, tasks: {}}}",
     ["4:37: cases.a.tasks: with case a, objective null, tasks {}: nothing to do: an objective, or at least one task, "
      "is needed"]),
    ("set: {tokenizer.patch_size: 3}",
     ["4:29: set.tokenizer.patch_size: 3 given; it must divide the images' side, 8"]),
    ("space: {storage.codec.kind: {choice: [packed, seit]}}\nset: {tokenizer.codebook_size: 1024}\nbudget: {trials: 2}",
     ["4:47: space.storage.codec.kind.choice.1: with storage.codec.kind seit: tokenizer.codebook_size: "
      "1024 codes; the codec seit holds at most 510 (packed holds any)"]),
    # How values are listed.
    ("zip: {tokenizer.codebook_size: [8, 16], objective.train.lr: [0.1]}",
     ["4:41: zip.objective.train.lr: 1 value given; 2 are needed, as many as tokenizer.codebook_size has"]),
    ("grid: {tokenizer.codebook_size: [8], tokenizer: [{kind: patch_kmeans}]}",
     ["4:38: grid.tokenizer: this replaces grid.tokenizer.codebook_size; keep one of them"]),
    ("cases: {a: {tokenizer.codebook_size: 8}, b: {tokenizer.codebook_size: 9}}\ngrid: {tokenizer.codebook_size: [8]}",
     ["5:8: grid.tokenizer.codebook_size: this replaces cases.a.tokenizer.codebook_size; keep one of them"]),
    ("cases: {a: {}, a: {}}", ["4:16: cases.a: written twice (first on line 4); keep one of them"]),
    ("grid: {tokenizer.codebook_size: 8}",
     ["4:33: grid.tokenizer.codebook_size: 8 given; a list of values, not empty, is needed"]),
    ("grid: {tokenizer.codebook_size: []}",
     ["4:8: grid.tokenizer.codebook_size: a list of 0 given; a list of values, not empty, is needed"]),
    ("grid: [1]\ncases: 5\nexclude: {a: 1}\nsed: [0]",
     ["4:1: grid: a list of 1 given; a block of named parts is needed",
      "5:8: cases: 5 given; a block of named parts is needed",
      "6:1: exclude: a block of fields given; a list of blocks is needed",
      "7:1: sed: unknown field; did you mean seeds?"]),
    ("seeds: [0, 1, 0]", ["4:15: seeds.2: 0 is written twice; keep one of them"]),
    ("metrics: [{name: finetune/top1, direction: maximize}, {name: finetune/top1, direction: minimize}]",
     ["4:62: metrics.1.name: finetune/top1 is written twice; keep one of them"]),
    # Names.
    ("cases: {a: {}}\nbaseline: A", ["5:11: baseline: 'A' given; no case or point has this name; did you mean a?"]),
    ("cases: {a: {}, b: {tokenizer.seed: 1}}\nbaseline: zzz",
     ["5:11: baseline: 'zzz' given; no case or point has this name; there are a and b"]),
    ("baseline: a", ["4:11: baseline: 'a' given; this sweep has no cases"]),
    ("metrics: [{name: finetun/top1, direction: maximize}]",
     ["4:18: metrics.0.name: finetun/top1 given; the experiment has no finetun; did you mean finetune/top1?"]),
    ("metrics: [{name: boxes/map, direction: maximize}]",
     ["4:18: metrics.0.name: boxes/map given; the experiment has no boxes; there are tokenizer, storage, adapt, "
      "pretrain, finetune, probe, finetune/noise and probe/noise"]),
    ("metrics: [{name: top1, direction: up}]",
     ["4:18: metrics.0.name: 'top1' given; a stage and a metric are needed, such as finetune/top1 or "
      "storage/bytes_per_image",
      "4:35: metrics.0.direction: 'up' given; one of maximize or minimize is needed"]),
    ("metrics: [{name: finetune/top11, direction: maximize}]",
     ["4:18: metrics.0.name: finetune/top11 given; finetune reports no top11; did you mean top1?"]),
    ("metrics: [{name: finetune/val_top1, direction: maximize}]",
     ["4:18: metrics.0.name: finetune/val_top1 given; finetune reports no val_top1; the task's `validation` is needed "
      "for it"]),
    ("metrics: [{name: storage/total, direction: minimize}]",
     ["4:18: metrics.0.name: storage/total given; storage reports no total; there are bytes and bytes_per_image"]),
    ("metrics: [{name: finetune/noise/loss, direction: minimize}]",
     ["4:18: metrics.0.name: finetune/noise/loss given; finetune/noise reports no loss; there are "
      "mean_class_top1, top1 and top5"]),
    (SPACE + "budget: {trials: 2}\npruner: {kind: median, stage: finetune, metric: val_top1}",
     ["6:49: pruner.metric: val_top1 given; finetune reports no val_top1 on the way; the task's `validation` is needed "
      "for it"]),
    (SPACE + "budget: {trials: 2}\npruner: {kind: median, stage: probe}",
     ["6:1: pruner.metric: probe is a probe, which reports nothing on the way"]),
    (SPACE + "budget: {trials: 2}\nconstraints: [{metric: storge/bytes, at_most: 5}]",
     ["6:24: constraints.0.metric: storge/bytes given; the experiment has no storge; did you mean storage/bytes?"]),
    (SPACE + "budget: {trials: 2}\nconstraints: [{metric: storage/bytes}]",
     ["6:15: constraints.0: one of at_most and at_least is needed"]),
    ("grid: {tokenizer.codebook_size: [8]}\npublished: table7",
     ["5:12: published: 'table7' given; a paper and a table are needed, such as seitpp/table-7"]),
    ("grid: {tokenizer.codebook_size: [8]}\n"
     "published: {table: seitpp/table-7, cases: {codebok_size=8: {where: {top1: 81.4}}}}",
     ["5:44: published.cases.codebok_size=8: no case or point has this name; did you mean codebook_size=8?"]),
    # Conditions.
    ("grid: {tokenizer.codebook_size: [8]}\nexclude: [{tokenizer.codebok_size: 8}]",
     ["5:12: exclude.0.tokenizer.codebok_size: this sweep does not vary tokenizer.codebok_size; "
      "did you mean tokenizer.codebook_size?"]),
    ("grid: {tokenizer.codebook_size: [8, 9]}\n"
     "exclude: [{tokenizer.codebook_size: {belw: 8}}, {tokenizer.codebook_size: {}}]",
     ["5:38: exclude.0.tokenizer.codebook_size.belw: unknown field; did you mean below?",
      "5:50: exclude.1.tokenizer.codebook_size: an empty condition; write a value, a list of values, "
      "or a word such as below: 0.1"]),
    ("grid: {tokenizer.codebook_size: [8, 9]}\nexclude: [{tokenizer.codebook_size: [8, 9]}]",
     ["5:1: exclude: every point is excluded; nothing would be left to run"]),
    ("cases: {a: {}}\nexclude: [{}]", ["5:11: exclude.0: an empty block; it would leave out every point"]),
    ("cases: {a: {}}\nexclude: [{case: b}]", ["5:18: exclude.0.case: this never holds: case is one of a"]),
    ("space: {tokenizer.codebook_size: {int: [8, 64], when: {storage.codec.kind: packed}}}\nbudget: {trials: 2}",
     ["4:56: space.tokenizer.codebook_size.when.storage.codec.kind: storage.codec.kind is not a dimension of "
      "this space"]),
    ("space: {tokenizer.seed: {int: [8, 64], when: {tokenizer.codebok_size: 8}}, "
     "tokenizer.codebook_size: {int: [8, 9]}}\n"
     "budget: {trials: 2}",
     ["4:47: space.tokenizer.seed.when.tokenizer.codebok_size: tokenizer.codebok_size is not a dimension of "
      "this space; did you mean tokenizer.codebook_size?"]),
    ("space: {tokenizer.seed: {int: [1, 2], when: {tokenizer.codebook_size: 8}}, "
     "tokenizer.codebook_size: {int: [8, 64], when: {tokenizer.seed: 1}}}\nbudget: {trials: 2}",
     ["4:39: space.tokenizer.seed.when: the conditions form a ring: "
      "tokenizer.seed -> tokenizer.codebook_size -> tokenizer.seed"]),
    ("space: {storage.codec.kind: {choice: [packed, seit]}, "
     "tokenizer.seed: {int: [1, 2], when: {storage.codec.kind: pack}}}\nbudget: {trials: 2}",
     ["4:112: space.tokenizer.seed.when.storage.codec.kind: this never holds: storage.codec.kind is one of "
      "packed or seit"]),
    ("cases: {a: {}}\nspace: {tokenizer.seed: {int: [1, 2], when: {case: b}}}\nbudget: {trials: 2}",
     ["5:52: space.tokenizer.seed.when.case: this never holds: case is one of a"]),
    # Spaces, samplers, pruners, budgets.
    ("space: {tokenizer.codebook_size: {choice: []}, objective.train.lr: {float: [0.2, 0.1]}}\nbudget: {trials: 4}",
     ["4:35: space.tokenizer.codebook_size.choice: a list of 0 given; a list of values, not empty, is needed",
      "4:48: space.objective.train.lr: the lower bound 0.2 must be below the upper bound 0.1"]),
    ("grid: {storage.fraction: [0.1, 0.2]}\nexclude: [{storage.fraction: {greater: 0.1}}]",
     ["5:31: exclude.0.storage.fraction.greater: unknown field; allowed here: one_of, not, below, above, at_least, "
      "at_most"]),
    ("space: {tokenizer.codebook_size: {choice: [8, 16, 8]}}\nbudget: {trials: 4}",
     ["4:51: space.tokenizer.codebook_size.choice.2: 8 is written twice; keep one of them"]),
    ("space: {objective.train.lr: {float: [0, 0.1], log: true}}\nbudget: {trials: 4}",
     ["4:9: space.objective.train.lr: the lower bound 0.0 must be above 0 where log is true"]),
    ("space: {objective.train.lr: {float: [0.1, 0.2], log: true, step: 0.01}}\nbudget: {trials: 4}",
     ["4:9: space.objective.train.lr: log and step exclude one another; write one of them"]),
    ("space: {tokenizer.codebook_size: {flaot: [8, 64]}}\nbudget: {trials: 2}",
     ["4:9: space.tokenizer.codebook_size: a field choice, float or int is missing; did you mean float?"]),
    ("space: {tokenizer.codebook_size: [8, 64]}\nbudget: {trials: 2}",
     ["4:9: space.tokenizer.codebook_size: a list of 2 given; a block with choice, float or int is needed"]),
    ("space: {tokenizer.codebook_size: {int: [8, 1.5, 9]}}\nbudget: {trials: 2}",
     ["4:35: space.tokenizer.codebook_size.int: a list of 3 given; a list of two whole numbers is needed"]),
    ("space: {tokenizer.codebook_size: {int: [8, 9.5]}}\nbudget: {trials: 2}",
     ["4:44: space.tokenizer.codebook_size.int.1: 9.5 given; a whole number is needed"]),
    (SPACE, ["1:1: budget.trials: missing; a search would never end: a number of trials is needed"]),
    (SPACE + "budget: {parallel: 2}",
     ["5:1: budget.trials: missing; a search would never end: a number of trials is needed"]),
    (SPACE + "budget: {trials: 1}", ["5:18: budget.trials: 1 given; a point takes 2 trials, one for each seed"]),
    (SPACE + "budget: {trials: 0, parallel: 0, gpu_hours: 0}",
     ["5:18: budget.trials: 0 given; a whole number of at least 1 is needed",
      "5:31: budget.parallel: 0 given; a whole number of at least 1 is needed",
      "5:45: budget.gpu_hours: 0 given; a number above 0 is needed"]),
    (SPACE + TWO + "budget: {trials: 2}\npruner: {kind: median}",
     ["7:16: pruner.kind: median given; a search for several metrics cannot prune (Optuna's limit)"]),
    (SPACE + "budget: {trials: 2}\npruner: {kind: medain}\nsampler: {kind: tpe, seed: -1}",
     ["6:16: pruner.kind: unknown kind 'medain'; allowed: none, median, percentile, successive_halving, hyperband, "
      "threshold, patience; did you mean median?",
      "7:28: sampler.seed: -1 given; a whole number from 0 to below 4294967296 is needed"]),
    (SPACE + "budget: {trials: 2}\npruner: {kind: patience, then: {kind: patience}}",
     ["6:39: pruner.then.kind: unknown kind 'patience'; allowed: median, percentile, successive_halving, hyperband, "
      "threshold"]),
    (SPACE + "budget: {trials: 2}\npruner: {kind: threshold}",
     ["6:1: pruner: a bound is needed: lower, upper or both"]),
    (SPACE + "budget: {trials: 2}\npruner: {kind: median, stage: finetun}",
     ["6:31: pruner.stage: finetun given; the experiment has no such stage; did you mean finetune?"]),
    ("space: {tokenizer.codebook_size: {choice: [8, 64]}, tokenizer.seed: {int: [1, 2]}}\n"
     "budget: {trials: 20}\nsampler: {kind: cmaes}",
     ["4:9: space.tokenizer.codebook_size: the sampler cmaes takes numbers only; write float or int"]),
    ("space: {tokenizer.codebook_size: {int: [8, 64]}, "
     "tokenizer.seed: {int: [1, 2], when: {tokenizer.codebook_size: 8}}}\n"
     "budget: {trials: 20}\nsampler: {kind: cmaes}",
     ["4:80: space.tokenizer.seed.when: the sampler cmaes takes no conditions"]),
    (SPACE + "budget: {trials: 2}\nsampler: {kind: cmaes}",
     ["6:17: sampler.kind: cmaes needs two dimensions or more; tpe and random search one"]),
    (SPACE + "budget: {trials: 2}\nsampler: {kind: random}\nconstraints: [{metric: storage/bytes, at_most: 5}]",
     ["7:1: constraints: the sampler random takes no account of constraints; tpe, nsga2, nsga3 or gp do"]),
    ("space: {objective.train.lr: {float: [0.1, 0.2]}}\nsampler: {kind: grid}",
     ["4:9: space.objective.train.lr: the sampler grid needs a step, or choices"]),
    (SPACE + "budget: {trials: 2}\nsampler: {kind: tpe, group: true, multivariate: false}",
     ["6:1: sampler: group is true, but multivariate is false; groups are modelled jointly"]),
    ("grid: {tokenizer.codebook_size: [8]}\nsampler: {kind: random}\npruner: {kind: median}",
     ["5:1: sampler: this sweep has no space to search; leave the sampler out",
      "6:1: pruner: this sweep has no space to search; leave the pruner out"]),
]  # fmt: skip


@pytest.mark.parametrize(("text", "messages"), CASES, ids=[text[:60] for text, _ in CASES])
def test_a_broken_sweep_says_what_is_wrong_where(tmp_path: Path, text: str, messages: list[str]) -> None:
    found = said(tmp_path, sweep_problems(tmp_path, text))
    assert found == [f"sweep.yaml:{message}" for message in messages]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere.yaml", "nowhere.yaml: no such file (looked for {folder}/nowhere.yaml)"),
        ("sweep.yaml", "sweep.yaml is a sweep; name an experiment"),
        (".", ".: a folder; name a YAML file in it (looked for {folder})"),
    ],
)
def test_an_experiment_that_cannot_be_read_is_said_at_its_name(tmp_path: Path, name: str, message: str) -> None:
    [problem] = sweep_problems(tmp_path, "", head=f"schema: 1\nexperiment: {name}\n")
    assert (problem.line, problem.column, problem.path) == (2, 13, "experiment")
    assert problem.message == f"{message.format(folder=tmp_path)}".replace(f"{name}: {name}", name)


def test_a_missing_experiment_does_not_hide_what_else_is_wrong(tmp_path: Path) -> None:
    text = "seed: [0]\ngrid: {a: 1}\n"
    found = [problem.path for problem in sweep_problems(tmp_path, text, head="schema: 1\nexperiment: no.yaml\n")]
    assert found == ["experiment", "seed", "grid.a"]


def test_a_broken_experiment_shows_its_own_problems_after_those_of_the_sweep(tmp_path: Path) -> None:
    path = write_sweep(tmp_path, "grid: {tokenizer.codebook_size: [8, 1]}\nsed: [0]\n")
    write(tmp_path, GOOD.replace("heads: 4", "heads: x").replace("severity: 3", "severty: 3"))
    with pytest.raises(SpecError) as caught:
        read_sweep(path)
    assert said(tmp_path, caught.value.problems) == [
        "sweep.yaml:4:37: grid.tokenizer.codebook_size.1: 1 given; a whole number from 2 to 65536 is needed",
        "sweep.yaml:5:1: sed: unknown field; did you mean seeds?",
        "spec.yaml:6:48: model.heads: the text 'x' given; a whole number from 1 to 128 is needed",
        "spec.yaml:28:51: evaluate.noise.severty: unknown field; did you mean severity?",
    ]


def test_an_impossible_experiment_is_said_at_its_own_line_where_no_point_mends_it(tmp_path: Path) -> None:
    path = write_sweep(tmp_path, "grid: {objective.train.lr: [0.1, 0.2]}\n")
    write(tmp_path, GOOD.replace("patch_size: 2", "patch_size: 3"))
    with pytest.raises(SpecError) as caught:
        read_sweep(path)
    [found] = said(tmp_path, caught.value.problems)
    assert found.startswith("spec.yaml:4:45: tokenizer.patch_size: 3 given; it must divide")


def test_an_impossible_experiment_that_every_point_mends_is_fine(tmp_path: Path) -> None:
    path = write_sweep(tmp_path, "grid: {tokenizer.patch_size: [2, 1]}\n")
    write(tmp_path, GOOD.replace("patch_size: 2", "patch_size: 3"))
    assert len(read_sweep(path).points) == 2


def test_a_combination_that_the_search_itself_can_mend_is_no_error(tmp_path: Path) -> None:
    text = "space: {tokenizer.codebook_size: {choice: [64, 1024]}, storage.codec.kind: {choice: [packed, seit]}}\n"
    assert sweep_problems(tmp_path, "set: {storage.codec.kind: seit}\nbudget: {trials: 2}\n" + text) == []


def test_a_value_that_needs_another_is_tried_with_it(tmp_path: Path) -> None:
    vqvae = "[{kind: vqvae, quantizer: {kind: ema}}, {kind: patch_kmeans}]"
    conditional = (
        f"space:\n  tokenizer: {{choice: {vqvae}}}\n"
        "  tokenizer.stride: {choice: [2, 1], when: {tokenizer: {one_of: [{kind: vqvae, quantizer: {kind: ema}}]}}}\n"
        "budget: {trials: 2}\n"
    )
    assert sweep_problems(tmp_path, conditional) == []
    [problem] = sweep_problems(tmp_path, conditional.replace("[2, 1]", "[2, 3]"))
    assert (problem.line, problem.path) == (6, "space.tokenizer.stride.choice.1")


def test_what_is_wrong_everywhere_is_said_once_and_many_faults_are_cut_short(tmp_path: Path) -> None:
    sizes = ", ".join(str(511 + number) for number in range(300))
    grid = f"grid: {{tokenizer.codebook_size: [{sizes}], objective.train.lr: [0.1, 0.2]}}\n"
    text = "set: {storage.codec.kind: seit}\n" + grid
    problems = sweep_problems(tmp_path, text)
    assert len(problems) == 101
    assert problems[0].message.endswith("(and 1 more point)")
    assert problems[-1].message == "200 more problems of points; correct these first"


@pytest.mark.parametrize(
    ("overrides", "messages"),
    [
        (["gird=5"], ["--set: gird: unknown field; did you mean grid?"]),
        (["modle=5"], ["--set: modle: unknown field; did you mean model?"]),
        (["grid.model.widht=[96]"], ["--set: grid.model.widht.0: unknown field; did you mean width?"]),
        (["tokenizer.codebook_sise=8"], ["--set: tokenizer.codebook_sise: unknown field; did you mean codebook_size?"]),
        (["objective.train.lr=500"], ["--set: objective.train.lr: this sweep varies objective.train.lr; "
                                      "write --set grid.objective.train.lr=..."]),
        (["cases.a.model.heads=0"], ["--set: cases.a.model.heads: 0 given; a whole number from 1 to 128 is needed"]),
        (["budget.trials=x"], ["--set: budget.trials: the text 'x' given; a whole number of at least 1 is needed"]),
        (["seeds"], ["--set: 'seeds' has no '='; write --set block.field=value"]),
    ],
)  # fmt: skip
def test_what_is_set_is_checked_too(tmp_path: Path, overrides: list[str], messages: list[str]) -> None:
    found = said(tmp_path, sweep_problems(tmp_path, "grid: {objective.train.lr: [1]}\n", overrides))
    assert found == messages


@pytest.mark.parametrize("text", ["a: [1", "\tname: x", "<<: {a: 1}", "? [1]\n: 2", "!!python/object:x {}"])
def test_what_is_not_plain_yaml_is_refused_in_sweeps_too(tmp_path: Path, text: str) -> None:
    problems = sweep_problems(tmp_path, text + "\n")
    assert problems
    assert all(problem.line is not None and problem.line >= 4 for problem in problems)


def test_a_file_with_fields_of_sweeps_alone_is_a_sweep_that_lacks_its_experiment(tmp_path: Path) -> None:
    write(tmp_path, "schema: 1\ncases: {a: {}}\n", "sweep.yaml")
    assert is_sweep(tmp_path / "sweep.yaml")
    with pytest.raises(SpecError) as caught:
        read_sweep(tmp_path / "sweep.yaml")
    assert "experiment" in str(caught.value)
    assert "missing" in str(caught.value)


def test_an_experiment_is_no_sweep(tmp_path: Path) -> None:
    write(tmp_path, GOOD, "experiment.yaml")
    assert not is_sweep(tmp_path / "experiment.yaml")
