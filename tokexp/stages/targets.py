"""The network that an objective learns from, built and loaded where the stage can see files and inputs."""

from pathlib import Path

import torch

from tokexp.durable import file_digest
from tokexp.engine.randomness import key_of
from tokexp.errors import InputError
from tokexp.objectives.targets.base import Target
from tokexp.registry import implementation
from tokexp.spec.morphing_terms import target_of
from tokexp.spec.stages import PretrainStage
from tokexp.spec.teachers import TeacherTarget, TimmTarget
from tokexp.stages.assembly import (
    Inputs,
    build_backbone,
    build_token_input,
    image_shape,
    load_encoder,
    model_inputs,
)
from tokexp.stages.base import StageContext
from tokexp.stages.downstream import Encoder

_WEIGHTS = "weights.safetensors"


def frozen_target(context: StageContext, payload: PretrainStage, inputs: Inputs) -> Target | None:
    """Return the frozen network of a payload, on the device; None where the objective has none or keeps an average."""
    spec = target_of(payload.objective)
    target: Target | None = None
    if isinstance(spec, TimmTarget):
        assert payload.data is not None
        _check_weights(spec, payload)
        torch.manual_seed(key_of(context.job.seed or 0, "pretrain/target"))
        shared = build_token_input(inputs, "codebook")
        target = implementation("targets", spec.kind)(spec, image_shape(payload.data), shared)
    elif isinstance(spec, TeacherTarget):
        encoder = _trained(context, payload)
        target = implementation("targets", spec.kind)(spec, encoder.backbone, encoder.token_input)
    return None if target is None else target.to(context.device)


def _check_weights(spec: TimmTarget, payload: PretrainStage) -> None:
    planned = None if payload.target is None else payload.target.weights
    if spec.weights is not None and planned != file_digest(Path(spec.weights).expanduser()):
        raise InputError(f"target.weights: {spec.weights} is not the file that was planned with; start the run again")


def _trained(context: StageContext, payload: PretrainStage) -> Encoder:
    """Return the encoder that an earlier stage trained."""
    source = payload.target
    assert source is not None
    assert source.model is not None
    assert source.role is not None
    inputs = model_inputs(context, source.model, payload.data)
    encoder = Encoder(build_backbone(source.model, inputs, 0.0), build_token_input(inputs, source.embed))
    load_encoder(encoder, context.input(source.role) / _WEIGHTS)
    return encoder
