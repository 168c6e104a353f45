"""The pretrain stage: train an objective on tokens (or pixels), and keep the encoder for the tasks."""

import torch

from tokexp.engine.loop import Phase
from tokexp.engine.randomness import key_of
from tokexp.models.token_input import Embedding
from tokexp.objectives.base import Objective, ObjectiveContext
from tokexp.registry import implementation
from tokexp.spec.stages import PretrainStage
from tokexp.stages.assembly import (
    build_backbone,
    build_token_input,
    describe_model,
    encoder_state,
    model_inputs,
    save_weights,
)
from tokexp.stages.base import Stage, StageContext, StageResult
from tokexp.stages.targets import frozen_target
from tokexp.stages.term_training import fit_with_terms
from tokexp.stages.training_source import training_source


class Pretraining(Stage):
    """Backbone, objective, policy and data come together here; the loop does the rest."""

    def __init__(self, payload: PretrainStage) -> None:
        """Take the model, the policy and the objective."""
        self.payload = payload

    def run(self, context: StageContext) -> StageResult:
        """Write weights.safetensors (the encoder, and its average if the phase keeps one)."""
        payload, seed = self.payload, context.job.seed or 0
        inputs = model_inputs(context, payload.model, payload.data)
        source = training_source(context, payload, inputs)
        target = frozen_target(context, payload, inputs)
        torch.manual_seed(key_of(seed, "pretrain/init"))
        backbone = build_backbone(
            payload.model, inputs, getattr(payload.objective, "drop_path", 0.0), positions_of(payload.objective.kind)
        )
        embed: Embedding = getattr(payload.objective, "input", "codebook")
        dropout: float = getattr(payload.objective, "input_dropout", 0.0)
        token_input = build_token_input(inputs, embed, dropout)
        trained = ObjectiveContext(
            backbone, token_input, inputs.num_classes, inputs.codebook, source.target_codes, target
        )
        objective: Objective = implementation("objectives", payload.objective.kind)(payload.objective, trained)
        phase = Phase(
            "pretrain", payload.objective.train, seed, context.device, context.scratch, context.report, context.stop
        )
        terms = getattr(payload.objective, "terms", ())
        result = fit_with_terms(objective, terms, source.feed, source.augment, phase, target)
        save_weights(encoder_state(objective.state_dict()), context.output / "weights.safetensors")
        if result.average is not None:
            save_weights(encoder_state(result.average), context.output / "average.safetensors")
        return StageResult(result.metrics, describe_model(objective) | {"steps": result.steps})


def positions_of(kind: str) -> str:
    """Return how positions start: fixed sines where the encoder sees some patches alone (MAE, CAE), or learned."""
    return "sincos" if kind in ("mtm", "mae", "cae") else "learned"


def build(payload: PretrainStage) -> Pretraining:
    """Return the stage for a payload."""
    return Pretraining(payload)
