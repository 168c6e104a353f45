"""The downstream stage: train a task's model, from pre-trained weights or from scratch."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from tokexp.augment.policy import Policy
from tokexp.data.base import Batch
from tokexp.engine.batches import Feed, PartFeed
from tokexp.engine.loop import Phase, Watch
from tokexp.engine.randomness import key_of
from tokexp.errors import InputError
from tokexp.models.base import Backbone
from tokexp.models.token_input import Embedding
from tokexp.objectives.base import Objective
from tokexp.registry import implementation
from tokexp.spec.backbones import BackboneSpec
from tokexp.spec.stages import DownstreamStage
from tokexp.spec.tasks import TaskSpec, Validation
from tokexp.spec.terms import Terms
from tokexp.spec.train import TrainSpec
from tokexp.stages.assembly import (
    Inputs,
    build_backbone,
    build_policy,
    build_token_input,
    describe_model,
    feed_of,
    load_encoder,
    model_inputs,
    save_weights,
)
from tokexp.stages.base import Stage, StageContext, StageResult
from tokexp.stages.term_training import fit_with_terms
from tokexp.tasks.base import DownstreamTask, TaskContext
from tokexp.tasks.held_out import held_out, measure

_AT_ONCE = 512


class Encoder(nn.Module):
    """The two modules that pre-training and tasks share, under the names that their weights are saved by."""

    def __init__(self, backbone: Backbone, token_input: nn.Module) -> None:
        """Take both."""
        super().__init__()
        self.backbone, self.token_input = backbone, token_input


def build_task(
    model: BackboneSpec, embed: Embedding, task: TaskSpec, inputs: Inputs, input_dropout: float = 0.0
) -> tuple[DownstreamTask, Encoder]:
    """Return a task's model with random weights, and its encoder (the same modules)."""
    backbone = build_backbone(model, inputs, getattr(task, "drop_path", 0.0))
    token_input = build_token_input(inputs, embed, input_dropout)
    context = TaskContext(backbone, token_input, inputs.num_classes)
    built: DownstreamTask = implementation("tasks", task.kind)(task, context)
    return built, Encoder(backbone, token_input)


class _Trainer:
    """What a task may ask of this stage (see tokexp.tasks.base.Trainer)."""

    def __init__(
        self, context: StageContext, feed: Feed, policy: Policy, task: DownstreamTask, terms: Terms = ()
    ) -> None:
        self.seed = context.job.seed or 0
        self._context, self._feed, self._policy, self._task, self._terms = context, feed, policy, task, terms
        self.trained: Objective | None = None
        self.average: dict[str, Tensor] | None = None

    def fit(self, objective: Objective, train: TrainSpec, validation: Validation | None) -> dict[str, float]:
        context = self._context
        feed, watch = (self._feed, None) if validation is None else self._watched(validation)
        phase = Phase(
            "downstream", train, self.seed, context.device, context.scratch, context.report, context.stop, watch
        )
        result = fit_with_terms(objective, self._terms, feed, self._policy, phase)
        self.trained, self.average = objective, result.average
        return result.metrics

    def _watched(self, validation: Validation) -> tuple[Feed, Watch]:
        """Return the images to train on, and how the held-out others are looked at."""
        held = held_out(self._feed.labels, validation.fraction, key_of(self.seed, "downstream/validation"))
        if held.all():
            raise InputError(
                f"validation.fraction {validation.fraction} of {len(held)} training images leaves none to train on"
            )
        others, seen = PartFeed(self._feed, held.nonzero()[:, 0]), PartFeed(self._feed, (~held).nonzero()[:, 0])
        return seen, Watch(validation.every, lambda: measure(self._task.logits, self._centred(others)))

    def _centred(self, feed: Feed) -> Iterator[Batch]:
        """Yield all images of a feed without augmentation, as they are evaluated."""
        for start in range(0, feed.num_images, _AT_ONCE):
            yield self._policy.centre(feed.batch(torch.arange(start, min(start + _AT_ONCE, feed.num_images))))

    def features(self, extract: object) -> tuple[Tensor, Tensor]:
        assert callable(extract)
        parts, labels = [], []
        with torch.inference_mode():
            for batch in self._centred(self._feed):
                parts.append(extract(batch.values))
                labels.append(batch.labels)
        # Cloned out of inference mode, so that classifiers can be trained on them.
        return torch.cat(parts).clone(), torch.cat(labels).clone()

    def progress(self, done: int, total: int, unit: str) -> None:
        self._context.report.progress(done, total, unit)


class Downstream(Stage):
    """Trains a task; its test is the evaluate stage's, so test images are read in one place only."""

    def __init__(self, payload: DownstreamStage) -> None:
        """Take the model, the policy and the task."""
        self.payload = payload

    def run(self, context: StageContext) -> StageResult:
        """Write weights.safetensors; metrics: those of the training, and of the last look at held-out images."""
        payload = self.payload
        inputs = model_inputs(context, payload.model, payload.data)
        torch.manual_seed(key_of(context.job.seed or 0, "downstream/init"))
        task, encoder = build_task(payload.model, payload.embed, payload.task, inputs, payload.input_dropout)
        norm = encoder.backbone.norm
        if "pretrain" in context.inputs:
            load_encoder(encoder, context.input("pretrain") / "weights.safetensors")
            if getattr(payload.task, "final_norm", "pretrained") == "fresh" and isinstance(norm, nn.LayerNorm):
                norm.reset_parameters()
        task.to(context.device)
        policy = build_policy(context, payload.policy, payload.adapt, inputs)
        feed = feed_of(context, payload.model, payload.data, "train")
        trainer = _Trainer(context, feed, policy, task, getattr(payload.task, "terms", ()))
        metrics = task.train_with(trainer)
        save_weights(task.state_dict(), context.output / "weights.safetensors")
        if trainer.average is not None:
            prefix = next(name for name, module in task.named_modules() if module is trainer.trained)
            averaged = {f"{prefix}.{name}": value for name, value in trainer.average.items()}
            save_weights({**task.state_dict(), **averaged}, context.output / "average.safetensors")
        return StageResult(metrics, describe_model(task))


def build(payload: DownstreamStage) -> Downstream:
    """Return the stage for a payload."""
    return Downstream(payload)
