"""The evaluate stage: test a task's model, and save what it said of every image."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from tokexp.augment.policy import Policy
from tokexp.data.base import Batch
from tokexp.engine.reporting import Stopped
from tokexp.evaluation.base import Measure, PixelChange, accuracies, top_k
from tokexp.registry import implementation
from tokexp.spec.data import GivenTokens
from tokexp.spec.stages import EvaluateStage
from tokexp.stages.assembly import build_policy, feed_of, image_source, load_strictly, load_tokenizer, model_inputs
from tokexp.stages.base import Stage, StageContext, StageResult
from tokexp.stages.downstream import build_task
from tokexp.stages.measuring import StandingModel
from tokexp.tasks.base import DownstreamTask

_AT_ONCE = 256


class Evaluation(Stage):
    """Scores the images of a split, changed or not, without augmentation: centre crop, no flips (SeiT)."""

    def __init__(self, payload: EvaluateStage) -> None:
        """Take the model, the task and the test."""
        self.payload = payload

    def run(self, context: StageContext) -> StageResult:
        """Write predictions.npz (ids, labels, best classes, their probabilities); metrics: accuracies in [0, 1]."""
        payload, split = self.payload, self.payload.evaluation.split
        inputs = model_inputs(context, payload.model, payload.data)
        task, encoder = build_task(payload.model, payload.embed, payload.task, inputs)
        load_strictly(task, context.input("downstream") / "weights.safetensors")
        task.to(context.device).eval()
        shape = (1, 1, 1) if isinstance(payload.data, GivenTokens) else payload.data.image_shape()
        change = implementation("evaluation", payload.evaluation.kind)(payload.evaluation, shape)
        policy = build_policy(context, (), None, inputs)
        if isinstance(change, Measure):
            model = StandingModel(encoder.backbone, encoder.token_input, context, payload.model, payload.data, policy)
            return StageResult(change.measure(model), {"split": split})
        unfold = inputs.codebook.unfold if inputs.codebook is not None else _as_stored
        batches = self._unchanged(context, split) if change is None else self._changed(context, split, change, unfold)
        best, chances, labels = _score(task, policy, batches, context)
        source = implementation("data", payload.data.kind)(payload.data)
        np.savez(
            context.output / "predictions.npz", ids=np.array(source.sample_ids(split)), labels=labels.numpy(),
            best=best.numpy().astype(np.int32), probabilities=chances.numpy().astype(np.float32),
        )  # fmt: skip
        metrics = accuracies(best, labels)
        average = context.input("downstream") / "average.safetensors"
        if average.exists():
            load_strictly(task, average)
            found = accuracies(*_score(task, policy, batches, context)[::2])
            metrics |= {f"{name}_average": value for name, value in found.items()}
        return StageResult(metrics, {"images": len(labels), "split": split})

    def _unchanged(self, context: StageContext, split: str) -> "list[_Lazy]":
        feed = feed_of(context, self.payload.model, self.payload.data, split)
        return [_Lazy(places, lambda p: feed.batch(torch.tensor(p))) for places in _parts(feed.num_images)]

    def _changed(
        self, context: StageContext, split: str, change: PixelChange, unfold: Callable[[Tensor], Tensor]
    ) -> "list[_Lazy]":
        payload = self.payload
        source = image_source(payload.data, context)
        labels, classes = source.labels(split), len(source.classes)
        tokenizer = table = None
        if payload.model.input == "tokens":
            assert payload.tokenizer is not None
            tokenizer = load_tokenizer(payload.tokenizer, payload.data, context.input("tokenizer"), context.device)
            saved = np.load(context.input("tokens") / "table.npy", allow_pickle=False)
            table = torch.from_numpy(saved.astype(np.int64)).to(context.device)

        def read(places: list[int]) -> Batch:
            pixels = change(source.read(split, places), places).to(context.device)
            wanted = torch.from_numpy(labels[places]).to(context.device)
            if tokenizer is None or table is None:
                return Batch(wanted, classes, values=pixels)
            return Batch(wanted, classes, indices=unfold(table[tokenizer.encode(pixels)]))

        return [_Lazy(places, read) for places in _parts(len(labels))]


def _as_stored(indices: Tensor) -> Tensor:
    return indices


class _Lazy:
    """A part of the test images that is read when it is needed."""

    def __init__(self, places: list[int], read: object) -> None:
        self.places, self._read = places, read

    def batch(self) -> Batch:
        assert callable(self._read)
        found: Batch = self._read(self.places)
        return found


def _parts(count: int) -> list[list[int]]:
    return [list(range(start, min(start + _AT_ONCE, count))) for start in range(0, count, _AT_ONCE)]


def _score(
    task: DownstreamTask, policy: Policy, batches: list[_Lazy], context: StageContext
) -> tuple[Tensor, Tensor, Tensor]:
    """Return best classes (n, k), their probabilities (n, k) and labels (n,), on the CPU."""
    best, chances, labels = [], [], []
    with torch.inference_mode():
        for number, part in enumerate(batches):
            batch = policy.centre(part.batch())
            assert batch.values is not None
            found = top_k(task.logits(batch.values))
            best.append(found[0].cpu())
            chances.append(found[1].cpu())
            labels.append(batch.labels.cpu())
            context.report.progress(number + 1, len(batches), "batches")
            if context.stop():
                raise Stopped("the evaluation was asked to stop")
    return torch.cat(best), torch.cat(chances), torch.cat(labels)


def build(payload: EvaluateStage) -> Evaluation:
    """Return the stage for a payload."""
    return Evaluation(payload)
