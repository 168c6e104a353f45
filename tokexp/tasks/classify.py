"""Classification: the whole model on class labels, from pre-trained weights with layer decay, or from scratch.

Sources: SeiT appendix table B.1 (from scratch on tokens); BEiT and MAE (layer decay); SeiT++ supplement C.
"""

from torch import Tensor

from tokexp.objectives.base import ObjectiveContext
from tokexp.registry import implementation
from tokexp.spec.objectives import Supervised
from tokexp.spec.tasks import Classify
from tokexp.tasks.base import DownstreamTask, TaskContext, Trainer


class Classification(DownstreamTask):
    """The supervised objective as a task: backbone, head, and their training."""

    def __init__(self, spec: Classify, context: TaskContext) -> None:
        super().__init__()
        self.spec = spec
        supervised = Supervised(kind="supervised", label_smoothing=spec.label_smoothing, head_std=spec.head_std)
        self.objective = implementation("objectives", "supervised")(
            supervised, ObjectiveContext(context.backbone, context.token_input, context.num_classes)
        )
        self.objective.table_layer = spec.table_layer

    def train_with(self, trainer: Trainer) -> dict[str, float]:
        """Train all weights with the task's recipe; metrics: the training's last, and those on held-out images."""
        return trainer.fit(self.objective, self.spec.train, self.spec.validation)

    def logits(self, values: Tensor) -> Tensor:
        """Return (B, classes) scores."""
        scores: Tensor = self.objective.logits(values)
        return scores.float()


def build(spec: Classify, context: TaskContext) -> Classification:
    """Return the task for a spec."""
    return Classification(spec, context)
