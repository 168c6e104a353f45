"""The adapt stage: train TokenAdapt's f and g on pairs of the tokens of an image and of its augmented pixels.

Source: SeiT++ section 4.7 (no code was released). The map between f and g gets the same geometry, with the same
drawn parameters, as the pixels do; the target is the token map of the changed pixels, cropped to the models' grid.
"""

import json

import numpy as np
import torch
from torch import Tensor

from tokexp.augment.adapt_networks import AdaptNetworks
from tokexp.augment.adapt_outputs import chosen, distance
from tokexp.augment.crops import centre_crop
from tokexp.augment.geometry import apply, draw
from tokexp.data.base import Batch
from tokexp.engine.batches import PixelFeed
from tokexp.engine.loop import Phase, fit
from tokexp.engine.randomness import key_of
from tokexp.objectives.base import Objective, StepOutput
from tokexp.spec.augment import AdaptSpec, Geometry
from tokexp.spec.stages import AdaptStage
from tokexp.stages.assembly import codebook_of, describe_model, image_source, load_tokenizer, open_store, save_weights
from tokexp.stages.base import Stage, StageContext, StageResult
from tokexp.storage.budget import keep_order
from tokexp.tokenizers.base import Codebook, Tokenizer

_MEASURED = 512


class AdaptObjective(Objective):
    """How far g's outputs are from the indices of the augmented pixels."""

    def __init__(
        self, networks: AdaptNetworks, tokenizer: Tokenizer, codebook: Codebook, table: Tensor, geometry: Geometry
    ) -> None:
        """Take the networks to train; `table` maps the tokenizer's indices to the stored codes."""
        super().__init__()
        self.networks, self.geometry = networks, geometry
        # Not submodules: they are neither trained nor part of a checkpoint.
        self._frozen = (tokenizer, codebook, table)

    @property
    def codebook(self) -> Codebook:
        """Return the stored codes."""
        return self._frozen[1]

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def tokens(self, images: Tensor) -> Tensor:
        """Return stored-code indices of pixels, (B, rows, columns) or as the codebook unfolds them."""
        tokenizer, codebook, table = self._frozen
        with torch.no_grad(), torch.autocast(images.device.type, enabled=False):
            indices: Tensor = codebook.unfold(table[tokenizer.encode(images)])
        return indices

    def predict(self, images: Tensor, geometry: Geometry, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return g's logits (B, h*w, K) and the target indices (B, h*w) for one draw of the geometry.

        Of coefficients (B, h*w, d) in place of logits, and their indices (B, d, h*w).

        Both sides are changed at the full size of the picture; the middle that the model's grid covers is compared.
        """
        codebook = self.codebook
        drawn = draw(geometry, len(images), generator)
        changed = apply(images, drawn, (images.shape[2], images.shape[3])).clamp(0, 1)
        targets = centre_crop(self.tokens(changed), self.networks.model_grid)
        # Geometry needs more than the 8 bits that bfloat16 has for a position.
        space = self.networks.to_space(codebook.lookup(self.tokens(images))).float()
        space = apply(space, drawn, (space.shape[2], space.shape[3]))
        return self.networks.to_logits(centre_crop(space, self.networks.space_size)), targets.flatten(-2)

    def met(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the share () of the targets that g's outputs stand for."""
        found = chosen(logits.float(), self.codebook, self.networks.model_grid).flatten(-2)
        return (found == targets).float().mean()

    def forward(self, batch: Batch, generator: torch.Generator) -> StepOutput:
        """Return the loss on one batch of pixels, and the share of indices that were met."""
        assert batch.values is not None
        logits, targets = self.predict(batch.values, self.geometry, generator)
        met = self.met(logits.detach(), targets)
        return StepOutput(distance(logits.float(), targets, self.codebook), {"accuracy": met})


class AdaptTraining(Stage):
    """Trains the networks on the images that the token store keeps."""

    def __init__(self, payload: AdaptStage) -> None:
        """Take the networks' spec and what they are trained on."""
        self.payload = payload

    def run(self, context: StageContext) -> StageResult:
        """Write adapt.safetensors; metrics: accuracy on pairs, and the share of ids kept without any geometry."""
        spec = self.payload.adapt
        source = image_source(self.payload.data, context)
        store = open_store(context, "train")
        tokenizer = load_tokenizer(
            self.payload.tokenizer, self.payload.data, context.input("tokenizer"), context.device
        ).requires_grad_(False)
        codebook = codebook_of(store, context.device)
        table = torch.from_numpy(np.load(context.input("tokens") / "table.npy", allow_pickle=False).astype(np.int64))
        stored = codebook.map_grid(store.grid)
        grid = stored if self.payload.grid is None else (self.payload.grid, self.payload.grid)
        torch.manual_seed(key_of(spec.seed, "adapt/init"))
        networks = AdaptNetworks(spec, codebook, stored, grid)
        objective = AdaptObjective(networks, tokenizer, codebook, table.to(context.device), spec.geometry)
        kept = np.array(json.loads((context.input("tokens") / "kept.json").read_text())["train"])
        feed = PixelFeed(source, "train", context.device, _chosen(kept, source.labels("train"), spec))
        phase = Phase("adapt", spec.train, spec.seed, context.device, context.scratch, context.report, context.stop)
        result = fit(objective, feed, lambda batch, _: batch, phase)
        save_weights(networks.state_dict(), context.output / "adapt.safetensors")
        metrics = result.metrics | {"recovery": _recovery(objective, feed, context.device)}
        return StageResult(metrics, describe_model(networks))


def _chosen(kept: np.ndarray, labels: np.ndarray, spec: AdaptSpec) -> list[int]:
    """Return at most `spec.images` of the kept positions, balanced over the classes: sources are in class order."""
    order = keep_order(labels[kept], spec.seed)
    positions: list[int] = np.sort(kept[order[: spec.images]]).tolist()
    return positions


def _recovery(objective: AdaptObjective, feed: PixelFeed, device: torch.device) -> float:
    """Return the share of ids that f and g give back when nothing is done between them (a health figure)."""
    still = Geometry(hflip=0.0, affine=0.0, rrc=None)
    images = feed.batch(torch.arange(min(_MEASURED, feed.num_images))).values
    assert images is not None
    with torch.inference_mode():
        logits, targets = objective.predict(images, still, torch.Generator(device=device).manual_seed(0))
    return float(objective.met(logits, targets))


def build(payload: AdaptStage) -> AdaptTraining:
    """Return the stage for a payload."""
    return AdaptTraining(payload)
