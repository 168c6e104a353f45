"""Which metrics a stage reports, as far as the language knows: the last word of names such as `finetune/top1`.

What a tokenizer, an objective with terms or a kind of another package reports is not known here (None): any word may
be right.
"""

from collections.abc import Mapping

from tokexp.spec.base import Spec
from tokexp.spec.bootstrap import Byol
from tokexp.spec.context_autoencoding import Cae
from tokexp.spec.evaluation import Clean, Corruption
from tokexp.spec.experiment import Experiment
from tokexp.spec.masked import Beit, Mim
from tokexp.spec.masked_autoencoding import Mae
from tokexp.spec.objectives import Mtm, Supervised
from tokexp.spec.permuted import Mapet, Pim
from tokexp.spec.reducing import FractionReduce, JpegReduce, ResizeReduce
from tokexp.spec.self_distillation import Data2vec
from tokexp.spec.tasks import Classify, Probe, TaskSpec

Words = frozenset[str]

STORED: Words = frozenset({"bytes", "bytes_per_image"})
ACCURACIES: Words = frozenset({"top1", "top5", "mean_class_top1"})
HELD_OUT: Words = frozenset({"val_top1", "val_loss"})
_TRAINED: Words = frozenset({"loss", "accuracy", "lr"})
_PREDICTED: Words = frozenset({"accuracy", "target_ratio"})
_OBJECTIVES: Mapping[type[Spec], Words] = {
    Supervised: frozenset({"accuracy"}), Mtm: frozenset({"accuracy", "mask_ratio"}),
    Mim: _PREDICTED, Beit: _PREDICTED, Pim: _PREDICTED, Mapet: _PREDICTED,
    Cae: _PREDICTED | {"cross_entropy", "alignment"}, Data2vec: frozenset({"target_ratio", "spread"}),
    Mae: frozenset({"reconstruction"}), Byol: frozenset({"similarity"}),
}  # fmt: skip
_PARAMETERS: Mapping[type[Spec], Words] = {
    FractionReduce: frozenset({"share"}), JpegReduce: frozenset({"quality"}),
    ResizeReduce: frozenset({"factor", "side"}),
}  # fmt: skip


def metric_words(experiment: Experiment, stage: str) -> Words | None:
    """Return the metrics of a stage as metrics name it (`storage`, `finetune`, `finetune/noise`); None if unknown."""
    if stage == "storage":
        reduce = experiment.storage.reduce
        return STORED if reduce is None else STORED | _PARAMETERS.get(type(reduce), frozenset())
    if stage == "pretrain":
        return pretrained_words(experiment.objective)
    task, _, test = stage.rpartition("/")
    if task in experiment.tasks and test in experiment.evaluate:
        known = isinstance(experiment.evaluate[test], (Clean, Corruption))
        return _with_averages(ACCURACIES, experiment.tasks[task]) if known else None
    if stage not in experiment.tasks:
        return None
    own = trained_words(experiment.tasks[stage])
    return None if own is None else _with_averages(ACCURACIES, experiment.tasks[stage]) | own


def pretrained_words(objective: Spec | None) -> Words | None:
    """Return what an objective reports of its training; None if that is not known."""
    # A loss of morphed tokens beside the objective's own, and terms, have names of their own.
    if objective is None or getattr(objective, "terms", None) or getattr(objective, "dtm", None) is not None:
        return None
    own = _OBJECTIVES.get(type(objective))
    return None if own is None else own | {"loss", "lr"}


def trained_words(task: TaskSpec) -> Words | None:
    """Return what a task reports of its training itself; None if that is not known."""
    if isinstance(task, Probe):
        return frozenset({"select_top1", "lr"})
    if not isinstance(task, Classify) or task.terms:
        return None
    return _TRAINED | (HELD_OUT if task.validation is not None else frozenset())


def _with_averages(words: Words, task: TaskSpec) -> Words:
    averaged = isinstance(task, Classify) and task.train.ema is not None
    return words | {f"{word}_average" for word in words} if averaged else words
