"""Names in a sweep that only its experiment, or its points, can know: metrics, stages, cases."""

from collections.abc import Iterable, Iterator, Sequence

from tokexp.spec.augment import TokenAdapt, walk_steps
from tokexp.spec.base import field_value
from tokexp.spec.check_sweep import CASE, check_budget
from tokexp.spec.conditions import holds
from tokexp.spec.evaluation import Clean
from tokexp.spec.experiment import Experiment
from tokexp.spec.findings import Finding
from tokexp.spec.metric_words import HELD_OUT, metric_words, pretrained_words, trained_words
from tokexp.spec.searching import NoPruner
from tokexp.spec.sweep import SweepMetric, SweepSpec
from tokexp.spec.tasks import Classify, Probe, TaskSpec
from tokexp.spec.token_targets import PredictsTokens
from tokexp.spec.wording import did_you_mean, listed
from tokexp.spec.yaml_tree import Path

_MOST_LISTED = 12


def completed(sweep: SweepSpec, experiment: Experiment) -> SweepSpec:
    """Return the sweep with the experiment's seeds and `<first task>/top1` where it names none of its own."""
    metrics = sweep.metrics
    if not metrics:
        trained = experiment.tasks if experiment.until is None else {}
        name = f"{next(iter(trained))}/top1" if trained else "pretrain/loss"
        name = name if experiment.until is None else "storage/bytes_per_image"
        metrics = (SweepMetric(name=name, direction="maximize" if trained else "minimize"),)
    return sweep.model_copy(update={"seeds": sweep.seeds or tuple(dict.fromkeys(experiment.seeds)), "metrics": metrics})


def stage_names(experiment: Experiment) -> list[str]:
    """Return the names of an experiment's stages: `tokens`, `pretrain`, `finetune`, `finetune/noise`, ..."""
    names: list[str] = []
    if experiment.until == "tokens":
        return [*(["tokenizer"] if experiment.tokenizer is not None else []), "tokens"]
    if experiment.model.input == "tokens":
        names += [*(["tokenizer"] if experiment.tokenizer is not None else []), "tokens"]
        policies = experiment.augment.task + (experiment.augment.pretrain if experiment.objective is not None else ())
        names += ["adapt"] if any(isinstance(step, TokenAdapt) for step in walk_steps(policies)) else []
    elif isinstance(experiment.objective, PredictsTokens):
        names += ["tokenizer", *(["tokens"] if experiment.objective.targets == "stored" else [])]
    if experiment.model.input == "pixels" and experiment.storage.reduce is not None:
        names.append("images")
    names += ["pretrain"] if experiment.objective is not None else []
    return [*names, *experiment.tasks, *(f"{task}/{test}" for task in experiment.tasks for test in experiment.evaluate)]


def metric_stages(experiment: Experiment) -> list[str]:
    """Return what may stand before the last word of a metric's name."""
    clean = {name for name, test in experiment.evaluate.items() if isinstance(test, Clean) and test.split == "test"}
    names = dict.fromkeys("storage" if name in ("tokens", "images") else name for name in stage_names(experiment))
    return [name for name in names if name.rpartition("/")[2] not in clean or "/" not in name]


def check_names(sweep: SweepSpec, experiments: Sequence[Experiment], points: Sequence[str]) -> list[Finding]:
    """Return names that do not exist. `experiments` are those of all points, `points` the names of static points."""
    distinct = list({_parts(each): each for each in experiments}.values())
    known = list(dict.fromkeys(name for each in distinct for name in metric_stages(each)))
    stages = list(dict.fromkeys(name for each in distinct for name in stage_names(each)))
    findings = [*_check_metrics(sweep, known, distinct), *_check_stage(sweep, stages), *_check_points(sweep, points)]
    return [*findings, *_check_watched(sweep, distinct), *_check_when(sweep, points), *check_budget(sweep)]


def _parts(experiment: Experiment) -> tuple[object, ...]:
    """Return what an experiment's stages depend on, so that each set of stages is looked at once."""
    tests = tuple((name, test.kind, test.split) for name, test in experiment.evaluate.items())
    targets = field_value(experiment.objective, "targets")
    trained = experiment.objective is None, pretrained_words(experiment.objective)
    has = (experiment.tokenizer is None, trained, experiment.model.input, targets)
    reduce = None if experiment.storage.reduce is None else experiment.storage.reduce.kind
    tasks = tuple((name, task.kind, *_reporting(task)) for name, task in experiment.tasks.items())
    return (tasks, tests, id(experiment.augment), has, reduce, experiment.until)


def _reporting(task: TaskSpec) -> tuple[object, ...]:
    """Return what decides which metrics a task reports, beside its kind."""
    if not isinstance(task, Classify):
        return ()
    return (task.validation is None, bool(task.terms), task.train.ema is None)


def _check_metrics(sweep: SweepSpec, known: list[str], experiments: Sequence[Experiment]) -> Iterator[Finding]:
    named: list[tuple[Path, str]] = [(("metrics", n, "name"), each.name) for n, each in enumerate(sweep.metrics)]
    named += [(("constraints", number, "metric"), each.metric) for number, each in enumerate(sweep.constraints)]
    if sweep.published is not None and sweep.published.metric is not None:
        named.append((("published", "metric"), sweep.published.metric))
    for path, name in named:
        stage, _, last = name.rpartition("/")
        if stage not in known:
            close = did_you_mean(stage, known).replace("?", f"/{last}?")
            yield Finding(path, f"{name} given; the experiment has no {stage}{close or _there_are(known)}", (path,))
            continue
        words = _joined(metric_words(each, stage) for each in experiments if stage in metric_stages(each))
        if words is not None and last not in words:
            message = f"{name} given; {stage} reports no {last}{_instead(last, words)}"
            yield Finding(path, message, (path,))


def _joined(found: Iterable[frozenset[str] | None]) -> frozenset[str] | None:
    """Return the words of all; None if one of them may report anything."""
    known = list(found)
    return None if None in known else frozenset().union(*(words for words in known if words is not None))


def _instead(word: str, words: Iterable[str]) -> str:
    if word in HELD_OUT:
        return "; the task's `validation` is needed for it"
    return did_you_mean(word, sorted(words)) or _there_are(sorted(words))


def _check_watched(sweep: SweepSpec, experiments: Sequence[Experiment]) -> Iterator[Finding]:
    """Yield a pruner's metric that its stage never reports on the way, so that nothing would be pruned."""
    if isinstance(sweep.pruner, NoPruner) or not sweep.metrics:
        return
    stage, path = sweep.pruner.stage or sweep.metrics[0].name.split("/", maxsplit=1)[0], ("pruner", "metric")
    tasks = [each.tasks[stage] for each in experiments if stage in each.tasks]
    if any(isinstance(task, Probe) for task in tasks):
        yield Finding(path, f"{stage} is a probe, which reports nothing on the way", (("pruner",), ("metrics",)))
        return
    words = _joined(trained_words(task) for task in tasks) if tasks else None
    if words is not None and sweep.pruner.metric not in words:
        metric = sweep.pruner.metric
        message = f"{metric} given; {stage} reports no {metric} on the way{_instead(metric, words)}"
        yield Finding(path, message, (("pruner",), ("metrics",)))


def _check_stage(sweep: SweepSpec, stages: list[str]) -> Iterator[Finding]:
    stage = None if isinstance(sweep.pruner, NoPruner) else sweep.pruner.stage
    if stage is not None and stage not in stages:
        path: Path = ("pruner", "stage")
        message = f"{stage} given; the experiment has no such stage{did_you_mean(stage, stages) or _there_are(stages)}"
        yield Finding(path, message, (path,))


def _check_points(sweep: SweepSpec, points: Sequence[str]) -> Iterator[Finding]:
    because = (("cases",), ("grid",), ("zip",), ("exclude",))
    path: Path = ("baseline",)
    # A case that a grid splits is compared with the others cell by cell.
    names = [*sweep.cases, *(point for point in points if point not in sweep.cases)]
    if sweep.baseline is not None and sweep.baseline not in names:
        yield Finding(path, f"{sweep.baseline!r} given; {_no_point(sweep.baseline, names)}", (path, *because))
    for case in sweep.published.cases if sweep.published is not None else ():
        if case not in points:
            path = ("published", "cases", case)
            yield Finding(path, _no_point(case, points), (path, *because), at_key=True)


def _check_when(sweep: SweepSpec, points: Sequence[str]) -> Iterator[Finding]:
    for path, dimension in sweep.space.items():
        condition = dimension.when.get(CASE)
        if condition is not None and sweep.listed and not any(holds(condition, point) for point in points):
            where = ("space", path, "when", CASE)
            message = f"this never holds: case is one of {listed(points)}"
            yield Finding(where, message, (where, ("cases",), ("grid",), ("zip",), ("exclude",)))


def _no_point(name: str, points: Sequence[str]) -> str:
    if not points:
        return "this sweep has no cases"
    return f"no case or point has this name{did_you_mean(name, points) or _there_are(points)}"


def _there_are(names: Iterable[str]) -> str:
    some = list(names)
    return f"; there are {listed(some, 'and')}" if 0 < len(some) <= _MOST_LISTED else ""
