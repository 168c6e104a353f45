"""What each stage is told: the parts of an experiment that decide its result, and nothing else.

A stage reads its payload alone, so that whatever it uses is part of its key. The planner cuts payloads out of an
experiment; the worker gets one as JSON.
"""

from typing import Annotated, Literal

from pydantic import Field

from tokexp.spec.augment import AdaptSpec, Step
from tokexp.spec.base import Spec, added
from tokexp.spec.data import DataSpec
from tokexp.spec.evaluation import EvaluationSpec
from tokexp.spec.models import ModelSpec
from tokexp.spec.objectives import ObjectiveSpec
from tokexp.spec.storage import StorageSpec
from tokexp.spec.target_source import TargetSource
from tokexp.spec.tasks import TaskSpec
from tokexp.spec.tokenizers import TokenizerSpec

StageKind = Literal["tokenizer", "tokens", "images", "adapt", "pretrain", "downstream", "evaluate"]


class TokenizerStage(Spec):
    """Fit or train a tokenizer on the training images. Output: tokenizer.safetensors."""

    kind: Literal["tokenizer"]
    data: DataSpec = Field(description="The images.")
    tokenizer: TokenizerSpec = Field(description="What to fit.")
    weights: str | None = added(None, description="Digest of the checkpoint's content, for weights from a file.")


class TokensStage(Spec):
    """Encode the data within the budget. Inputs: tokenizer (none for released tokens). Output: a store per split."""

    kind: Literal["tokens"]
    data: DataSpec = Field(description="The images or released tokens.")
    tokenizer: TokenizerSpec | None = Field(None, description="How the tokenizer is rebuilt.")
    storage: StorageSpec = Field(description="What is kept, and how.")
    search: Literal["exact", "close"] = added(
        "exact", description="How the images within a budget are found; close, for slow codecs, tries few sizes."
    )
    names_weights: bool = added(
        False, description="Whether stores say whose weights made them: codes that are computed do not tell trainings "
        "apart."
    )  # fmt: skip


class ImagesStage(Spec):
    """Store what a policy leaves of the training images, within the budget. Output: train.images."""

    kind: Literal["images"]
    data: DataSpec = Field(description="The images.")
    storage: StorageSpec = Field(description="The policy, and what is kept.")
    source: str | None = Field(None, description="Digest of the file that the policy reads.")


class AdaptStage(Spec):
    """Train TokenAdapt's two networks. Inputs: tokenizer, tokens. Output: adapt.safetensors."""

    kind: Literal["adapt"]
    data: DataSpec = Field(description="The images; only those kept in the store are used.")
    tokenizer: TokenizerSpec = Field(description="How the tokenizer is rebuilt.")
    adapt: AdaptSpec = Field(description="The networks and their training.")
    grid: int | None = Field(None, description="Side of the grid that models read; the stored one if not given.")


class PretrainStage(Spec):
    """Train the objective. Inputs: tokens, images, adapt, tokenizer, teacher, where used. Output: the weights."""

    kind: Literal["pretrain"]
    data: DataSpec | None = Field(None, description="The images, for a model that reads pixels.")
    model: ModelSpec = Field(description="The backbone.")
    policy: tuple[Step, ...] = Field(description="The augmentation.")
    adapt: AdaptSpec | None = Field(None, description="How TokenAdapt is rebuilt.")
    objective: ObjectiveSpec = Field(description="What is learned from.")
    tokenizer: TokenizerSpec | None = added(None, description="How the tokenizer of the targets is rebuilt.")
    target: TargetSource | None = added(None, description="What the network that it learns from is made of.")


class DownstreamStage(Spec):
    """Train a task. Inputs: as pretrain, and pretrain itself unless from scratch. Output: the task's weights."""

    kind: Literal["downstream"]
    data: DataSpec | None = Field(None, description="The images, for a model that reads pixels.")
    model: ModelSpec = Field(description="The backbone.")
    embed: Literal["codebook", "learned"] = Field(description="What embeds a token, as in the pre-training.")
    input_dropout: float = Field(0.0, description="Dropout on rows of an own table, as in the pre-training.")
    policy: tuple[Step, ...] = Field(description="The augmentation.")
    adapt: AdaptSpec | None = Field(None, description="How TokenAdapt is rebuilt.")
    task: TaskSpec = Field(description="What is trained.")


class EvaluateStage(Spec):
    """Test a task's model. Inputs: downstream, tokens, tokenizer where pixels are changed. Output: predictions."""

    kind: Literal["evaluate"]
    data: DataSpec = Field(description="The images or released tokens.")
    tokenizer: TokenizerSpec | None = Field(None, description="How the tokenizer is rebuilt.")
    model: ModelSpec = Field(description="The backbone.")
    embed: Literal["codebook", "learned"] = Field(description="What embeds a token.")
    task: TaskSpec = Field(description="What was trained.")
    evaluation: EvaluationSpec = Field(description="The test.")
    files: dict[str, str] = added({}, description="Digests of the contents of files that the test reads, by field.")


StagePayload = Annotated[
    TokenizerStage | TokensStage | ImagesStage | AdaptStage | PretrainStage | DownstreamStage | EvaluateStage,
    Field(discriminator="kind"),
]
VERSIONS: dict[StageKind, int] = {
    "tokenizer": 1, "tokens": 1, "images": 1, "adapt": 1, "pretrain": 1, "downstream": 1, "evaluate": 1,
}  # fmt: skip
"""Version of each stage's implementation: raised by hand when the same payload would give another result."""


class StageJob(Spec):
    """One stage as the worker gets it: `job.json` in the attempt's folder. Paths, device and label decide nothing."""

    key: str = Field(min_length=8, description="The stage key, in hex.")
    payload: StagePayload = Field(description="What to do.")
    seed: int | None = Field(None, description="The run's seed, for stages that use it.")
    inputs: dict[str, str] = Field({}, description="Role (tokens, adapt, ...) to stage key.")
    fingerprint: str | None = Field(None, description="Of the data, as the planner saw it.")
    workspace: str = Field(description="The workspace's folder, absolute.")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="What to compute on.")
    threads: int = Field(2, ge=1, description="CPU threads.")
    gpus: int = Field(0, ge=0, description="GPUs of all machines together, for the account of what it cost.")
    allowance: float | None = Field(None, gt=0, description="Seconds that the attempt may work; None: no limit.")
    cwd: str = Field("", description="The folder that relative paths are seen from; the worker's own if empty.")
    label: str = Field("", description="For people: what and in which experiment.")
