"""Reconstruction error: what of a picture can be got back from a stem's patches (Qian et al. 2022, MoTo, section 4.2).

The trained stem stands still; a new decoder, TokenProp's, is trained on training images to give back what the stem
read, resized; the mean squared error on the split's images is what is reported. It depends on the resizing and on how
pixels are normalised: compare models of one experiment.
"""

import torch
from torch import Tensor

from tokexp.data.base import Batch
from tokexp.evaluation.base import Measure, Measured
from tokexp.objectives.base import Objective, StepOutput
from tokexp.registry import implementation
from tokexp.spec.evaluation import Reconstruction


class Decoding(Objective):
    """Trains the decoder alone; of the model, which stays in eval mode, only the stem is used."""

    def __init__(self, spec: Reconstruction, model: Measured) -> None:
        """Take the decoder's spec and the model."""
        super().__init__()
        squared = spec.decoder.model_copy(update={"distance": "l2", "reduction": "mean", "vgg": None})
        self.term = implementation("terms", "token_prop")(squared, model.backbone)
        self._model = (model.backbone, model.token_input)  # in a tuple these are no part of what is trained

    def error(self, batch: Batch) -> Tensor:
        """Return the mean squared error of a batch."""
        backbone, token_input = self._model
        self.term.begin()
        with torch.no_grad():
            backbone.embed(token_input(batch.values))
        found: Tensor = self.term.loss(batch, torch.Generator())
        return found

    def forward(self, batch: Batch, generator: torch.Generator) -> StepOutput:
        """Return the error as the loss; nothing is drawn."""
        del generator
        loss = self.error(batch)
        return StepOutput(loss, {"error": loss.detach()})


class StemReconstruction(Measure):
    """A decoder's training and its test."""

    def __init__(self, spec: Reconstruction) -> None:
        """Take the decoder, its training and the split."""
        self.spec = spec

    def measure(self, model: Measured) -> dict[str, float]:
        """Return reconstruction_error, the mean over images and values of squared differences."""
        torch.manual_seed(self.spec.seed)
        decoding = Decoding(self.spec, model)
        model.fit(decoding, self.spec.train, self.spec.seed)
        total = count = 0.0
        with torch.no_grad():
            for batch in model.batches(self.spec.split):
                total += float(decoding.error(batch)) * len(batch)
                count += len(batch)
        return {"reconstruction_error": total / count}


def build(spec: Reconstruction, image_shape: tuple[int, int, int]) -> StemReconstruction:
    """Return the measure for a spec."""
    del image_shape
    return StemReconstruction(spec)
