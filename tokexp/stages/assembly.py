"""Putting components together: the codes, models, policies and feeds that several stages need in the same way."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tokexp.augment.adapt_networks import AdaptNetworks
from tokexp.augment.base import AugmentContext
from tokexp.augment.policy import Policy
from tokexp.data.base import ImageSource
from tokexp.engine import processes
from tokexp.engine.batches import Feed, PixelFeed, SoftLabelFeed, TokenFeed
from tokexp.engine.reporting import Stopped
from tokexp.errors import DamagedError, DataError
from tokexp.models.base import Backbone
from tokexp.models.pixel_input import PixelInput
from tokexp.models.relative_bias import folded
from tokexp.models.token_input import Embedding, OwnTable, TokenInput
from tokexp.registry import implementation
from tokexp.spec.augment import AdaptSpec
from tokexp.spec.backbones import BackboneSpec
from tokexp.spec.data import DataSpec, GivenTokens
from tokexp.spec.tokenizers import TokenizerSpec
from tokexp.stages.base import StageContext
from tokexp.stages.stored_images import StoredImages
from tokexp.storage.decoded import tokens_of
from tokexp.storage.store import TokenStore
from tokexp.tokenizers.base import Codebook, Metric, Tokenizer
from tokexp.tokenizers.coefficient_maps import FACT, book_of


def image_source(data: DataSpec, context: StageContext | None = None) -> ImageSource:
    """Return the images of a data spec.

    With a stage's context, the search for images that cannot be read (`corrupt: skip`) is shown, can be stopped, and
    is made once in a workspace.
    """
    build = implementation("data", data.kind)
    source: ImageSource
    if context is None or getattr(data, "corrupt", "error") != "skip":
        source = build(data)
        return source
    if processes.rank() > 0:
        processes.agreed(False, context.device)  # the first process looks, and leaves its note
    source = build(data, context.unreadable(), partial(_note_looked, context))
    if processes.rank() == 0:
        processes.agreed(False, context.device)
    return source


def _note_looked(context: StageContext, looked: int, total: int) -> None:
    context.report.progress(looked, total, "images looked at")
    if context.stop() and looked < total:
        raise Stopped(f"the search for images that cannot be read was asked to stop at {looked} of {total}")


def image_shape(data: DataSpec) -> tuple[int, int, int]:
    """Return (channels, height, width) of a data spec's images. Raises DataError for released tokens: no images."""
    if isinstance(data, GivenTokens):
        raise DataError("released tokens come without images")
    return data.image_shape()


def codebook_of(store: TokenStore, device: torch.device) -> Codebook:
    """Return the codes of a store, on the device, with the metric of the tokenizer that made them.

    Where the store says that its tokens are levels of coefficients, the book that makes vectors of these.
    """
    codes = torch.from_numpy(np.array(store.codes))
    if FACT in store.facts:
        return book_of(codes, store.facts[FACT]).to(device)
    return Codebook(codes, cast(Metric, store.metric)).to(device)


def load_tokenizer(spec: TokenizerSpec, data: DataSpec, folder: Path, device: torch.device) -> Tokenizer:
    """Return the fitted tokenizer that a tokenizer stage left in `folder`."""
    tokenizer: Tokenizer = implementation("tokenizers", spec.kind)(spec, image_shape(data))
    load_strictly(tokenizer, folder / "tokenizer.safetensors")
    return tokenizer.eval().to(device)


def load_strictly(module: nn.Module, file: Path) -> None:
    """Load weights that must fit name by name. Raises DamagedError with what is missing or unexpected."""
    try:
        module.load_state_dict(load_file(file))
    except (RuntimeError, OSError) as error:
        raise DamagedError(f"{file.name} does not fit the model of this stage: {error}") from error


def save_weights(state: dict[str, Tensor], file: Path) -> None:
    """Write tensors as safetensors, from any device; shared memory is copied apart."""
    save_file({name: value.detach().cpu().contiguous().clone() for name, value in state.items()}, file)


@dataclass(frozen=True)
class Inputs:
    """What a model reads: its channels and grid, the codes if it reads tokens, and the number of classes."""

    channels: int
    stored_grid: tuple[int, int]
    grid: tuple[int, int]
    num_classes: int
    codebook: Codebook | None
    pixel_norm: str = "none"
    token_table: int | None = None


def model_inputs(context: StageContext, model: BackboneSpec, data: DataSpec | None) -> Inputs:
    """Return what the model of this stage reads, from the token store or from the data spec."""
    if model.input == "pixels":
        assert data is not None
        source = image_source(data, context)
        channels, rows, columns = image_shape(data)
        return Inputs(channels, (rows, columns), (rows, columns), len(source.classes), None, model.pixel_norm)
    store = open_store(context, "train")
    codebook = codebook_of(store, context.device)
    stored = codebook.map_grid(store.grid)
    grid = stored if model.grid is None else (model.grid, model.grid)
    table = model.token_table
    return Inputs(table or codebook.width, stored, grid, store.num_classes, codebook, token_table=table)


def open_store(context: StageContext, split: str) -> TokenStore:
    """Return the token store of a split from this stage's tokens input."""
    file = context.input("tokens") / f"{split}.tokens"
    if not file.exists():
        raise DataError(f"the tokens of this experiment have no split {split!r}")
    return TokenStore.open(file)


def feed_of(context: StageContext, model: BackboneSpec, data: DataSpec | None, split: str) -> Feed:
    """Return the resident batches of a split: tokens or pixels, as the model reads.

    Training pixels are those that were stored, with their soft labels, where a policy stored any.
    """
    if model.input == "pixels":
        assert data is not None
        source = image_source(data, context)
        if split != "train" or "images" not in context.inputs:
            return PixelFeed(source, split, context.device)
        stored = StoredImages(data, source, context.input("images"))
        feed = PixelFeed(stored, split, context.device)
        return feed if stored.soft_labels is None else SoftLabelFeed(feed, stored.soft_labels)
    store = open_store(context, split)
    unfold = codebook_of(store, context.device).unfold
    return TokenFeed(tokens_of(store), store.labels, store.num_classes, context.device, unfold)


def build_policy(context: StageContext, steps: tuple[Any, ...], adapt: AdaptSpec | None, inputs: Inputs) -> Policy:
    """Return an augmentation policy, with TokenAdapt's trained networks where it uses them."""
    networks = None
    if adapt is not None:
        assert inputs.codebook is not None
        networks = AdaptNetworks(adapt, inputs.codebook, inputs.stored_grid, inputs.grid)
        load_strictly(networks, context.input("adapt") / "adapt.safetensors")
        networks.requires_grad_(False).eval().to(context.device)
    return Policy(steps, AugmentContext(inputs.grid, inputs.codebook, networks))


def build_backbone(model: BackboneSpec, inputs: Inputs, drop_path: float, positions: str = "learned") -> Backbone:
    """Return a new backbone with random weights (seed the global generator before)."""
    backbone: Backbone = implementation("models", model.kind)(
        model, inputs.channels, inputs.grid, drop_path=drop_path, positions=positions
    )
    return backbone


def build_token_input(inputs: Inputs, how: Embedding, dropout: float = 0.0) -> nn.Module:
    """Return what embeds the values of a batch: the codes as they are, an own table, or pixels normalised."""
    if inputs.codebook is None:
        return PixelInput(inputs.pixel_norm)
    if inputs.token_table is not None:
        return OwnTable(inputs.codebook, inputs.token_table)
    return TokenInput(inputs.codebook, how, dropout)


def describe_model(module: nn.Module) -> dict[str, int]:
    """Return the number of trainable parameters, for the record."""
    return {"parameters": sum(p.numel() for p in module.parameters() if p.requires_grad)}


_ENCODER = ("backbone.", "token_input.")


def encoder_state(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the part of an objective's weights that tasks start from: the backbone and what embeds tokens."""
    return {name: value for name, value in state.items() if name.startswith(_ENCODER)}


def _from_task(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights under the names that they have inside the task's objective, if they are a task's."""
    first = next((name for name in state if "backbone." in name), "")
    prefix = first.partition("backbone.")[0]
    return {name.removeprefix(prefix): value for name, value in state.items()}


def load_encoder(module: nn.Module, file: Path) -> None:
    """Load an encoder's weights into a module with `backbone` and `token_input`; all other weights stay.

    The file holds the encoder alone, or a task's whole model. A table of positions that its blocks shared is folded
    into those of the module's blocks where these have only their own. Raises DamagedError with the names that are
    missing, unexpected or of another shape.
    """
    own = {name: value for name, value in module.state_dict().items() if name.startswith(_ENCODER)}
    state = folded(encoder_state(_from_task(load_file(file))), own)
    wrong = sorted(state.keys() ^ own.keys()) + [n for n in state.keys() & own.keys() if state[n].shape != own[n].shape]
    if wrong:
        raise DamagedError(f"{file.name}: these weights do not fit the model: {', '.join(wrong[:8])}")
    module.load_state_dict(state, strict=False)
