"""The graph of stages that an experiment needs, equal stages merged.

tokenizer -> tokens -> adapt -> pretrain -> downstream -> evaluate; a stage that a spec does not ask for is not there.
A model of pixels has tokens only as the targets of its pre-training.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial

from tokexp.data.listing import ABSENT
from tokexp.data.listing import fingerprint as data_fingerprint
from tokexp.errors import InputError
from tokexp.plan.checkpoints import checkpoint_digest
from tokexp.plan.keys import digest, stage_key
from tokexp.plan.teachers import content_of, other_experiment, take_from, weights_source
from tokexp.spec.augment import AdaptSpec, TokenAdapt, walk_steps
from tokexp.spec.backbones import BackboneSpec
from tokexp.spec.base import Spec
from tokexp.spec.check_origins import misfits
from tokexp.spec.data import GivenTokens
from tokexp.spec.evaluation import Clean, Corruption, EvaluationSpec
from tokexp.spec.experiment import Experiment
from tokexp.spec.morphing_terms import target_of
from tokexp.spec.patch_predictions import SpatialInconsistency
from tokexp.spec.resources import Resources
from tokexp.spec.stages import (
    AdaptStage,
    DownstreamStage,
    EvaluateStage,
    ImagesStage,
    PretrainStage,
    StageKind,
    TokenizerStage,
    TokensStage,
)
from tokexp.spec.storage import StorageSpec
from tokexp.spec.target_source import TargetSource
from tokexp.spec.tasks import TaskSpec
from tokexp.spec.teachers import TeacherTarget, TimmTarget
from tokexp.spec.token_targets import PredictsTokens
from tokexp.spec.tokenizers import VqVae


@dataclass(frozen=True)
class StageNode:
    """One unit of work with one output. `inputs` maps a role to the key of the stage that fills it."""

    key: str
    kind: StageKind
    name: str
    payload: Spec
    seed: int | None
    inputs: Mapping[str, str]
    fingerprint: str | None
    resources: Resources
    label: str


@dataclass(frozen=True)
class Plan:
    """All stages of an experiment, each once, inputs before what needs them.

    `seeds` maps each seed to the key of every named stage (`tokens`, `pretrain`, `finetune`, `finetune/noise`, ...).
    """

    name: str
    spec_hash: str
    nodes: tuple[StageNode, ...]
    seeds: Mapping[int, Mapping[str, str]]

    def node(self, key: str) -> StageNode:
        """Return the node with this key. Raises KeyError if there is none."""
        return {node.key: node for node in self.nodes}[key]

    def keys(self) -> set[str]:
        """Return the keys of all stages."""
        return {node.key for node in self.nodes}


def build_plan(experiment: Experiment, *, strict: bool = True) -> Plan:
    """Return the plan of an experiment for all of its seeds.

    With `strict` off, data that is not on this machine gets the fingerprint "absent" instead of a DataError, so that a
    plan can be looked at anywhere; such keys are not those of a run.
    """
    nodes, seeds = stages_of(experiment, data_fingerprint(experiment.data, strict=strict), strict=strict)
    relevant = {name: value for name, value in experiment.relevant().items() if name not in _NOT_IDENTITY}
    return Plan(experiment.name, digest([relevant, experiment.name]), tuple(nodes.values()), seeds)


def stages_of(
    experiment: Experiment, fingerprint: str, above: tuple[str, ...] = (), *, strict: bool = True
) -> tuple[dict[str, StageNode], dict[int, dict[str, str]]]:
    """Return the stages of an experiment by key, inputs first, and for each seed the key of every named stage.

    `fingerprint` is that of its data. `above` are the files of experiments for whose sake this one is planned. With
    `strict` off, a checkpoint that is not on this machine is "absent" instead of a DataError.
    """
    builder = _Builder(experiment, fingerprint, above, strict)
    seeds = {seed: builder.run_of(seed) for seed in experiment.seeds}
    return builder.nodes, seeds


_NOT_IDENTITY = ("resources", "track", "name")


@dataclass
class _Builder:
    experiment: Experiment
    fingerprint: str
    above: tuple[str, ...] = ()
    strict: bool = True
    nodes: dict[str, StageNode] = field(default_factory=dict)

    def run_of(self, seed: int) -> dict[str, str]:
        """Add what one seed needs and return its keys by name."""
        named = self._token_stages()
        if self.experiment.until is not None:
            return named
        reads_tokens = self.experiment.model.input == "tokens"
        shared = {"tokens": named["tokens"]} if reads_tokens else self._stored_images(named)
        if self.experiment.objective is not None:
            named["pretrain"] = self._pretrain(seed, shared | self._target_inputs(named), named)
        for name, task in self.experiment.tasks.items():
            named[name] = self._downstream(seed, name, task, shared, named)
            for test, evaluation in self._evaluations().items():
                named[f"{name}/{test}"] = self._evaluate(name, test, task, evaluation, named)
        return named

    def _add(
        self, kind: StageKind, name: str, payload: Spec, inputs: Mapping[str, str], label: str, *,
        seed: int | None = None, reads_data: bool = False,
    ) -> str:  # fmt: skip
        fingerprint = self.fingerprint if reads_data else None
        key = stage_key(kind, payload, inputs, fingerprint, seed)
        resources = self.experiment.resources_for(kind)
        node = StageNode(key, kind, name, payload, seed, dict(inputs), fingerprint, resources, label)
        self.nodes.setdefault(key, node)
        return key

    def _token_stages(self) -> dict[str, str]:
        spec, named, targets = self.experiment, dict[str, str](), self._targets()
        if spec.model.input == "pixels" and targets is None and spec.until is None:
            return named
        if spec.tokenizer is not None:
            weights = checkpoint_digest(spec.tokenizer, strict=self.strict)
            fit = TokenizerStage(kind="tokenizer", data=spec.data, tokenizer=spec.tokenizer, weights=weights)
            named["tokenizer"] = self._add("tokenizer", "tokenizer", fit, {}, spec.tokenizer.kind, reads_data=True)
        if targets == "encoded" and spec.until is None:
            return named
        tokens = TokensStage(
            kind="tokens", data=spec.data, tokenizer=spec.tokenizer, storage=spec.storage,
            search="close" if spec.storage.slow_to_fit() else "exact",
            names_weights=isinstance(spec.tokenizer, VqVae) and spec.tokenizer.shares_codes(),
        )  # fmt: skip
        label = f"{spec.data.kind}, {spec.storage.codec.kind}"
        named["tokens"] = self._add("tokens", "tokens", tokens, dict(named), label, reads_data=True)
        if spec.until is None and (self._adapt_of("pretrain") or self._adapt_of("task")):
            named["adapt"] = self._adapt(named)
        return named

    def _stored_images(self, named: dict[str, str]) -> dict[str, str]:
        """Add what a policy stores of the images that the model reads; return it as an input, if there is one."""
        spec = self.experiment
        if spec.storage.reduce is None:
            return {}
        # The codec is for tokens: two policies that differ in it alone are one stage.
        storage = spec.storage.model_copy(update={"codec": StorageSpec().codec})
        file, strict = getattr(spec.storage.reduce, "file", None), self.fingerprint != ABSENT
        source = None if file is None else content_of(file, "storage.reduce.file", strict=strict)
        payload = ImagesStage(kind="images", data=spec.data, storage=storage, source=source)
        label = f"{spec.data.kind}, {spec.storage.reduce.kind}"
        named["images"] = self._add("images", "images", payload, {}, label, reads_data=True)
        return {"images": named["images"]}

    def _targets(self) -> str | None:
        """Return where the tokens to predict come from that are not those the model reads: `stored` or `encoded`."""
        objective = self.experiment.objective
        if not isinstance(objective, PredictsTokens) or self.experiment.model.input == "tokens":
            return None
        return objective.targets

    def _target_inputs(self, named: Mapping[str, str]) -> dict[str, str]:
        role = {"stored": "tokens", "encoded": "tokenizer"}.get(self._targets() or "")
        return {} if role is None else {role: named[role]}

    def _learned_from(self, named: Mapping[str, str]) -> tuple[dict[str, str], TargetSource | None]:
        """Return the inputs and the payload's part for the network that the objective learns from."""
        target, strict = target_of(self.experiment.objective), self.fingerprint != ABSENT
        if isinstance(target, TimmTarget) and target.weights is not None:
            return {}, weights_source(target.weights, strict=strict)
        if not isinstance(target, TeacherTarget):
            return {}, None
        origin, other, above, fingerprint = target.origin, self.experiment, self.above, self.fingerprint
        if origin.experiment is None:
            other = other.model_copy(update={"objective": None})
        else:
            other, above = other_experiment(origin, above)
            fingerprint = data_fingerprint(other.data, strict=strict)
        for _, message in misfits(self.experiment, origin, other):
            raise InputError(f"from: {message}")
        tokenizer = named.get("tokenizer", "") if self.experiment.model.input == "tokens" else None
        add = partial(self._add_teacher, foreign=origin.experiment is not None)
        key, source = take_from(origin, stages_of(other, fingerprint, above, strict=self.strict), add, tokenizer)
        assert source.role is not None
        return {source.role: key}, source

    def _add_teacher(self, node: StageNode, foreign: bool) -> None:
        self.nodes.setdefault(node.key, replace(node, name=f"from/{node.name}") if foreign else node)

    def _adapt(self, named: Mapping[str, str]) -> str:
        spec = self.experiment
        if spec.tokenizer is None or isinstance(spec.data, GivenTokens):
            raise ValueError("token_adapt needs pixels and a tokenizer to be trained")
        payload = AdaptStage(
            kind="adapt", data=spec.data, tokenizer=spec.tokenizer, adapt=spec.augment.adapt, grid=spec.model.grid
        )
        return self._add("adapt", "adapt", payload, dict(named), "token_adapt", reads_data=True)

    def _adapt_of(self, phase: str) -> AdaptSpec | None:
        policy = self.experiment.augment.pretrain if phase == "pretrain" else self.experiment.augment.task
        used = (phase != "pretrain" or self.experiment.objective is not None) and any(
            isinstance(step, TokenAdapt) for step in walk_steps(policy)
        )
        return self.experiment.augment.adapt if used else None

    def _training_inputs(self, phase: str, shared: Mapping[str, str], named: Mapping[str, str]) -> dict[str, str]:
        adapt = {"adapt": named["adapt"]} if self._adapt_of(phase) else {}
        return {**shared, **adapt}

    def _pretrain(self, seed: int, shared: Mapping[str, str], named: Mapping[str, str]) -> str:
        spec = self.experiment
        assert spec.objective is not None
        pixels = spec.model.input == "pixels"
        teacher, target = self._learned_from(named)
        payload = PretrainStage(
            kind="pretrain", data=spec.data if pixels else None, model=spec.model, policy=spec.augment.pretrain,
            adapt=self._adapt_of("pretrain"), objective=spec.objective,
            tokenizer=spec.tokenizer if self._targets() == "encoded" else None, target=target,
        )  # fmt: skip
        inputs = self._training_inputs("pretrain", shared, named) | teacher
        label = f"{spec.objective.kind} {self._model_label()}"
        return self._add("pretrain", "pretrain", payload, inputs, label, seed=seed, reads_data=pixels)

    def _starts_pretrained(self, task: TaskSpec) -> bool:
        return self.experiment.objective is not None and task.init != "scratch"

    def _model(self, task: TaskSpec) -> BackboneSpec:
        model = self.experiment.model
        return model.tuned() if self._starts_pretrained(task) else model

    def _embed(self, task: TaskSpec) -> str:
        if not self._starts_pretrained(task):
            return "codebook"
        return str(getattr(self.experiment.objective, "input", "codebook"))

    def _input_dropout(self, task: TaskSpec) -> float:
        learned = self._embed(task) == "learned" and task.kind == "classify"
        return float(getattr(self.experiment.objective, "input_dropout", 0.0)) if learned else 0.0

    def _downstream(
        self, seed: int, name: str, task: TaskSpec, shared: Mapping[str, str], named: Mapping[str, str]
    ) -> str:
        spec, pixels = self.experiment, self.experiment.model.input == "pixels"
        trains = task.kind == "classify"
        payload = DownstreamStage.model_validate(
            {
                "kind": "downstream", "data": spec.data if pixels else None,
                "model": self._model(task), "embed": self._embed(task), "input_dropout": self._input_dropout(task),
                "policy": spec.augment.task if trains else (),
                "adapt": self._adapt_of("task") if trains else None, "task": task,
            }
        )  # fmt: skip
        inputs = self._training_inputs("task", shared, named) if trains else dict(shared)
        if self._starts_pretrained(task):
            inputs["pretrain"] = named["pretrain"]
        label = f"{task.kind} {self._model_label()}"
        return self._add("downstream", name, payload, inputs, label, seed=seed, reads_data=pixels)

    def _evaluations(self) -> dict[str, EvaluationSpec]:
        given: dict[str, EvaluationSpec] = dict(self.experiment.evaluate)
        if not any(isinstance(item, Clean) and item.split == "test" for item in given.values()):
            given = {"clean": Clean(kind="clean"), **given}
        return given

    def _evaluate(
        self, name: str, test: str, task: TaskSpec, evaluation: EvaluationSpec, named: Mapping[str, str]
    ) -> str:
        spec, pixels = self.experiment, self.experiment.model.input == "pixels"
        changes_pixels = isinstance(evaluation, Corruption)
        payload = EvaluateStage.model_validate(
            {
                "kind": "evaluate", "data": spec.data, "tokenizer": None if pixels else spec.tokenizer,
                "model": self._model(task), "embed": self._embed(task), "task": task, "evaluation": evaluation,
                "files": self._files_of(test, evaluation),
            }
        )  # fmt: skip
        inputs = {"downstream": named[name]}
        if not pixels:
            inputs["tokens"] = named["tokens"]
        elif "images" in named and not isinstance(evaluation, (Clean, Corruption)):
            inputs["images"] = named["images"]  # a measure may train on the training images
        if changes_pixels and not pixels and "tokenizer" in named:
            inputs["tokenizer"] = named["tokenizer"]
        return self._add("evaluate", f"{name}/{test}", payload, inputs, _describe(evaluation), reads_data=True)

    def _files_of(self, name: str, evaluation: EvaluationSpec) -> dict[str, str]:
        """Return digests of what a test reads from files."""
        if not isinstance(evaluation, SpatialInconsistency):
            return {}
        weights = None if evaluation.encoder is None else evaluation.encoder.weights
        named = {"encoder.weights": weights, "text": evaluation.text}
        strict = self.fingerprint != ABSENT
        return {
            field: content_of(file, f"evaluate.{name}.{field}", strict=strict)
            for field, file in named.items()
            if file is not None
        }

    def _model_label(self) -> str:
        return self.experiment.model.label()


def _describe(evaluation: EvaluationSpec) -> str:
    return f"{evaluation.name} {evaluation.severity}" if isinstance(evaluation, Corruption) else evaluation.kind
